package bench

import (
	"context"
	"fmt"
	"time"
)

// Authenticate measures how many clients per second can connect and say who they
// are: each of the publishers does that again and again, as another user each
// time.
func Authenticate(ctx context.Context, cfg Config) (Report, error) {
	return run(ctx, cfg, authenticate)
}

// visit connects, authenticates and leaves.
func (l *load) visit(ctx context.Context, auth []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // closes the connection
	_, err := l.dialUser(ctx, auth)
	if err == nil {
		l.totals.connected.Add(-1)
	}
	return err
}

func authenticate(ctx context.Context, l *load) (Report, error) {
	cfg := &l.cfg
	shown := make([][][]byte, cfg.Publishers)
	for i := range shown {
		for n := range cfg.Tokens { // whose making is not what is measured
			auth, err := cfg.Signer.authRequest(cfg.user("a", i*cfg.Tokens+n))
			if err != nil {
				return nil, err
			}
			shown[i] = append(shown[i], auth)
		}
	}
	before, start := inspect(ctx, cfg.URL), began()
	latencies := make([]histogram, cfg.Publishers)
	err := each(ctx, cfg.Publishers, cfg.Publishers, func(ctx context.Context, i int) error {
		for n := 0; ctx.Err() == nil; n++ {
			began := start.now()
			if began >= cfg.Duration.Microseconds() {
				return nil
			}
			if err := l.visit(ctx, shown[i][n%cfg.Tokens]); err != nil {
				return fmt.Errorf("after %d connections: %w", n, err)
			}
			latencies[i].add(start.now() - began)
			l.totals.delivered.Add(1)
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	elapsed := time.Since(start.start)
	var r Report
	r.add("seconds", "%.2f", elapsed.Seconds())
	n := l.totals.delivered.Load()
	r.rate("authenticated", n, elapsed)
	var latency histogram
	for i := range latencies {
		latency.merge(&latencies[i])
	}
	r.latency("connect to authenticated", &latency)
	r.server(before, inspect(ctx, cfg.URL), n)
	return r, nil
}
