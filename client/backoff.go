package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// maxRetry bounds how long a server can make the client stay away.
const maxRetry = 5 * time.Minute

// pacer says how long to wait before the next attempt.
type pacer struct {
	Backoff
	attempt int
}

// next is the time to wait after a failure with err. The whole of it is random
// (not just a part), because that spreads the clients of a server that went
// down most evenly. A server that said when to come back has done the spreading
// itself.
func (p *pacer) next(err error) time.Duration {
	if bye, ok := errors.AsType[*byeError](err); ok && bye.retry > 0 {
		return min(bye.retry, maxRetry)
	}
	if e, ok := errors.AsType[*Error](err); ok && e.After > 0 {
		p.attempt++
		return min(e.After, maxRetry)
	}
	bound := p.Max
	if p.attempt < 32 && p.Min<<p.attempt>>p.attempt == p.Min {
		bound = min(p.Max, p.Min<<p.attempt)
	}
	p.attempt++
	return rand.N(bound + 1) //nolint:gosec // it need not be hard to guess
}

func (p *pacer) reset() { p.attempt = 0 }

// sleep reports whether d passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
