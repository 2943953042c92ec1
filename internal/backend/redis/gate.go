package redis

import (
	"context"
	"errors"
	"sync"
	"time"
)

// gate keeps callers from waiting for a server that is away: after a failure one
// call at a time tries whether it is back, and the others fail at once.
type gate struct {
	mu     sync.Mutex // guards what follows
	away   bool
	trying bool
	after  time.Time // when to try again
	pause  time.Duration
}

// enter asks whether to call; whoever may then calls leave. A trial is the call
// that tries whether the server is back.
func (g *gate) enter() (may, trial bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.away {
		return true, false
	}
	if g.trying || time.Now().Before(g.after) {
		return false, false
	}
	g.trying = true
	return true, true
}

// leave says how the call went.
func (g *gate) leave(trial bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if trial {
		g.trying = false
	}
	switch {
	case errors.Is(err, context.Canceled): // that says nothing of the server
	case err == nil:
		g.away, g.pause = false, 0
	case trial || !g.away:
		g.away, g.pause = true, min(max(2*g.pause, shortPause), longPause/2)
		g.after = time.Now().Add(g.pause)
	}
}

// open says that the server is back.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.away, g.pause = false, 0
}
