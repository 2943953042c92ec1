// Package sse lets a client follow one topic by HTTP alone, as Server-Sent
// Events: curl and the EventSource of every browser can. The client asks with
// the request's URL and a Last-Event-ID, see [Parse], and then only reads.
// docs/protocol/events.md specifies it.
package sse

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/jsonform"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
	"github.com/parley-im/parley/internal/wire"
)

// dialect names this protocol's form of a batch.
const dialect = "sse"

// Codec tells one subscription as events. The id of an event is a cursor: what a
// client that comes back with it as Last-Event-ID gets, is all that follows. It
// is the same for every subscriber, so that they share the encoding of a batch.
type Codec struct{ framing wire.Framing }

var _ protocol.Codec = (*Codec)(nil)

// Conversation is what protocol.Serve needs for a new connection whose client
// asked for r.
func Conversation(conn wire.Conn, b *broker.Broker, r broker.Subscribe) protocol.Conversation {
	return protocol.Conversation{
		Conn:     conn,
		Codec:    &Codec{conn},
		Broker:   b,
		Requests: []protocol.Request{&protocol.Subscribe{Subscribe: r}},
		Last:     func(e broker.Event) bool { return last(e, r.ReplayOnly) },
	}
}

// last tells the event after which nothing follows.
func last(e broker.Event, replayOnly bool) bool {
	switch e.(type) {
	case *broker.Ended, *broker.Failed:
		return true
	case *broker.ReplayEnd:
		return replayOnly
	default:
		return false
	}
}

// Decode refuses what a client sends behind its request.
func (*Codec) Decode(dst []protocol.Request, _ wire.Frame) ([]protocol.Request, error) {
	return dst, errors.New("an event stream has no requests")
}

// Encode appends the frames that tell e to dst.
func (c *Codec) Encode(dst []byte, e broker.Event) []byte {
	if m, ok := e.(*broker.Messages); ok {
		return c.framing.AppendFrame(dst, true, m.Batch.Encoded(dialect, encode))
	}
	if event := appendEvent(nil, e); len(event) > 0 {
		return c.framing.AppendFrame(dst, true, event)
	}
	return dst
}

// encode is a batch as all who receive it share it: an event of the default type
// for each message.
func encode(messages []*parley.Message) []byte {
	const names = 192 // of the fields and the members that most messages have, and the numbers
	size := 0
	for _, m := range messages {
		size += names + len(m.Topic) + len(m.ID) + len(m.Header) + len(m.Body)
	}
	dst := make([]byte, 0, size)
	for _, m := range messages {
		dst = append(appendID(dst, m.Seq), "data: "...)
		start := len(dst)
		dst = jsonform.AppendMessage(dst, m)
		oneLine(dst[start:])
		dst = append(dst, "\n\n"...)
	}
	return dst
}

// oneLine keeps the value of one field from being several: a message's header
// may be JSON of its publisher's own, in which line breaks are white space.
func oneLine(value []byte) {
	for _, end := range []byte{'\r', '\n'} {
		for rest := value; ; {
			i := bytes.IndexByte(rest, end)
			if i < 0 {
				break
			}
			rest[i] = ' '
			rest = rest[i+1:]
		}
	}
}

// appendEvent appends what is told beside messages.
func appendEvent(dst []byte, e broker.Event) []byte {
	switch e := e.(type) {
	case *broker.Subscribed:
		return append(appendRetry(dst, retry()), '\n')
	case *broker.ReplayStart:
		dst = append(dst, "event: replay\ndata: {\"count\":"...)
		return append(strconv.AppendInt(dst, int64(e.Count), 10), "}\n\n"...)
	case *broker.ReplayEnd:
		return appendCursor(dst, "replayed", e.Cursor)
	case *broker.Live:
		return appendCursor(dst, "live", e.Cursor)
	case *broker.Gap:
		return appendSpan(dst, "gap", e.From, e.To)
	case *broker.Reset:
		return appendSpan(dst, "reset", e.From, e.To)
	case *broker.Ended:
		return appendEnded(dst, e.Err)
	case *broker.Failed:
		return appendEnded(dst, e.Err)
	case *broker.Bye:
		return appendBye(dst, e)
	default: // answers to what this protocol cannot ask
		return dst
	}
}

func appendID(dst []byte, cursor parley.Seq) []byte {
	return append(jsonform.AppendSeq(append(dst, "id: "...), cursor), '\n')
}

// appendHead appends the fields before the value of data.
func appendHead(dst []byte, event string) []byte {
	dst = append(append(dst, "event: "...), event...)
	return append(dst, "\ndata: "...)
}

func appendCursor(dst []byte, event string, cursor parley.Seq) []byte {
	dst = append(appendHead(appendID(dst, cursor), event), `{"cursor":`...)
	return append(jsonform.AppendSeq(dst, cursor), "}\n\n"...)
}

// appendSpan tells how the cursor moved without a message.
func appendSpan(dst []byte, event string, from, to parley.Seq) []byte {
	dst = append(appendHead(appendID(dst, to), event), `{"from":`...)
	dst = append(jsonform.AppendSeq(dst, from), `,"to":`...)
	return append(jsonform.AppendSeq(dst, to), "}\n\n"...)
}

// appendEnded tells that the server cannot go on. It has no id, so that the
// client comes back to where it was.
func appendEnded(dst []byte, err error) []byte {
	f := jsonform.Explain(err)
	dst = append(append(appendHead(dst, "ended"), `{"kind":"`...), f.Kind...)
	dst = append(append(append(dst, `","code":"`...), f.Code...), `","detail":`...)
	return append(jsonrpc.AppendString(dst, f.Message), "}\n\n"...)
}

func appendBye(dst []byte, e *broker.Bye) []byte {
	if e.Retry > 0 {
		dst = appendRetry(dst, e.Retry)
	}
	dst = append(append(appendHead(dst, "bye"), `{"code":"`...), jsonform.ByeName(e.Code)...)
	dst = append(dst, `","reason":`...)
	return append(jsonrpc.AppendString(dst, e.Reason), "}\n\n"...)
}

// appendRetry tells EventSource how long to wait before it comes back. It keeps
// that in mind until it is told otherwise.
func appendRetry(dst []byte, d time.Duration) []byte {
	dst = strconv.AppendInt(append(dst, "retry: "...), max(d.Milliseconds(), 1), 10)
	return append(dst, '\n')
}

// retry is when to come back after a connection that broke: at random, so that
// those whose server has died do not all come at once.
func retry() time.Duration {
	const least, most = time.Second, 5 * time.Second
	return least + rand.N(most-least) //nolint:gosec // spreads a load
}
