package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"

	"github.com/parley-im/parley/internal/wire"
)

// listen opens the listeners, all or none.
func (s *Server) listen() error {
	var err error
	if s.listener, err = listenTCP(s.cfg.HTTP.Listen); err != nil {
		return err
	}
	if s.cfg.HTTP.Admin == "" {
		return nil
	}
	if s.admin, err = listenTCP(s.cfg.HTTP.Admin); err != nil {
		return errors.Join(err, s.listener.Close())
	}
	return nil
}

func listenTCP(address string) (*net.TCPListener, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	return l.(*net.TCPListener), nil
}

// Addr is where the server listens for clients.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// URL is the server's address for clients on this machine.
func (s *Server) URL() string { return urlOf(s.listener) }

// AdminURL is the address of the operators' listener for programs on this
// machine; without one of their own it is that of the clients.
func (s *Server) AdminURL() string {
	if s.admin == nil {
		return s.URL()
	}
	return urlOf(s.admin)
}

func urlOf(l net.Listener) string {
	host, port, err := net.SplitHostPort(l.Addr().String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// serveClients answers clients until ctx ends. Conversations go on.
func (s *Server) serveClients(ctx context.Context) error {
	limited := wire.Limit(s.listener, aboveLimit(s.cfg.HTTP.Connections), aboveLimit(s.cfg.HTTP.PerAddress))
	return s.serve(ctx, limited, s.newHTTP(&s.policy, s.routes(context.WithoutCancel(ctx))))
}

// operatorConnections bounds the connections of the operators' listener.
const operatorConnections = 256

// serveOperators answers operators until ctx ends: to the last, so that they can
// see how the server stops.
func (s *Server) serveOperators(ctx context.Context) error {
	policy := wire.Policy{Open: !s.cfg.HTTP.AdminOpen}
	return s.serve(ctx, wire.Limit(s.admin, operatorConnections, 0), s.newHTTP(&policy, s.operatorRoutes()))
}

// serve answers HTTP until ctx ends, and then waits for requests in hand.
func (s *Server) serve(ctx context.Context, l net.Listener, server *http.Server) error {
	var stopping sync.WaitGroup
	defer stopping.Wait()
	served, cancel := context.WithCancel(ctx)
	defer cancel()
	stopping.Go(func() {
		<-served.Done()
		patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Drain/4)
		defer cancel()
		if server.Shutdown(patient) != nil {
			_ = server.Close() // who is still busy has had its time
		}
	})
	err := server.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// aboveLimit is how many sockets there may be where n connections are allowed:
// some more, so that those who are too many can be told so.
func aboveLimit(n int) int { return n + n/8 + 16 }
