package protocol

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/limit"
	"github.com/parley-im/parley/internal/wire"
)

// What somebody may cost before they have said who they are.
const (
	doorBytes    = 8 << 10         // of one message
	doorMessages = 4               // in all
	doorRequests = 8               // in one message: a credential, with a hello or what it is for
	doorTime     = 5 * time.Second // without what verifying takes
)

// narrower is a connection that can bound a message before it has arrived.
type narrower interface {
	// Narrow bounds messages to n bytes, which are then read one at a time and
	// are not compressed; 0 ends that. It is called by the reader.
	Narrow(n int)
}

// door stands between a conversation and a client that is not known: it passes
// a credential and nothing else. All but what is said to be belongs to the
// reader.
type door struct {
	shut     bool
	left     bool // the goodbye is under way
	messages int
	timer    *time.Timer
	busy     atomic.Bool // a credential is being verified; any goroutine
}

// shutDoor lets the client say nothing but who it is, until that is known.
func (t *talk) shutDoor() {
	t.door.shut = true
	if n, ok := t.conn.(narrower); ok {
		n.Narrow(doorBytes)
	}
	t.door.timer = time.AfterFunc(doorTime, func() {
		if !t.door.busy.Load() {
			t.session.Bye(&broker.Bye{Code: broker.ByeUnauthenticated, Reason: fmt.Sprintf("nobody said who they are within %v", doorTime)})
		}
	})
}

func (t *talk) openDoor() {
	t.door.shut = false
	t.door.timer.Stop()
	if n, ok := t.conn.(narrower); ok {
		n.Narrow(0)
	}
}

// leave says goodbye: what follows is read only to be forgotten, until the
// writer has said it and closed the connection.
func (t *talk) leave(reason string, retry time.Duration) {
	t.door.left = true
	t.door.timer.Stop()
	t.session.Bye(&broker.Bye{Code: broker.ByeUnauthenticated, Reason: reason, Retry: retry})
}

// knock takes a message of a client that is not known.
func (t *talk) knock(ctx context.Context, b *broker.Broker, f wire.Frame) error {
	if t.door.left {
		return nil
	}
	if t.door.messages++; t.door.messages > doorMessages {
		t.leave("authenticate first", 0)
		return nil
	}
	if len(f.Payload) > doorBytes {
		return t.conn.Close(wire.CloseTooBig, "message too big before authentication")
	}
	requests, err := t.codec.Decode(nil, f)
	if err != nil {
		return errors.Join(err, t.conn.Close(wire.ClosePolicy, err.Error()))
	}
	if len(requests) > doorRequests {
		t.leave("no batch before authentication", 0)
		return nil
	}
	for i, r := range requests {
		if !t.door.shut {
			t.ask(ctx, b, requests[i:])
			return nil
		}
		if t.door.left {
			return nil
		}
		t.admit(ctx, b, r)
	}
	return nil
}

// admit does what a client may ask before it is known.
func (t *talk) admit(ctx context.Context, b *broker.Broker, r Request) {
	switch r := r.(type) {
	case *Authenticate:
		t.door.busy.Store(true)
		err := t.login(ctx, r)
		t.door.busy.Store(false)
		if err == nil {
			t.openDoor()
			return
		}
		t.leave("not authenticated", retryOf(err))
	case *Hello, *Ping, *Reply, *Await:
		t.do(ctx, b, r)
	default:
		t.reject(ctx, b, r)
		t.leave("authenticate first", 0)
	}
}

// reject answers a request with account.ErrUnknown.
func (t *talk) reject(ctx context.Context, b *broker.Broker, r Request) {
	var ref string
	switch r := r.(type) {
	case *Publish: // its answer tells of each message
		for i := range r.Messages {
			r.Messages[i].Result.Err = account.ErrUnknown
		}
		t.do(ctx, b, r)
		return
	case *Bad:
		t.do(ctx, b, r)
		return
	case *Subscribe:
		ref = r.Ref
	case *Unsubscribe:
		ref = r.Ref
	case *Inbox:
		ref = r.Ref
	case *History:
		ref = r.Ref
	case *Count:
		ref = r.Ref
	case *Send:
		ref = r.Ref
	case *Ack:
		ref = r.Ref
	case *MarkRead:
		ref = r.Ref
	case *Sessions:
		ref = r.Ref
	case *Authenticate, *Hello, *Ping, *Reply, *Await: // may be asked
	}
	if ref != "" {
		t.session.Reply(&broker.Failed{Ref: ref, Err: account.ErrUnknown}, 0)
	}
}

// retryOf is when something that failed with err may be tried again; 0 when
// nobody knows.
func retryOf(err error) time.Duration {
	if exceeded, ok := errors.AsType[*limit.ExceededError](err); ok {
		return exceeded.After
	}
	if errors.Is(err, parley.ErrUnavailable) {
		return time.Second
	}
	return 0
}
