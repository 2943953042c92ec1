package server

import (
	"maps"
	"sync"
	"sync/atomic"
)

// counters count what happens at the server's edge.
type counters struct {
	panics atomic.Int64

	mu        sync.Mutex // guards what follows
	refusals  map[string]int64
	farewells map[string]int64
}

// refused counts a connection that was not taken, by reason.
func (c *counters) refused(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refusals == nil {
		c.refusals = make(map[string]int64)
	}
	c.refusals[reason]++
}

// closed counts a conversation that ended, by reason.
func (c *counters) closed(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.farewells == nil {
		c.farewells = make(map[string]int64)
	}
	c.farewells[reason]++
}

// snapshot copies both counts.
func (c *counters) snapshot() (refusals, farewells map[string]int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.refusals), maps.Clone(c.farewells)
}
