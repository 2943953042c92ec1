package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// toggled switches a part of the server on or off. It returns when the part is
// in that state, which it may have been in before.
type toggled func(ctx context.Context, on bool) error

// toggles are the parts that an operator may switch on and off while the server
// runs, by name. A part registers itself before the routes are made.
type toggles struct {
	logger *slog.Logger

	mu    sync.Mutex // guards what follows, and one switch at a time
	parts map[string]toggled
}

// register adds a part. A name is used once.
func (t *toggles) register(name string, part toggled) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.parts == nil {
		t.parts = make(map[string]toggled)
	}
	t.parts[name] = part
}

// routes serves the switches at path. GET changes something too, because the
// Gobbler server took any method, and so it is for programs on this machine only
// and for no page.
func (t *toggles) routes(mux *http.ServeMux, path string, may guard) {
	mux.Handle("POST "+path, may(t))
	mux.Handle("GET "+path, may(onlyHere(noPage(t))))
}

// noPage refuses a GET that a page of another origin has made, as is done anyway
// for methods that change something.
func noPage(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		as := r.Clone(r.Context())
		as.Method = http.MethodPost
		if err := protection.Check(as); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// ServeHTTP switches the parts that the query names, in the order of their names,
// and says what became of each. What is no part, is given twice or is not a
// boolean is ignored, and so the answer may be empty.
func (t *toggles) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	defer t.mu.Unlock()
	query := r.URL.Query()
	var answer strings.Builder
	for _, name := range slices.Sorted(maps.Keys(query)) {
		part, values := t.parts[name], query[name]
		on, err := strconv.ParseBool(values[0])
		if part == nil || len(values) != 1 || err != nil {
			continue
		}
		done, result := "stopped", "was successfully"
		if on {
			done = "started"
		}
		if err := part(r.Context(), on); err != nil {
			t.logger.ErrorContext(r.Context(), "cannot switch a part", "part", name, "on", on, "error", err)
			result = "could not be"
		} else {
			t.logger.InfoContext(r.Context(), "switched a part", "part", name, "on", on)
		}
		fmt.Fprintf(&answer, "%s %s %s.\n", name, result, done)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.WriteString(w, answer.String()) // that the client has gone is nobody's concern
}
