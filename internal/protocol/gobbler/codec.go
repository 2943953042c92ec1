package gobbler

import (
	"bytes"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/wire"
)

var _ protocol.Codec = (*Codec)(nil)

// A Codec translates for one connection. Decode and Encode may run concurrently
// with each other, but neither with itself.
type Codec struct {
	framing wire.Framing
	sender  parley.Identity
	dialect Dialect
	bytes   string // names, for broker.Batch, the bytes that this codec writes

	// Of Decode.
	bodies slab
	recent recentTopics

	// scratch, of Encode, is where a frame's payload is put together.
	scratch []byte
}

// maxScratch is how much memory a connection keeps for writing its next frame.
const maxScratch = 4 << 10

// New makes the codec of one connection, which speaks dialect d, writes frames in
// framing f and publishes as id.
func New(f wire.Framing, id parley.Identity, d Dialect) *Codec {
	return &Codec{framing: f, sender: id, dialect: d, bytes: d.Subprotocol() + "/" + f.Name()}
}

// Decode appends the request that f asks for to dst: none for a cancel of what
// cannot exist, otherwise one. It never fails: after a command that it cannot
// understand the conversation goes on.
func (c *Codec) Decode(dst []protocol.Request, f wire.Frame) ([]protocol.Request, error) {
	if len(f.Payload) == 0 {
		return append(dst, bad("error parsing command. empty command")), nil
	}
	line, rest := cut(f.Payload, '\n')
	name, arg := cut(line, ' ')
	switch string(name) {
	case ">":
		return append(dst, c.send(arg, rest)), nil
	case "+":
		return append(dst, receive(string(arg))), nil
	case "-":
		if r := cancel(string(arg)); r != nil {
			dst = append(dst, r)
		}
		return dst, nil
	}
	return append(dst, c.unknown(name)), nil
}

// Encode appends the frames that tell e to dst; nothing for what this protocol
// has no word for.
func (c *Codec) Encode(dst []byte, e broker.Event) []byte {
	switch e := e.(type) {
	case *broker.Messages:
		return append(dst, e.Batch.Encoded(c.bytes, c.encodeBatch)...)
	case *broker.Published:
		for _, p := range e.Publishes {
			for i := range p.Messages {
				dst = c.appendOutcome(dst, &p.Messages[i])
			}
		}
		return dst
	case *broker.Welcome:
		return c.appendConnected(dst, e)
	case *broker.ReplayStart:
		return c.appendFetchStart(dst, e)
	case *broker.ReplayEnd:
		return c.appendFetchEnd(dst, e)
	case *broker.Live:
		return c.appendNotice(dst, "#subscribed-to ", e.Sub.Topic)
	case *broker.Unsubscribed:
		return c.appendNotice(dst, "#canceled ", e.Sub.Topic)
	case *broker.Gap:
		return c.appendJump(dst, "#gap ", e.Sub.Topic, e.From, e.To)
	case *broker.Reset:
		return c.appendJump(dst, "#reset ", e.Sub.Topic, e.From, e.To)
	case *broker.Failed:
		return c.appendFailed(dst, e)
	case *broker.Ended:
		return c.appendFailed(dst, &broker.Failed{Ref: string(e.Sub.Topic), Err: e.Err})
	case *broker.Subscribed, *broker.History, *broker.Counted, *broker.Pong, *broker.Bye,
		*broker.Authenticated, *broker.Sent, *broker.Deliveries, *broker.Acked, *broker.ReadMarker, *broker.Sessions, *broker.Echo:
		// A client of this protocol asks for none of the answers, learns that
		// it is subscribed from Live, and takes the close frame for a goodbye.
	}
	return dst
}

// frame appends one binary frame to dst and keeps the payload's memory for the
// next.
func (c *Codec) frame(dst, payload []byte) []byte {
	dst = c.framing.AppendFrame(dst, false, payload)
	c.scratch = payload[:0]
	if cap(payload) > maxScratch {
		c.scratch = nil
	}
	return dst
}

// cut is p before and after the first sep; without one, all of p and nil.
func cut(p []byte, sep byte) (before, after []byte) {
	if i := bytes.IndexByte(p, sep); i >= 0 {
		return p[:i], p[i+1:]
	}
	return p, nil
}
