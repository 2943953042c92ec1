package titan

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
	"github.com/parley-im/parley/internal/wire"
)

var (
	_ protocol.Codec   = (*Codec)(nil)
	_ protocol.Skipper = (*Codec)(nil)
)

// Dialect is one of the two forms of the protocol.
type Dialect int

// The dialects: Titan over WebSocket, and Devastator over TLS.
const (
	Titan Dialect = iota
	Devastator
)

const (
	// maxFirst bounds a frame of who is not known yet.
	maxFirst = 8 << 10
	// bot is who sends back what is sent to them.
	bot = "echo"
	// botHeader marks a letter to oneself as sent back by the bot.
	botHeader = `{"from":"echo"}`
)

// Terms are what a server's connections of one dialect have in common.
type Terms struct {
	Dialect Dialect
	// IDs makes the ids of what is delivered.
	IDs *IDs
	// Batch bounds the messages of one msg.send.
	Batch int
	// AckWait is how long a client has to acknowledge a message; 0 is the broker's
	// own. NakDelay is how long one that it refused waits for the next attempt; 0
	// is 30 s. InFlight is how many it may have unacknowledged; 0 is 100.
	AckWait, NakDelay time.Duration
	InFlight          int
	// Clock tells when a message with a ttl expires; nil is time.Now.
	Clock func() time.Time
}

// A Codec translates for one connection. Decode and Encode may run concurrently
// with each other, but neither with itself.
type Codec struct {
	framing wire.Framing
	terms   Terms

	// Of Decode.
	claimed bool // the client is known, or has shown something that may prove who it is
	opened  bool // the inbox was asked for
	ended   bool // what else the client says is not heard

	// scratch, of Encode, is where a frame's payload is put together.
	scratch []byte

	told    chan struct{} // closed by Encode when the request that announced the client is answered
	mine    atomic.Pointer[mailbox]
	batched atomic.Bool // the client has sent a batch, and gets batches
	batches batches
}

// mailbox is the inbox that the client reads.
type mailbox struct {
	*inbox

	sub  uint64
	user string
}

// New makes the codec of one connection, which writes frames in framing f. Known
// says that the client is, by its certificate.
func New(f wire.Framing, terms Terms, known bool) *Codec {
	if terms.NakDelay == 0 {
		terms.NakDelay = 30 * time.Second
	}
	if terms.InFlight == 0 {
		terms.InFlight = 100
	}
	if terms.Clock == nil {
		terms.Clock = time.Now
	}
	return &Codec{framing: f, terms: terms, claimed: known, told: make(chan struct{})}
}

// Conversation is what protocol.Serve needs for a new connection of who; nobody
// has to say who they are. The caller adds Authenticate.
func Conversation(conn wire.Conn, b *broker.Broker, terms Terms, who *account.Principal) protocol.Conversation {
	c := New(conn, terms, who.User != "")
	return protocol.Conversation{Conn: conn, Codec: c, Broker: b, Principal: who, Last: c.Last}
}

// Decode appends what f asks for to dst. It never fails: what ends the
// conversation is an answer that Last knows.
func (c *Codec) Decode(dst []protocol.Request, f wire.Frame) ([]protocol.Request, error) {
	if c.ended {
		return dst, nil
	}
	if !c.claimed && len(f.Payload) > maxFirst {
		return c.end(dst, ref{kind: quit}, errFirst), nil
	}
	messages, batch, fault := jsonrpc.ParseLoose(f.Payload)
	if fault != nil || batch && !c.claimed {
		// An answer to what has no readable id could be taken for that to
		// something else.
		return c.end(dst, ref{kind: quit}, fault), nil
	}
	var in uint64
	if batch && c.terms.Dialect == Devastator {
		c.batched.Store(true)
		in = c.batches.begin()
		defer c.batches.settle(in)
	}
	for i := range messages {
		if dst = c.message(dst, &messages[i], in); c.ended {
			break
		}
	}
	return dst, nil
}

// end appends the last answer.
func (c *Codec) end(dst []protocol.Request, r ref, err error) []protocol.Request {
	c.ended = true
	if err == nil {
		err = errNoBatch
	}
	return append(dst, &protocol.Bad{Ref: r.String(), Err: err})
}

// The refusals of what a client does first.
var (
	errFirst   = fmt.Errorf("authenticate first, in at most %d bytes: %w", maxFirst, parley.ErrUnauthenticated)
	errNoBatch = fmt.Errorf("authenticate before a batch: %w", parley.ErrUnauthenticated)
)

// message appends what one message of a frame asks for.
func (c *Codec) message(dst []protocol.Request, m *jsonrpc.Message, in uint64) []protocol.Request {
	if m.Err != nil {
		return c.malformed(dst, m)
	}
	titan := c.terms.Dialect == Titan
	switch {
	case m.Method != "" && (titan || m.ID != ""):
		return c.ask(dst, m, in)
	case m.ID != "" && (m.Result != nil || m.Fault != nil || !titan):
		return c.heard(dst, m)
	case titan:
		return c.end(dst, ref{kind: quit}, jsonrpc.InvalidRequest("neither a request nor a response"))
	case m.Method != "":
		return c.note(dst, m)
	case !c.claimed:
		return c.end(dst, ref{kind: quit}, errFirst)
	}
	return append(c.open(dst), reply(ref{kind: notice}, []byte(`{"method":"invalidMessage"}`)))
}

// malformed answers what is no message, if it has an id, and ends.
func (c *Codec) malformed(dst []protocol.Request, m *jsonrpc.Message) []protocol.Request {
	r := ref{kind: quit}
	if m.ID != "" {
		r = ref{kind: last, id: m.ID}
	}
	return c.end(dst, r, m.Err)
}

// note does what a notification asks for.
func (c *Codec) note(dst []protocol.Request, m *jsonrpc.Message) []protocol.Request {
	if !c.claimed || m.Method == "conn.close" {
		return c.end(dst, ref{kind: quit}, errFirst)
	}
	return c.open(dst)
}

// heard takes a response: the acknowledgement of a delivery, or not.
func (c *Codec) heard(dst []protocol.Request, m *jsonrpc.Message) []protocol.Request {
	if !c.claimed {
		return c.end(dst, ref{kind: quit}, errFirst)
	}
	dst = c.open(dst)
	box := c.mine.Load()
	if box == nil {
		return dst
	}
	seq, ok := box.seq(m.Name())
	if !ok {
		return dst
	}
	ack := &protocol.Ack{Ack: broker.Ack{Sub: box.sub, Ranges: []broker.SeqRange{{First: seq, Last: seq}}}}
	if m.Fault != nil && !m.Fault.Null() || string(m.Result) != `"ACK"` {
		ack.Nak, ack.Delay = true, c.terms.NakDelay
	}
	return append(dst, ack)
}

// open appends the request for the inbox, once. In Devastator, whose clients are
// known from the beginning, any of their messages does that but those that are
// public.
func (c *Codec) open(dst []protocol.Request) []protocol.Request {
	if c.opened {
		return dst
	}
	c.opened = true
	return append(dst, &protocol.Inbox{Subscribe: broker.Subscribe{
		Ref:   ref{kind: opening}.String(),
		Start: broker.Start{Kind: broker.AfterSeq}, // what came before the client did
		Delivery: &broker.Delivery{
			AckWait: c.terms.AckWait, MaxInFlight: c.terms.InFlight,
		},
	}})
}

// reply is a request that is answered with p.
func reply(r ref, p []byte) protocol.Request {
	return &protocol.Reply{Event: &broker.Echo{Ref: r.String(), Payload: p}, Cost: len(p)}
}
