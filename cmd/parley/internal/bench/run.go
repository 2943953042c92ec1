package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/wire"
)

// connects is how many connections are being opened at a time.
const connects = 64

// load is one run.
type load struct {
	cfg    Config
	totals totals
}

// run calls fn while a progress line is written each second.
func run(ctx context.Context, cfg Config, fn func(context.Context, *load) (Report, error)) (Report, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	l := &load{cfg: cfg}
	done := make(chan struct{})
	var g errgroup.Group
	var keys *issuer
	if cfg.KeysAt != "" {
		var err error
		if keys, err = publishKey(ctx, &g, &cfg.Signer, cfg.KeysAt); err != nil {
			return nil, err
		}
	}
	g.Go(func() error {
		l.totals.watch(cfg.Progress, done)
		return nil
	})
	var report Report
	var err error
	if keys != nil {
		err = l.known(ctx)
	}
	if err == nil {
		report, err = fn(ctx, l)
	}
	close(done)
	if keys != nil {
		keys.close(&report)
	}
	err = errors.Join(err, g.Wait())
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return report, err
}

// dial opens connection i, which ctx closes when it ends.
func (l *load) dial(ctx context.Context, i int) (wire.Conn, error) {
	conn, err := l.dialAt(ctx, "/stream/user/bench"+strconv.Itoa(i))
	if err == nil {
		l.totals.connected.Add(1)
	}
	return conn, err
}

// dialAt opens a connection at a path, which ctx closes when it ends.
func (l *load) dialAt(ctx context.Context, path string) (wire.Conn, error) {
	u, err := url.Parse(l.cfg.URL)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("the server's address %q is not a URL: %w", l.cfg.URL, parley.ErrInvalid)
	}
	u.Path = path
	conn, err := wire.Dial(ctx, u.String(), nil)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close(wire.CloseGoingAway, "") })
	return conn, nil
}

// each runs fn for 0 to n-1, at most most at a time, and returns the first
// error.
func each(ctx context.Context, n, most int, fn func(context.Context, int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(most)
	for i := range n {
		g.Go(func() error { return fn(ctx, i) })
	}
	return g.Wait()
}

// publishers opens all publishers.
func (l *load) publishers(ctx context.Context) ([]*publisher, error) {
	all := make([]*publisher, l.cfg.Publishers)
	err := each(ctx, len(all), connects, func(_ context.Context, i int) error {
		conn, err := l.dial(ctx, i)
		if err != nil {
			return err
		}
		all[i] = newPublisher(&l.cfg, conn, &l.totals)
		all[i].topics = l.cfg.pick(i)
		return nil
	})
	return all, err
}

// publish lets them all send until the load is over, and returns what they
// measured together.
func publish(ctx context.Context, all []*publisher, start clock) (histogram, int64, error) {
	err := each(ctx, len(all), len(all), func(ctx context.Context, i int) error {
		all[i].clock = start
		return all[i].run(ctx)
	})
	var latency histogram
	var refused int64
	for _, p := range all {
		latency.merge(&p.latency)
		refused += p.refused
	}
	return latency, refused, err
}

// began is the clock of a load that begins now.
func began() clock { return clock{time.Now()} }
