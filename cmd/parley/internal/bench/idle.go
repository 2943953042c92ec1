package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/parley-im/parley/internal/wire"
)

// Idle holds connections with one subscription each, every one to a topic of
// its own, and says what they cost the server.
func Idle(ctx context.Context, cfg Config) (Report, error) {
	return run(ctx, cfg, idle)
}

func idle(ctx context.Context, l *load) (Report, error) {
	before, start := inspect(ctx, l.cfg.URL), began()
	conns := make([]source, l.cfg.Connections)
	err := each(ctx, len(conns), connects, func(_ context.Context, i int) error {
		conn, err := l.listen(ctx, i, l.cfg.topic(i))
		if err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		conns[i] = conn
		return nil
	})
	if err != nil {
		return nil, err
	}
	elapsed := time.Since(start.start)
	var after sample
	var lost atomic.Int64
	var ending atomic.Bool
	// The clock is one more task beside the readers.
	err = each(ctx, len(conns)+1, len(conns)+1, func(ctx context.Context, i int) error {
		if i < len(conns) {
			if drain(conns[i]); !ending.Load() {
				lost.Add(1)
			}
			return nil
		}
		select {
		case <-time.After(l.cfg.Duration):
		case <-ctx.Done():
		}
		after = inspect(ctx, l.cfg.URL)
		ending.Store(true)
		for _, conn := range conns {
			_ = conn.Close(wire.CloseNormal, "")
		}
		return nil
	})
	var r Report
	r.rate("connected", int64(len(conns)), elapsed)
	r.add("lost", "%s", thousands(lost.Load()))
	r.perConnection(before, after, len(conns))
	return r, err
}

// drain reads until the connection ends. Reading also answers the server's
// pings.
func drain(conn source) {
	for {
		if _, err := conn.Read(); err != nil {
			return
		}
	}
}
