package texto

import (
	"sync"
	"sync/atomic"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/wire"
)

var _ protocol.Codec = (*Codec)(nil)

// Codec translates for one session.
type Codec struct {
	relay   *Relay
	framing wire.Framing
	id      UUID
	spend   func(to UUID, bytes int) error
	session *broker.Session // set before the relay knows the codec

	active atomic.Int64 // when something was last said or told, in the relay's time

	mu sync.Mutex // guards what follows
	// waiting is this session's part of the relay's.
	waiting int64
	left    bool
}

// Terms say what is special about a session.
type Terms struct {
	// Greet tells the session its name at once.
	Greet bool
	// Principal is what the server takes it for; nil is anyone. Nothing that the
	// protocol has needs leave.
	Principal *account.Principal
	// Spend counts a text of so many bytes before it is sent, and refuses one too
	// many; nil allows all.
	Spend func(to UUID, bytes int) error
}

// Conversation is what protocol.Serve needs for a new session.
func (r *Relay) Conversation(conn wire.Conn, b *broker.Broker, t Terms) protocol.Conversation {
	c := &Codec{relay: r, framing: conn, id: newUUID(), spend: t.Spend}
	c.active.Store(r.now())
	return protocol.Conversation{
		Conn:      conn,
		Codec:     c,
		Broker:    b,
		Identity:  parley.Identity{Device: c.id.String()},
		Principal: t.Principal,
		Greet:     t.Greet,
		Join:      func(s *broker.Session) func() { return r.join(c, s) },
	}
}

// Decode does what f asks for and appends the answer to dst, if there is one. It
// never fails: after what it cannot understand the conversation goes on.
func (c *Codec) Decode(dst []protocol.Request, f wire.Frame) ([]protocol.Request, error) {
	c.active.Store(c.relay.now())
	answer := c.answer(f.Payload)
	if answer == nil {
		return dst, nil
	}
	return append(dst, &protocol.Reply{Event: &broker.Echo{Payload: answer}, Cost: len(answer)}), nil
}

// answer is what a client is told about what it sent, or nil.
func (c *Codec) answer(p []byte) []byte {
	e, err := parseEnvelope(p)
	if err != nil {
		return errorOf(c.id, newUUID(), faultSyntax)
	}
	switch e.kind {
	case kindRegistration:
		return connectionOf(c.id, e.id)
	case kindSend:
		if e.client != c.id {
			return errorOf(c.id, e.id, faultClient)
		}
		if c.spend != nil && c.spend(e.to, len(e.text)) != nil || !c.relay.send(&letter{from: c.id, to: e.to, text: e.text}) {
			return errorOf(c.id, e.id, faultBroker)
		}
		return ackOf(c.id, e.id)
	case kindConnection, kindReceive:
		return errorOf(c.id, e.id, faultKind)
	case kindAck, kindError:
	}
	return nil // nothing is resent, so nothing waits for an ack
}

// received is an Echo of what another session sent. Its Ref tells it from an
// answer.
const received = "receive"

// offer hands the session a message, or closes it if it is too far behind.
func (c *Codec) offer(payload []byte) bool {
	size := int64(len(payload))
	c.mu.Lock()
	if c.left {
		c.mu.Unlock()
		return false
	}
	c.waiting += size
	c.mu.Unlock()
	if c.session.Offer(&broker.Echo{Ref: received, Payload: payload}, len(payload), sessionBytes) {
		return true
	}
	c.mu.Lock()
	ended := c.left
	if !ended {
		c.waiting -= size
	}
	c.mu.Unlock()
	if ended { // abandon has taken it off the relay's sum
		c.relay.waiting.Add(size)
	}
	c.session.Bye(&broker.Bye{Code: broker.ByeSlow, Reason: "slow reader"})
	return false
}

// took says that the bytes of a message are about to be written.
func (c *Codec) took(size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left {
		return
	}
	c.waiting -= size
	c.relay.waiting.Add(-size)
}

// abandon gives up what the session will not be told any more.
func (c *Codec) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = true
	c.relay.waiting.Add(-c.waiting)
	c.waiting = 0
}

// Encode appends the frame that tells e to dst; nothing for what this protocol
// has no word for.
func (c *Codec) Encode(dst []byte, e broker.Event) []byte {
	var payload []byte
	switch e := e.(type) {
	case *broker.Welcome:
		payload = connectionOf(c.id, newUUID())
	case *broker.Echo:
		payload = e.Payload
		if e.Ref == received {
			c.took(int64(len(payload)))
		}
	default:
		return dst // the codec makes no other requests, and the close frame is the goodbye
	}
	c.active.Store(c.relay.now())
	return c.framing.AppendFrame(dst, true, payload)
}
