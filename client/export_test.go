package client

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/wire"
)

// What the tests in package client_test need to see.
const (
	BufferBytes = bufferBytes
	Quiet       = defaultQuiet
	MaxRetry    = maxRetry
)

// DialWith is Dial over connections that open makes.
func DialWith(ctx context.Context, url string, o Options, open func(context.Context, string, http.Header) (wire.Conn, error)) (*Client, error) {
	return dial(ctx, url, o, open)
}

// DialWebSocket is how Dial opens connections.
func DialWebSocket(ctx context.Context, url string, header http.Header) (wire.Conn, error) {
	return webSocket(nil)(ctx, url, header)
}

// Address is what Dial makes of a URL.
func Address(raw string) (string, error) { return address(raw) }

// Waits are n successive back-offs.
func (b Backoff) Waits(n int) []time.Duration {
	p := pacer{Backoff: b}
	waits := make([]time.Duration, n)
	for i := range waits {
		waits[i] = p.next(nil)
	}
	return waits
}

// ErrGarbled is what ends a connection on which the server does not make sense.
var ErrGarbled = errGarbled

// Heard is what comes of something that the server said.
type Heard struct {
	Messages []*parley.Message // for the loop of the subscription
	Errs     []error           // likewise
	Answers  int               // to the request that waits
	Quiet    time.Duration     // the patience, if the answer is one to hello
	Err      error             // ends the connection
}

// Listen makes a client that has one subscription, which the server calls 1 and
// which has received everything up to a seq, and one request that waits, whose
// id is 1. The returned function hears what the server says.
func Listen(t *testing.T, topic parley.Topic, cursor parley.Seq) func(payload []byte) Heard {
	t.Helper()
	options, err := withDefaults(Options{})
	if err != nil {
		t.Fatal(err)
	}
	sub, err := newSubscription(topic, []SubscribeOption{After(cursor)})
	if err != nil {
		t.Fatal(err)
	}
	sub.state, sub.id, sub.retry.Backoff = active, 1, options.Backoff
	conn, _ := wire.Pipe()
	s := newSession(conn)
	s.subs[sub.id] = sub
	c := &Client{options: options, session: s, calls: make(map[uint64]*call), subs: map[*subscription]struct{}{sub: {}}}
	var heard Heard
	c.newCallLocked("hello", nil, func(r response) {
		heard.Answers++
		var welcome helloResult
		if r.into(&welcome) == nil {
			l := welcome.limits()
			heard.Quiet = l.quiet
		}
	})
	return func(payload []byte) Heard {
		heard = Heard{}
		heard.Err = c.receive(s, payload)
		items, _ := c.take(sub)
		for _, n := range items {
			if n.message != nil {
				heard.Messages = append(heard.Messages, n.message)
			} else {
				heard.Errs = append(heard.Errs, n.err)
			}
		}
		return heard
	}
}

// Buffered is how much all subscriptions together hold.
func (c *Client) Buffered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for sub := range c.subs {
		n += sub.bytes
	}
	return n
}

// Hold tells how much a loop remembers that was shown n messages and has settled
// none of them.
func Hold(t *testing.T, n, inFlight int) int {
	t.Helper()
	s, err := newDelivering("", "", []SubscribeOption{MaxInFlight(inFlight)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		seq := parley.Seq(i + 1)
		s.deliverLocked(nil, []Entry{{Message: &parley.Message{Seq: seq}}}, nil)
		s.held[seq].place = shown
		s.buffer = nil
	}
	return len(s.held)
}
