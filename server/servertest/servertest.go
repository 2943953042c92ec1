// Package servertest starts a whole server for a test: on a free port of
// loopback, in memory unless told otherwise.
package servertest

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/parley-im/parley/server"
)

// Server is a running server.
type Server struct {
	// URL is its address for clients, such as http://127.0.0.1:40123.
	URL string
	// Admin is that of the operators' listener: URL where they have none of
	// their own.
	Admin string
	// RPC and Gobbler are the WebSocket addresses of the two protocols; Gobbler
	// is empty where that protocol has no prefix, and otherwise its first.
	RPC, Gobbler string
	// TitanTest and Devastator are host:port of those listeners, or empty.
	TitanTest, Devastator string

	t    testing.TB
	stop func() error
}

// Option changes the configuration of a server.
type Option func(*server.Config)

// Dir keeps the store in dir, so that another server can go on with it.
func Dir(dir string) Option {
	return func(c *server.Config) { c.Storage = server.Storage{Kind: server.StorageFile, Path: dir} }
}

// Start starts a server and stops it when the test and its subtests are done.
// Its warnings go to the test's log. The test fails at once when the server
// does not start, and in the end when it does not stop cleanly.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	cfg := server.Default()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Storage.Kind = server.StorageMemory
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	for _, option := range options {
		option(&cfg)
	}
	s, err := server.New(cfg)
	if err != nil {
		t.Fatalf("the server does not start: %v", err)
	}
	// The test's own context ends before its cleanup begins.
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	var failure error
	running.Go(func() { failure = s.Run(ctx) })
	ws := strings.Replace(s.URL(), "http", "ws", 1)
	started := &Server{
		URL: s.URL(), Admin: s.AdminURL(), RPC: ws + "/v1/rpc",
		TitanTest: s.TitanTest(), Devastator: s.Devastator(),
		t: t,
		stop: sync.OnceValue(func() error {
			cancel()
			running.Wait()
			return failure
		}),
	}
	if prefixes := cfg.HTTP.GobblerPrefixes; len(prefixes) > 0 {
		started.Gobbler = ws + prefixes[0].Path
	}
	t.Cleanup(started.Stop)
	return started
}

// Stop stops the server as SIGTERM does, and waits for it. Further calls do
// nothing.
func (s *Server) Stop() {
	s.t.Helper()
	if err := s.stop(); err != nil {
		s.t.Errorf("the server did not stop cleanly: %v", err)
	}
}
