package bench

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/wire"
)

// Inboxes puts a letter into the inbox of each of many users, of whom then some
// come online, get theirs and acknowledge it. It says what that costs the server.
func Inboxes(ctx context.Context, cfg Config) (Report, error) {
	cfg.Duration = 2 * time.Hour // the number of letters ends it
	return run(ctx, cfg, inboxes)
}

// filling is one load of letters.
type filling struct {
	l    *load
	mark []byte // behind the number in each letter of this load
}

func inboxes(ctx context.Context, l *load) (Report, error) {
	cfg := &l.cfg
	f := &filling{l, []byte(unique())}
	if least := stampBytes + numberBytes + len(f.mark); cfg.Size < least {
		return nil, fmt.Errorf("--size must be %d at least: %w", least, parley.ErrInvalid)
	}
	before, start := inspect(ctx, cfg.URL), began()
	all := make([]*publisher, min(cfg.Publishers, cfg.Inboxes))
	err := each(ctx, len(all), connects, func(_ context.Context, i int) (err error) {
		all[i], err = f.sender(ctx, i, len(all))
		return err
	})
	if err != nil {
		return nil, err
	}
	stored, refused, err := publish(ctx, all, start)
	if err == nil {
		err = reasons(all)
	}
	if n := l.totals.published.Load() - refused; err == nil && n != int64(cfg.Inboxes) {
		err = fmt.Errorf("%d of %d letters were stored in time: %w", n, cfg.Inboxes, parley.ErrUnavailable)
	}
	if err != nil {
		return nil, err
	}
	var r Report
	elapsed, filled := time.Since(start.start), inspect(ctx, cfg.URL)
	r.rate("inboxes filled", int64(cfg.Inboxes), elapsed)
	r.add("seconds", "%.2f", elapsed.Seconds())
	r.latency("send to stored", &stored)
	r.server(before, filled, int64(cfg.Inboxes))
	start = began()
	conns := make([]wire.Conn, int(float64(cfg.Inboxes)*cfg.Online/100))
	if err := each(ctx, len(conns), connects, func(_ context.Context, i int) (err error) {
		conns[i], err = f.visit(ctx, i*cfg.Inboxes/len(conns))
		return err
	}); err != nil {
		return r, err
	}
	r.add("online, and acknowledged", "%s", thousands(int64(len(conns))))
	r.add("online after", "%.2f s", time.Since(start.start).Seconds())
	after := inspect(ctx, cfg.URL)
	if after.ok {
		r.add("server memory with them", "%s", mebibytes(after.resident))
		r.add("store on disk", "%s", mebibytes(after.disk))
	}
	return r, each(ctx, len(conns), connects, func(_ context.Context, i int) error {
		return conns[i].Close(wire.CloseNormal, "")
	})
}

// sender opens publisher i, which sends to inbox i and every step'th behind it.
func (f *filling) sender(ctx context.Context, i, step int) (*publisher, error) {
	cfg := &f.l.cfg
	pad := cfg.pad(stampBytes + numberBytes + len(f.mark))
	p, err := f.l.correspondent(ctx, i, func(b []byte, n, due int64) []byte {
		to := i + int(n-1)*step
		b = append(append(b, `{"to":"`...), cfg.user("i", to)...)
		b = appendStamp(append(b, `","text":"`...), due)
		b = append(appendStamp(b, int64(to)), f.mark...)
		return append(append(b, pad...), `"}`...)
	})
	if err == nil {
		p.limit = int64((cfg.Inboxes - i + step - 1) / step)
	}
	return p, err
}

// visit has user i come online, get what is there and acknowledge it: of this
// load it must be one letter, the user's own.
func (f *filling) visit(ctx context.Context, i int) (wire.Conn, error) {
	cfg := &f.l.cfg
	auth, err := cfg.Signer.authRequest(cfg.user("i", i))
	if err != nil {
		return nil, err
	}
	conn, err := f.l.dialUser(ctx, auth)
	if err != nil {
		return nil, err
	}
	own := append(appendStamp(nil, int64(i)), f.mark...)
	got := 0
	r := &receiver{conn: conn, totals: &f.l.totals, check: func(_ bool, text []byte) error {
		switch text = text[min(stampBytes, len(text)):]; {
		case bytes.HasPrefix(text, own):
			got++
		case !bytes.HasPrefix(text, own[:numberBytes]):
			return fmt.Errorf("misdelivered: user %d got %.100q", i, text)
		}
		return nil
	}}
	if err := r.open(cfg.InFlight); err != nil {
		return nil, err
	}
	if got != 1 {
		return nil, fmt.Errorf("user %d got %d letters, not one", i, got)
	}
	f.l.totals.delivered.Add(1)
	return conn, nil
}
