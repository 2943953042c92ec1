package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parley-im/parley/internal/wire"
)

// listeners are where the server listens; nil where it does not.
type listeners struct{ plain, secure, admin, titanTest, devastator *net.TCPListener }

// listen opens the listeners, all or none.
func listen(cfg *Config) (listeners, error) {
	c, titanTest := &cfg.HTTP, ""
	if cfg.Titan.Test {
		titanTest = cfg.Titan.TestListen
	}
	var l listeners
	for _, open := range []struct {
		at      string
		listens **net.TCPListener
	}{
		{c.Listen, &l.plain},
		{c.TLS.Listen, &l.secure},
		{c.Admin, &l.admin},
		{titanTest, &l.titanTest},
		{cfg.Titan.Devastator, &l.devastator},
	} {
		if open.at == "" {
			continue
		}
		var err error
		if *open.listens, err = listenTCP(open.at); err != nil {
			return l, errors.Join(err, l.close())
		}
	}
	return l, nil
}

func (l *listeners) close() error {
	var errs []error
	for _, one := range []*net.TCPListener{l.plain, l.secure, l.admin, l.titanTest, l.devastator} {
		if one != nil {
			errs = append(errs, one.Close())
		}
	}
	return errors.Join(errs...)
}

func listenTCP(address string) (*net.TCPListener, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	return l.(*net.TCPListener), nil
}

// redirects reports whether plain HTTP only leads to TLS: where others than this
// machine's programs may read along, nothing is said in the clear.
func (s *Server) redirects() bool {
	return s.secure != nil && s.plain != nil && !loopback(s.cfg.HTTP.Listen)
}

// Addr is where the server listens for clients: with TLS where it has that.
func (s *Server) Addr() net.Addr {
	if s.secure != nil {
		return s.secure.Addr()
	}
	return s.plain.Addr()
}

// URL is the server's address for clients on this machine: without TLS where it
// has that.
func (s *Server) URL() string {
	if s.plain == nil || s.redirects() {
		return "https://" + reachable(s.secure)
	}
	return "http://" + reachable(s.plain)
}

// TitanTest is where Titan's tests are served, as host:port; empty where they are
// not.
func (s *Server) TitanTest() string {
	if s.titanTest == nil {
		return ""
	}
	return reachable(s.titanTest)
}

// Devastator is where Devastator's clients are served, for those on this machine;
// empty where they are not.
func (s *Server) Devastator() string {
	if s.devastator == nil {
		return ""
	}
	return reachable(s.devastator)
}

// AdminURL is the address of the operators' listener for programs on this
// machine; without one of their own it is that of the clients.
func (s *Server) AdminURL() string {
	if s.admin == nil {
		return s.URL()
	}
	return "http://" + reachable(s.admin)
}

// reachable is a listener's address for programs on this machine.
func reachable(l net.Listener) string {
	host, port, err := net.SplitHostPort(l.Addr().String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// serveClients answers clients until ctx ends. Conversations go on.
func (s *Server) serveClients(ctx context.Context) error {
	routes := s.routes(context.WithoutCancel(ctx))
	const share = 4
	serving, ctx := errgroup.WithContext(ctx) // when one listener fails, both stop
	if s.secure != nil {
		serving.Go(func() error {
			return s.serve(ctx, tls.NewListener(s.limited(s.secure), s.tlsConfig()), s.newHTTP(&s.policy, routes), share) //nolint:contextcheck // a handshake has a context of its own
		})
	}
	if s.plain != nil {
		plain := routes
		if s.redirects() {
			plain = s.redirectRoutes()
		}
		if s.ordered != nil {
			plain = s.ordered.answer(plain)
		}
		serving.Go(func() error { return s.serve(ctx, s.limited(s.plain), s.newHTTP(&s.policy, plain), share) })
	}
	s.serveTitan(ctx, serving, share)
	return serving.Wait()
}

// limited bounds the connections of a listener for clients.
func (s *Server) limited(l *net.TCPListener) net.Listener {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	h := s.config().HTTP
	limiter := wire.Limit(l, aboveLimit(h.Connections), aboveLimit(h.PerAddress))
	s.live.limiters = append(s.live.limiters, limiter)
	return limiter
}

// operatorConnections bounds the connections of the operators' listener.
const operatorConnections = 256

// serveOperators answers operators until ctx ends: to the last, so that they can
// see how the server stops.
func (s *Server) serveOperators(ctx context.Context) error {
	policy := wire.Policy{Open: !s.cfg.HTTP.AdminOpen}
	const share = 10 // what is left when clients took their time
	return s.serve(ctx, wire.Limit(s.admin, operatorConnections, 0), s.newHTTP(&policy, s.operatorRoutes()), share)
}

// serve answers HTTP until ctx ends, and then waits for requests in hand, up to
// that share of the time to stop in.
func (s *Server) serve(ctx context.Context, l net.Listener, server *http.Server, share int) error {
	var stopping sync.WaitGroup
	defer stopping.Wait()
	served, cancel := context.WithCancel(ctx)
	defer cancel()
	stopping.Go(func() {
		<-served.Done()
		patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config().Drain/time.Duration(share))
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
