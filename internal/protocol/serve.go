package protocol

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/wire"
)

// Conversation is one client's: what it speaks, over what, and with whom.
type Conversation struct {
	Conn   wire.Conn
	Codec  Codec
	Broker *broker.Broker
	// Identity is who the client is when nobody is asked for a credential.
	Identity parley.Identity
	// Principal is who the client is at first; nil is anyone, with Identity.
	Principal *account.Principal
	// Authenticate verifies what the client shows; nil refuses everything. It may
	// take as long as another server does, and the client's further requests
	// wait; the error is told to the client.
	Authenticate func(context.Context, account.Credential) (*account.Login, error)
	// Protocol is the name of what the client speaks.
	Protocol string
	// Watch is told what the client does; nil for nobody.
	Watch *broker.Watch
	// Greet sends broker.Welcome first, for protocols whose server speaks
	// first.
	Greet bool
	// Requests are asked before the client says anything, for protocols whose
	// clients say what they want in how they connect.
	Requests []Request
	// Join is called with the session when it has begun, after the greeting and
	// before the client is heard; what it returns is called when nothing can be told
	// to the session any more. Nil is nothing. For protocols whose sessions are told
	// what other sessions say.
	Join func(*broker.Session) (leave func())
	// Last tells the events after which there is nothing more to say, for
	// protocols whose conversations have an end; nil is none. The connection
	// then closes with wire.CloseNormal.
	Last func(broker.Event) bool
}

// Serve holds the conversation until either side ends it. It returns the reason:
// a *wire.CloseError when the client said goodbye or broke the rules, a
// *SlowError when it did not read, a *ByeError when the server said goodbye, a
// *PanicError when a fault of this program ended it, ErrTold when the client was
// told all that it asked for, or what went wrong with the connection. Nothing of it runs on when Serve returns.
func Serve(ctx context.Context, c Conversation) error {
	// A replay or a count that nobody waits for any more ends with this.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &talk{conn: c.Conn, codec: c.Codec, last: c.Last, authenticate: c.Authenticate, cancel: cancel}
	t.mu.Lock() // a goodbye may wake the writer before the session is known here
	t.session = c.Broker.NewSession(broker.SessionConfig{
		Identity:  c.Identity,
		Principal: c.Principal,
		Protocol:  c.Protocol,
		Watch:     c.Watch,
		Remote:    c.Conn.Remote().String(),
		Wake:      func() { t.writer.Go(func() { t.tell(ctx) }) },
	})
	t.mu.Unlock()
	if c.Principal != nil && !c.Principal.Known() {
		t.shutDoor()
		defer t.door.timer.Stop()
	}
	err := guard(func() error {
		defer t.begin(&c)()
		t.ask(ctx, c.Broker, c.Requests)
		return t.read(ctx, c.Broker)
	})
	t.session.Stop()
	cancel()
	closed := t.conn.Close(wire.CloseInternal, "internal error") // unless it is closed already
	t.writer.Wait()
	t.session.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended != nil {
		return t.ended
	}
	return errors.Join(err, closed)
}

// begin greets and joins. Nothing is written before both are done: whom the greeting
// names can be reached.
func (t *talk) begin(c *Conversation) (leave func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.Greet {
		t.session.Reply(welcome("", t.session, c.Broker), 0)
	}
	if c.Join == nil {
		return func() {}
	}
	return c.Join(t.session)
}

// ErrTold is the end of a conversation in which the client was told all that it
// asked for.
var ErrTold = errors.New("told all there is")

// ByeError is a goodbye by the server.
type ByeError struct{ Bye *broker.Bye }

// Error implements error.
func (e *ByeError) Error() string { return "goodbye: " + e.Bye.Reason }

// PanicError is a panic that cost one conversation.
type PanicError struct {
	Value any
	Stack []byte
}

// Error implements error.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// SlowError is a client that read nothing for the write deadline. Cursors are
// how far each of its subscriptions was sent; the client may have got less.
type SlowError struct{ Cursors map[parley.Topic]parley.Seq }

// Error implements error.
func (e *SlowError) Error() string { return e.reason() }

// Unwrap is wire.ErrSlow.
func (e *SlowError) Unwrap() error { return wire.ErrSlow }

// reason names one cursor, because a close frame has room for one.
func (e *SlowError) reason() string {
	const room = 90 // of 123 bytes; the seq takes 16
	for topic, seq := range e.Cursors {
		if len(topic) <= room {
			return fmt.Sprintf("slow reader: %s sent up to %d", topic, seq)
		}
	}
	return "slow reader"
}

// guard calls f and turns a panic into an error.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{p, debug.Stack()}
		}
	}()
	return f()
}

// talk is the state of a conversation at rest: one goroutine blocks in read, and
// a second one writes only while there is something to write.
type talk struct {
	conn    wire.Conn
	codec   Codec
	last    func(broker.Event) bool // nil when none is
	session *broker.Session
	writer  sync.WaitGroup

	authenticate func(context.Context, account.Credential) (*account.Login, error)
	cancel       context.CancelFunc // of what the requests in hand wait for
	door         door

	mu    sync.Mutex
	ended error // why the writer gave up
}

// read hands the client's requests to the session until the connection ends.
func (t *talk) read(ctx context.Context, b *broker.Broker) error {
	var requests []Request
	for {
		frames, err := t.conn.Read()
		if err != nil {
			return err
		}
		for _, f := range frames {
			if t.door.shut {
				if err := t.knock(ctx, b, f); err != nil {
					return err
				}
				continue
			}
			if requests, err = t.codec.Decode(requests, f); err != nil {
				return errors.Join(err, t.conn.Close(1008, err.Error()))
			}
		}
		t.ask(ctx, b, requests)
		clear(requests)
		if requests = requests[:0]; cap(requests) > idleRequests {
			requests = nil
		}
	}
}

// idleRequests is how large a slice a quiet connection may keep.
const idleRequests = 8

// ask does the requests in order. Publishes that follow each other are handed
// over together.
func (t *talk) ask(ctx context.Context, b *broker.Broker, requests []Request) {
	var publishes []*broker.Publish
	flush := func() {
		if len(publishes) > 0 {
			t.session.Publish(publishes)
			publishes = nil
		}
	}
	for i, r := range requests {
		if p, ok := r.(*Publish); ok {
			if publishes == nil {
				publishes = make([]*broker.Publish, 0, len(requests)-i)
			}
			publishes = append(publishes, &p.Publish)
			continue
		}
		flush()
		t.do(ctx, b, r)
	}
	flush()
}

func (t *talk) do(ctx context.Context, b *broker.Broker, r Request) {
	s := t.session
	switch r := r.(type) {
	case *Publish:
		s.Publish([]*broker.Publish{&r.Publish})
	case *Subscribe:
		s.Subscribe(ctx, r.Subscribe)
	case *Unsubscribe:
		s.Unsubscribe(r.Ref, r.ID, r.Topic, r.Quiet)
	case *History:
		if r.Topic == "" && !t.own(r) {
			return
		}
		s.History(ctx, r.Ref, backend.Query{Topic: r.Topic, After: r.After, Before: r.Before, Since: r.Since, Limit: r.Limit, Reverse: r.Reverse})
	case *Count:
		s.Count(ctx, r.Ref, backend.Query{Topic: r.Topic, After: r.After, Before: r.Before, Since: r.Since})
	case *Ping:
		s.Reply(&broker.Pong{Ref: r.Ref}, 0)
	case *Hello:
		s.Reply(welcome(r.Ref, s, b), 0)
	case *Authenticate:
		_ = t.login(ctx, r) // the client was told
	case *Inbox:
		t.openInbox(ctx, r)
	case *Await:
		select {
		case <-r.Told:
		case <-ctx.Done():
		}
	case *Send:
		if user := s.Identity().User; user != "" {
			for i := range r.Letters {
				if l := &r.Letters[i]; len(l.To) == 0 {
					l.To = []string{user}
				}
			}
		}
		s.Send(&r.Send)
	case *Ack:
		s.Acknowledge(&r.Ack)
	case *MarkRead:
		s.MarkRead(ctx, r.MarkRead)
	case *Sessions:
		s.ListSessions(r.Ref)
	case *Reply:
		s.Reply(r.Event, r.Cost)
	case *Bad:
		if r.Publish {
			b.Refused(r.Err)
		}
		s.Reply(&broker.Failed{Ref: r.Ref, Err: r.Err}, 0)
	default:
		panic(fmt.Sprintf("protocol: unknown request %T", r))
	}
}

// own makes the user's own inbox the topic of r, and answers that there is none
// for nobody.
func (t *talk) own(r *History) bool {
	user := t.session.Identity().User
	if user == "" {
		t.session.Reply(&broker.Failed{Ref: r.Ref, Err: account.ErrUnknown}, 0)
		return false
	}
	r.Topic = parley.InboxTopic(user)
	if r.Peer != "" {
		r.Topic += parley.Topic("/" + r.Peer)
	}
	return true
}

// errNoLogin refuses credentials where nobody verifies them.
var errNoLogin = fmt.Errorf("credentials are not taken here: %w", parley.ErrForbidden)

// login has a credential verified and makes the session who it proves. The client
// is told either way.
func (t *talk) login(ctx context.Context, r *Authenticate) error {
	login, err := (*account.Login)(nil), errNoLogin
	if t.authenticate != nil {
		login, err = t.authenticate(ctx, r.Credential)
	}
	if err == nil {
		err = t.session.SetPrincipal(login.Principal)
	}
	if err != nil {
		t.session.Reply(&broker.Failed{Ref: r.Ref, Err: err}, 0)
		return err
	}
	t.session.Reply(&broker.Authenticated{Ref: r.Ref, Login: login}, len(login.Token)+len(login.Certificate)+len(login.Key))
	return nil
}

// openInbox subscribes to the session's own inbox.
func (t *talk) openInbox(ctx context.Context, r *Inbox) {
	id := t.session.Identity()
	if id.User == "" {
		t.session.Reply(&broker.Failed{Ref: r.Ref, Err: account.ErrUnknown}, 0)
		return
	}
	r.Topic = parley.InboxTopic(id.User)
	r.Delivery.Shared = id.Device == ""
	t.session.Subscribe(ctx, r.Subscribe)
}

func welcome(ref string, s *broker.Session, b *broker.Broker) *broker.Welcome {
	return &broker.Welcome{Ref: ref, Identity: s.Identity(), Time: time.Now(), Limits: b.Limits()}
}

// tell sends what the session has to tell, until there is no more.
func (t *talk) tell(ctx context.Context) {
	if err := guard(func() error { return t.write(ctx) }); err != nil {
		if errors.Is(err, wire.ErrSlow) {
			err = &SlowError{t.session.Cursors()}
		}
		code, reason := closing(err)
		t.end(err, code, reason)
	}
}

// closing says how a connection is closed because of err.
func closing(err error) (code uint16, reason string) {
	var ended *ByeError
	var panicked *PanicError
	var slow *SlowError
	switch {
	case errors.As(err, &ended):
		return closeCode(ended.Bye.Code), ended.Bye.Reason
	case errors.As(err, &panicked):
		return wire.CloseInternal, "internal error"
	case errors.As(err, &slow):
		return wire.ClosePolicy, slow.reason()
	case errors.Is(err, ErrTold):
		return wire.CloseNormal, ""
	}
	return wire.CloseGoingAway, "write failed"
}

func (t *talk) write(ctx context.Context) error {
	t.mu.Lock()
	session := t.session
	t.mu.Unlock()
	out := buffers.Get().(*buffer)
	defer out.release()
	for {
		out.events = session.Next(ctx, out.events[:0])
		if len(out.events) == 0 {
			return nil
		}
		out.bytes = out.bytes[:0]
		for i, e := range out.events {
			out.bytes = t.codec.Encode(out.bytes, e)
			t.skip(e)
			out.events[i] = nil
			ending := t.ending(e)
			if len(out.bytes) >= writeBytes || i == len(out.events)-1 || ending != nil {
				if err := t.send(out); err != nil {
					return err
				}
			}
			if ending != nil {
				return ending
			}
		}
	}
}

// skip acknowledges what the codec has left out of e.
func (t *talk) skip(e broker.Event) {
	d, delivers := e.(*broker.Deliveries)
	s, skips := t.codec.(Skipper)
	if !delivers || !skips {
		return
	}
	if ranges := s.Skipped(d); len(ranges) > 0 {
		t.session.Acknowledge(&broker.Ack{Sub: d.Sub.ID, Ranges: ranges})
	}
}

// ending is why the conversation is over after e, or nil when it goes on.
func (t *talk) ending(e broker.Event) error {
	if bye, ok := e.(*broker.Bye); ok {
		return &ByeError{bye}
	}
	if t.last != nil && t.last(e) {
		return ErrTold
	}
	return nil
}

// writeBytes is when encoded events are sent without waiting for more.
const writeBytes = 128 << 10

// send writes and empties the buffer.
func (t *talk) send(out *buffer) error {
	if len(out.bytes) == 0 {
		return nil
	}
	err := t.conn.Write(out.bytes)
	out.bytes = out.bytes[:0]
	return err
}

// end closes the connection, which ends read.
func (t *talk) end(err error, code uint16, reason string) {
	t.mu.Lock()
	t.ended = err
	t.mu.Unlock()
	t.session.Stop()
	t.cancel()
	_ = t.conn.Close(code, reason) // err is the reason, and a failed goodbye changes nothing
}

// closeCode is the WebSocket close code for a goodbye (RFC 6455 section 7.4.1
// and the IANA registry that continues it).
func closeCode(c broker.ByeCode) uint16 {
	switch c {
	case broker.ByeShutdown:
		return 1012
	case broker.ByeSlow:
		return 1008
	case broker.ByeIdle:
		return 1001
	case broker.ByeProtocol:
		return 1002
	case broker.ByeTooBig:
		return 1009
	case broker.ByeOverload:
		return 1013
	case broker.ByeUnacceptable:
		return 1007
	case broker.ByeInternal:
		return 1011
	case broker.ByeExpired, broker.ByeRevoked, broker.ByeReplaced, broker.ByeUnauthenticated:
		return 1008
	}
	return 1011
}
