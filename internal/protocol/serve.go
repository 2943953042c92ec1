package protocol

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/wire"
)

// Conversation is one client's: what it speaks, over what, and with whom.
type Conversation struct {
	Conn   wire.Conn
	Codec  Codec
	Broker *broker.Broker
	// Identity is who the client is; Params are compared with the filters of
	// messages.
	Identity parley.Identity
	Params   map[string]string
	// Greet sends broker.Welcome first, for protocols whose server speaks
	// first.
	Greet bool
}

// Serve holds the conversation until either side ends it. It returns the reason:
// a *wire.CloseError when the client said goodbye or broke the rules,
// wire.ErrSlow when it did not read, a *Ended when the server said goodbye, or
// what went wrong with the connection. Nothing of it runs on when Serve returns.
func Serve(ctx context.Context, c Conversation) error {
	t := &talk{conn: c.Conn, codec: c.Codec}
	t.session = c.Broker.NewSession(broker.SessionConfig{
		Identity: c.Identity,
		Params:   c.Params,
		Wake:     func() { t.writer.Go(func() { t.write(ctx) }) },
	})
	if c.Greet {
		t.session.Reply(welcome("", t.session, c.Broker), 0)
	}
	err := t.read(ctx, c.Broker)
	t.session.Stop()
	closing := errors.Join(t.conn.Close(1011, "internal error"))
	t.writer.Wait()
	t.session.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended != nil {
		return t.ended
	}
	return errors.Join(err, closing)
}

// Ended is a goodbye by the server.
type Ended struct{ Bye *broker.Bye }

// Error implements error.
func (e *Ended) Error() string { return "goodbye: " + e.Bye.Reason }

// talk is the state of a conversation at rest: one goroutine blocks in read, and
// a second one writes only while there is something to write.
type talk struct {
	conn    wire.Conn
	codec   Codec
	session *broker.Session
	writer  sync.WaitGroup

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
		s.Subscribe(r.Subscribe)
	case *Unsubscribe:
		s.Unsubscribe(r.Ref, r.ID, r.Topic, r.Quiet)
	case *History:
		s.History(ctx, r.Ref, backend.Query{Topic: r.Topic, After: r.After, Before: r.Before, Since: r.Since, Limit: r.Limit, Reverse: r.Reverse})
	case *Count:
		s.Count(ctx, r.Ref, backend.Query{Topic: r.Topic, After: r.After, Before: r.Before, Since: r.Since})
	case *Ping:
		s.Reply(&broker.Pong{Ref: r.Ref}, 0)
	case *Hello:
		s.Reply(welcome(r.Ref, s, b), 0)
	case *Bad:
		s.Reply(&broker.Failed{Ref: r.Ref, Err: r.Err}, 0)
	default:
		panic(fmt.Sprintf("protocol: unknown request %T", r))
	}
}

func welcome(ref string, s *broker.Session, b *broker.Broker) *broker.Welcome {
	return &broker.Welcome{Ref: ref, Identity: s.Identity(), Time: time.Now(), Limits: b.Limits()}
}

// write sends what the session has to tell, until there is no more.
func (t *talk) write(ctx context.Context) {
	out := buffers.Get().(*buffer)
	defer out.release()
	for {
		out.events = t.session.Next(ctx, out.events[:0])
		if len(out.events) == 0 {
			return
		}
		out.bytes = out.bytes[:0]
		var bye *broker.Bye
		for i, e := range out.events {
			out.bytes = t.codec.Encode(out.bytes, e)
			bye, _ = e.(*broker.Bye)
			out.events[i] = nil
			if len(out.bytes) >= writeBytes && !t.send(out) {
				return
			}
		}
		if len(out.bytes) > 0 && !t.send(out) {
			return
		}
		if bye != nil {
			t.end(&Ended{bye}, closeCode(bye.Code), bye.Reason)
			return
		}
	}
}

// writeBytes is when encoded events are sent without waiting for more.
const writeBytes = 128 << 10

// send writes and empties the buffer.
func (t *talk) send(out *buffer) bool {
	err := t.conn.Write(out.bytes)
	out.bytes = out.bytes[:0]
	if err == nil {
		return true
	}
	reason := "write failed"
	if errors.Is(err, wire.ErrSlow) {
		reason = "slow consumer"
	}
	t.end(err, 1008, reason)
	return false
}

// end closes the connection, which ends read.
func (t *talk) end(err error, code uint16, reason string) {
	t.mu.Lock()
	t.ended = err
	t.mu.Unlock()
	t.session.Stop()
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
	}
	return 1011
}
