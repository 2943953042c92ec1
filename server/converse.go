package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/httpapi"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/gobbler"
	"github.com/parley-im/parley/internal/protocol/native"
	"github.com/parley-im/parley/internal/wire"
)

// The protocols' names, in metrics and logs.
const (
	nativeName  = "native"
	gobblerName = "gobbler"
	sseName     = "sse"
)

// dialect is one protocol at one place.
type dialect struct {
	name string
	wire *wire.Config
	// verify knows who its clients are; nil in open mode.
	verify verifier
	// begin prepares the conversation of a request by who, which is nobody as long
	// as the client has to say who it is, or refuses it.
	begin func(r *http.Request, who *account.Principal) (func(*wire.WebSocket) protocol.Conversation, error)
}

// nativeDialect speaks Parley's own protocol.
func (s *Server) nativeDialect() *dialect {
	const twice = 2 // base64, and text of which every character is escaped once
	frame := twice*int(s.cfg.Limits.Message) + 64<<10
	terms := native.Terms{
		Server:        "parley/" + version,
		Durable:       s.cfg.Storage.Kind == StorageFile,
		FrameBytes:    frame,
		BatchMessages: s.broker.Limits().BatchMessages,
		Idle:          idleTimeout,
	}
	return &dialect{
		name: nativeName, verify: s.access.verify,
		wire: s.wireConfig(frame),
		begin: func(_ *http.Request, who *account.Principal) (func(*wire.WebSocket) protocol.Conversation, error) {
			return func(conn *wire.WebSocket) protocol.Conversation {
				return protocol.Conversation{Conn: conn, Codec: native.New(conn, terms), Broker: s.broker, Principal: who}
			}, nil
		},
	}
}

// gobblerDialect speaks the Gobbler protocol: the given dialect of it, unless the
// client chooses another by a subprotocol.
func (s *Server) gobblerDialect(spoken gobbler.Dialect) *dialect {
	config := s.wireConfig(int(s.cfg.Limits.Message) + parley.MaxHeaderBytes + 1<<10)
	config.AnyText = true
	config.Subprotocols = []string{gobbler.Documented.Subprotocol(), gobbler.Deployed.Subprotocol()}
	return &dialect{
		name: gobblerName, verify: s.access.verify,
		wire: config,
		begin: func(r *http.Request, who *account.Principal) (func(*wire.WebSocket) protocol.Conversation, error) {
			if !who.Known() { // the protocol has no way to say it later
				return nil, account.ErrUnknown
			}
			user, err := gobbler.UserID(r.RequestURI)
			if err == nil {
				who, err = gobbler.Caller(who, user)
			}
			if err != nil {
				return nil, err
			}
			return func(conn *wire.WebSocket) protocol.Conversation {
				d, chosen := gobbler.ParseDialect(conn.Subprotocol())
				if !chosen {
					d = spoken
				}
				return gobbler.Conversation(conn, s.broker, who, d)
			}, nil
		},
	}
}

// wireConfig is what connections have in common; [Server.conns] adds what can
// be reloaded.
func (s *Server) wireConfig(maxFrame int) *wire.Config {
	return &wire.Config{Keeper: &s.keeper, MaxFrame: maxFrame, Compression: s.cfg.HTTP.Compression}
}

// upgrade makes a conversation of an HTTP request. ctx is the conversation's.
func (s *Server) upgrade(ctx context.Context, d *dialect) http.HandlerFunc {
	conns := s.conns(d.wire)
	// What nobody has said who they are sends is not decompressed (S1), and a
	// browser compresses everything once that is agreed to.
	uncompressed := *d.wire
	uncompressed.Compression = false
	strangers := s.conns(&uncompressed)
	return func(w http.ResponseWriter, r *http.Request) {
		s.admitted(w, r, func() func() {
			at := peer{network(r.RemoteAddr), d.name, d.verify, certificateOf(r)}
			if at.certificate != nil && s.policy.Check(r) != nil {
				// A browser shows its certificate for any page. What the protocol
				// lets in by itself may be one that the operator did not admit (S6).
				at.certificate = nil
			}
			who, err := s.visitor(r, at, conns.Load())
			var begin func(*wire.WebSocket) protocol.Conversation
			if err == nil {
				begin, err = d.begin(r, who)
			}
			if err != nil {
				s.turnAway(w, r, who, at, err)
				return nil
			}
			config := conns.Load()
			if !who.Known() {
				config = strangers.Load()
			}
			conn, err := wire.Upgrade(w, r, config)
			if err != nil {
				s.count.refused("upgrade")
				return nil
			}
			return func() { s.converse(ctx, at, begin(conn)) }
		})
	}
}

// admitted makes room for a conversation, lets begin make it of the request, and
// holds it; without room the request is refused. Begin returns nil when it has
// answered otherwise. The conversation runs on in a goroutine of its own, because
// the one that serves a request has grown a large stack, and net/http keeps the
// request, its context and its buffers until the function that serves it returns.
func (s *Server) admitted(w http.ResponseWriter, r *http.Request, begin func() func()) {
	from := network(r.RemoteAddr)
	if err := s.access.rates.arrives(from); err != nil {
		s.exceeded(r.Context(), account.Nobody(), s.at(r, "http"), err)
		s.count.refused("rate")
		httpapi.FailText(w, r, s.logger, err)
		return
	}
	if err := s.sessions.admit(from); err != nil {
		s.refuse(w, err)
		return
	}
	var talk func()
	defer func() { // also when something panics
		if talk == nil {
			s.sessions.leave(from)
		}
	}()
	if talk = begin(); talk == nil {
		return
	}
	s.talks.Go(func() {
		defer s.sessions.leave(from)
		talk()
	})
}

// refuse answers a connection that is one too many.
func (s *Server) refuse(w http.ResponseWriter, err error) {
	status, reason := http.StatusServiceUnavailable, refusalOf(err)
	if errors.Is(err, errFullForYou) {
		status = http.StatusTooManyRequests
	}
	s.count.refused(reason)
	w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter().Seconds())+1))
	http.Error(w, err.Error(), status)
}

// refusalOf names why a connection is not admitted, for the metrics.
func refusalOf(err error) string {
	switch {
	case errors.Is(err, errFullForYou):
		return "address"
	case errors.Is(err, errStopping):
		return "stopping"
	}
	return "total"
}

// converse holds one conversation. A panic in it costs this connection alone:
// the client learns that something broke, the log what.
func (s *Server) converse(ctx context.Context, at peer, c protocol.Conversation) {
	name := at.protocol
	s.sessions.add(c.Conn, name)
	defer s.sessions.remove(c.Conn)
	done, err := s.introduce(ctx, &c, at)
	defer done()
	if err != nil {
		s.count.refused("user")
		_ = c.Conn.Close(wire.CloseTryLater, err.Error()) // it is closed either way
		return
	}
	err = protocol.Serve(ctx, c)
	if p, ok := errors.AsType[*protocol.PanicError](err); ok {
		s.panicked(ctx, p.Value, p.Stack)
	}
	if slow, ok := errors.AsType[*protocol.SlowError](err); ok {
		s.logger.InfoContext(ctx, "closed a client that did not read", "protocol", name, "remote", c.Conn.Remote().String(), "sent", slow.Cursors)
	}
	s.count.closed(closeReason(err))
}

// panicked counts and logs a panic that was survived.
func (s *Server) panicked(ctx context.Context, value any, stack []byte) {
	s.count.panics.Add(1)
	s.logger.ErrorContext(ctx, "panic", "panic", value, "stack", string(stack))
}

// survive, when deferred, ends a panic: it is counted and logged with its stack,
// and then calls instead.
func (s *Server) survive(ctx context.Context, instead func()) {
	if p := recover(); p != nil {
		s.panicked(ctx, p, debug.Stack())
		instead()
	}
}

// closeReason names why a conversation ended, for the metrics.
func closeReason(err error) string {
	if ended, ok := errors.AsType[*protocol.ByeError](err); ok {
		code := ended.Bye.Code
		if code == broker.ByeShutdown {
			return "shutdown"
		}
		if code == broker.ByeIdle {
			return "idle"
		}
		if code == broker.ByeSlow {
			return "slow"
		}
		return "goodbye"
	}
	if _, ok := errors.AsType[*protocol.PanicError](err); ok {
		return "internal"
	}
	if errors.Is(err, protocol.ErrTold) {
		return "told"
	}
	if errors.Is(err, wire.ErrSlow) {
		return "slow"
	}
	closed, ok := errors.AsType[*wire.CloseError](err)
	switch {
	case ok && closed.Code == wire.CloseGoingAway && closed.Reason == "idle":
		return "idle"
	case ok && (closed.Code == wire.CloseNormal || closed.Code == wire.CloseGoingAway || closed.Code == wire.CloseNoStatus):
		return "client"
	case ok && closed.Code == wire.CloseRestart:
		return "shutdown"
	case ok && closed.Code == wire.CloseTooBig:
		return "too_big"
	case ok:
		return "protocol"
	case errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return "lost"
	}
	return "lost"
}
