package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/titan"
	"github.com/parley-im/parley/internal/wire"
)

// The names of Titan's protocols, in metrics and logs.
const (
	titanName      = "titan"
	devastatorName = "devastator"
)

const (
	// titanIdle is how long Titan's and Devastator's clients may be silent: they
	// never send a ping.
	titanIdle = 5 * time.Minute
	// titanFrame is the least that a frame of theirs may have: their own tests send
	// 5 MB.
	titanFrame = 8 << 20
	// titanSecret is the record of the secret that the ids of deliveries are made
	// with.
	titanSecret = "titan/secret"
	// mustSpeak is how long a new client of Devastator may say nothing.
	mustSpeak = 5 * time.Second
)

// titanFaults checks what is special about Titan's listeners.
func (c *Config) titanFaults(add func(key, problem string)) {
	t := &c.Titan
	if t.Test {
		for _, l := range []struct{ key, at string }{
			{"http", c.HTTP.Listen},
			{"https", c.HTTP.TLS.Listen},
			{"admin-listen", c.HTTP.Admin},
			{"titan-test-listen", t.TestListen},
			{"devastator-listen", t.Devastator},
		} {
			if l.at != "" && !loopback(l.at) {
				add(l.key, quote(l.at)+" is wider than loopback, and --titan-test lets anybody be any user; allowed: one of the two")
			}
		}
	}
	if cert, key := t.certificate(&c.HTTP.TLS); t.Devastator != "" && (cert == "" || key == "") {
		add("devastator-listen", "needs --tls-cert and --tls-key, or --devastator-cert and --devastator-key")
	}
	if t.Devastator != "" && c.Auth.CA == "" {
		add("devastator-listen", "needs --ca-dir DIR, for the certificates of its clients")
	}
	if t.Devastator == "" && t.DevastatorCert+t.DevastatorKey != "" {
		add("devastator-cert", "is not used without --devastator-listen HOST:PORT")
	}
}

// certificate is the files of Devastator's certificate.
func (t *Titan) certificate(usual *TLS) (cert, key string) {
	if t.DevastatorCert+t.DevastatorKey != "" {
		return t.DevastatorCert, t.DevastatorKey
	}
	return usual.Cert, usual.Key
}

// openTitan prepares what Titan's clients need.
func (s *Server) openTitan(ctx context.Context) error {
	var err error
	if s.ids, err = titanIDs(ctx, s.store, s.logger); err == nil && s.cfg.Titan.Devastator != "" {
		s.devastatorConfig, err = s.devastatorTLS()
	}
	return err
}

// titanIDs makes the ids of deliveries, with the secret that is kept for them. A
// new server on a full disk goes on with one that it cannot keep.
func titanIDs(ctx context.Context, kv backend.KV, logger *slog.Logger) (*titan.IDs, error) {
	for {
		record, err := kv.Get(ctx, titanSecret)
		if err == nil {
			return titan.NewIDs(record.Value)
		}
		if !errors.Is(err, parley.ErrNotFound) {
			return nil, fmt.Errorf("server: titan: %w", err)
		}
		secret := make([]byte, titan.SecretBytes)
		_, _ = rand.Read(secret) // it never fails
		switch _, err := kv.Put(ctx, backend.Record{Key: titanSecret, Value: secret}); {
		case err == nil, errors.Is(err, parley.ErrConflict):
		case errors.Is(err, backend.ErrStorageFull):
			logger.WarnContext(ctx, "Titan's clients will see other ids of redelivered messages after a restart", "error", err)
			return titan.NewIDs(secret)
		default:
			return nil, fmt.Errorf("server: titan: %w", err)
		}
	}
}

// titanTerms are what connections of a dialect have in common.
func (s *Server) titanTerms(d titan.Dialect) titan.Terms {
	return titan.Terms{Dialect: d, IDs: s.ids, Batch: s.broker.Limits().BatchMessages, AckWait: s.cfg.Titan.AckWait, NakDelay: s.cfg.Titan.AckWait}
}

// titanFrameBytes bounds a frame of Titan's and Devastator's clients: a message
// of which every character is escaped fits, and so does what their tests send.
func (s *Server) titanFrameBytes() int {
	const twice = 2
	return max(titanFrame, twice*int(s.cfg.Limits.Message)+64<<10)
}

// titanDialect speaks Titan's protocol with whom verify knows; nil is nobody,
// in open mode.
func (s *Server) titanDialect(verify verifier) *dialect {
	config := s.wireConfig(s.titanFrameBytes())
	config.Compression = false // its server never agreed to any
	config.AnySubprotocol = true
	config.AnyCode = true
	config.Idle = titanIdle
	// Go programs that use the client library say that they are a page there.
	if local, err := wire.ParseOrigin("http://localhost"); err == nil {
		config.Origins = []wire.Origin{local}
	}
	terms := s.titanTerms(titan.Titan)
	return &dialect{
		name: titanName, verify: verify,
		wire: config,
		begin: func(_ *http.Request, who *account.Principal) (func(*wire.WebSocket) protocol.Conversation, error) {
			if who.User == "" { // its clients always say who they are
				who = account.Nobody()
			}
			return func(conn *wire.WebSocket) protocol.Conversation {
				return titan.Conversation(conn, s.broker, terms, who)
			}, nil
		},
	}
}

// titanBeside serves Titan's clients wherever mux has nothing, and everything
// else with next. The address of the server itself, at which programs find
// nothing, is such a place.
func (s *Server) titanBeside(ctx context.Context, mux *http.ServeMux, next http.Handler) http.Handler {
	if !s.cfg.Titan.WebSocket {
		return next
	}
	serve := s.upgrade(ctx, s.titanDialect(s.access.verify))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if wire.IsUpgrade(r) {
			if _, pattern := mux.Handler(r); pattern == "" || pattern == "/{$}" {
				serve(w, r)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// serveTitan serves the listeners that are Titan's alone.
func (s *Server) serveTitan(ctx context.Context, serving *errgroup.Group, share int) {
	if s.titanTest != nil {
		nothing := http.NewServeMux()
		nothing.Handle("GET "+varsPath, s.operators(local)(http.HandlerFunc(s.vars)))
		serve := s.upgrade(context.WithoutCancel(ctx), s.titanDialect(s.access.verifyTest))
		routes := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if wire.IsUpgrade(r) {
				serve(w, r)
				return
			}
			nothing.ServeHTTP(w, r)
		})
		serving.Go(func() error { return s.serve(ctx, s.limited(s.titanTest), s.newHTTP(&s.policy, routes), share) })
	}
	if s.devastator != nil {
		serving.Go(func() error { return s.serveDevastator(ctx) })
	}
}

// devastatorTLS is how Devastator's connections are secured: the client may show
// a certificate, and what it shows must be good.
func (s *Server) devastatorTLS() (*tls.Config, error) {
	own, err := s.openCertificate(s.cfg.Titan.certificate(&s.cfg.HTTP.TLS))
	if err != nil {
		return nil, err
	}
	config := own.config()
	config.NextProtos = nil // its clients do not negotiate
	config.SessionTicketsDisabled = true
	config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, s.access.ca.Pool()
	return config, nil
}

// serveDevastator accepts Devastator's clients until ctx ends. Conversations go
// on.
func (s *Server) serveDevastator(ctx context.Context) error {
	conns := &wire.LengthConfig{
		Keeper: &s.keeper, BigEndian: s.cfg.Titan.DevastatorOrder == BigEndian, MaxFrame: s.titanFrameBytes(),
		Handshake: headerTimeout, First: mustSpeak, Idle: titanIdle,
	}
	terms := s.titanTerms(titan.Devastator)
	l := s.limited(s.devastator)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() }) // Accept then fails
	defer stop()
	serving, ctx := errgroup.WithContext(ctx) // for those who shake hands
	for {
		conn, err := accept(ctx, l)
		if err != nil {
			_ = l.Close()
			return errors.Join(err, serving.Wait())
		}
		if conn == nil {
			return serving.Wait()
		}
		if now := s.config().HTTP.WriteTimeout; now != conns.WriteTimeout {
			changed := *conns
			changed.WriteTimeout = now
			conns = &changed
		}
		framed := wire.NewLength(tls.Server(conn, s.devastatorConfig), conns)
		serving.Go(func() error {
			s.greetDevastator(ctx, framed, terms)
			return nil
		})
	}
}

// accept waits for the next connection; nil when ctx has ended. What passes, such
// as having no file descriptor left, it waits out.
func accept(ctx context.Context, l net.Listener) (net.Conn, error) {
	const pause = 50 * time.Millisecond
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			return conn, nil
		case ctx.Err() != nil:
			return nil, nil
		case errors.Is(err, net.ErrClosed):
			return nil, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// greetDevastator does the handshake and begins the conversation, in a goroutine
// of its own, for this one has grown a large stack.
func (s *Server) greetDevastator(ctx context.Context, conn *wire.Length, terms titan.Terms) {
	defer s.survive(ctx, func() { _ = conn.Close(0, "") })
	state, err := conn.Handshake(ctx)
	from := network(conn.Remote().String())
	at := peer{from, devastatorName, s.access.verify, nil}
	switch {
	case err != nil:
		s.count.refused("handshake")
	default:
		if err = s.access.rates.arrives(from); err != nil {
			s.exceeded(ctx, account.Nobody(), at, err)
			s.count.refused("rate")
		} else if err = s.sessions.admit(from); err != nil {
			s.count.refused(refusalOf(err))
		}
	}
	if err != nil {
		_ = conn.Close(0, "")
		return
	}
	s.talks.Go(func() {
		defer s.sessions.leave(from)
		if len(state.VerifiedChains) > 0 {
			at.certificate = state.PeerCertificates[0].Raw
		}
		c := titan.Conversation(conn, s.broker, terms, s.holder(ctx, at))
		s.converse(context.WithoutCancel(ctx), at, c)
	})
}

// holder is who has shown a certificate, which the handshake has verified; nobody
// when there is none, or it is not accepted any more: then the client is told as
// soon as it asks for something.
func (s *Server) holder(ctx context.Context, at peer) *account.Principal {
	if at.certificate == nil {
		return account.Nobody()
	}
	login, err := s.authenticate(ctx, at, account.Credential{Kind: account.Certificate})
	if err != nil {
		return account.Nobody()
	}
	return login.Principal
}
