package server

import (
	"context"
	"encoding/json"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/parley-im/parley/internal/account"
)

// varsPath is where Go programs have their variables, and where those who
// watched the Titan server look for them.
const varsPath = "/debug/vars"

// vars are the server's variables as JSON, under the names of the Titan server
// as far as there is such a thing here. The command line, which Go programs
// usually show there, may hold secrets and is left out.
func (s *Server) vars(w http.ResponseWriter, r *http.Request) {
	conversations := 0
	for _, n := range s.sessions.count() {
		conversations += n
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]any{ // that the reader has gone is nobody's concern
		"conns":        s.sessions.connections(),           // open connections of clients
		"receivers":    conversations,                      // of them, those that are read from
		"requests":     s.broker.Stats().Waiting,           // publishes that wait to be durable
		"responses":    s.broker.Unsaved(),                 // answers of clients to what they were given that are not durable
		"queue-length": s.broker.Stats().Consumers.Pending, // messages that clients have not acknowledged
		"users":        s.census.count(r.Context(), s.accounts),
		"memstats":     &memory,
	})
}

// census counts users, which takes a look at each, not more often than it is worth.
type census struct {
	mu    sync.Mutex // guards what follows; one at a time counts
	taken time.Time
	users int
}

// censusInterval is for how long a count is believed.
const censusInterval = time.Minute

func (c *census) count(ctx context.Context, accounts *account.Directory) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.taken) < censusInterval {
		return c.users
	}
	n := 0
	for _, err := range accounts.Users(ctx, "") {
		if err != nil {
			return c.users // who asks has gone, or the store says itself what is wrong
		}
		n++
	}
	c.users, c.taken = n, time.Now()
	return n
}
