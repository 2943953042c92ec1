package native

import (
	"slices"
	"strconv"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol/jsonform"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

// dialect names this protocol's form of a batch.
const dialect = "native"

// Encode appends the frames that tell e to dst.
func (c *Codec) Encode(dst []byte, e broker.Event) []byte {
	if p, ok := e.(*broker.Published); ok {
		for _, publish := range p.Publishes {
			start := len(dst)
			dst = c.seal(appendPublished(dst, publish), start)
		}
		return dst
	}
	if m, ok := e.(*broker.Messages); ok && c.sharing != nil {
		return c.appendShared(dst, m)
	}
	start := len(dst)
	return c.seal(c.appendEvent(dst, e), start)
}

// seal makes the payload that begins at start a frame. It is written behind the
// payload and moved over it, which spares a buffer; no payload, no frame.
func (c *Codec) seal(dst []byte, start int) []byte {
	payload := dst[start:]
	if len(payload) == 0 {
		return dst
	}
	dst = c.framing.AppendFrame(dst, true, payload)
	n := copy(dst[start:], dst[start+len(payload):])
	return dst[:start+n]
}

// appendEvent appends the JSON text of e; nothing for the answer to a
// notification.
func (c *Codec) appendEvent(dst []byte, e broker.Event) []byte {
	switch e := e.(type) {
	case *broker.Messages:
		return appendDelivery(dst, e)
	case *broker.Published:
		return dst // Encode makes a frame of each
	case *broker.ReplayStart:
		dst = appendNotice(dst, "replay", e.Sub)
		dst = append(dst, `,"count":`...)
		return append(strconv.AppendInt(dst, int64(e.Count), 10), `}}`...)
	case *broker.ReplayEnd:
		return appendCursor(dst, "replayed", e.Sub, e.Cursor)
	case *broker.Live:
		return appendCursor(dst, "live", e.Sub, e.Cursor)
	case *broker.Gap:
		return appendSpan(dst, "gap", e.Sub, e.From, e.To)
	case *broker.Reset:
		return appendSpan(dst, "reset", e.Sub, e.From, e.To)
	case *broker.Ended:
		dst = append(appendNotice(dst, "ended", e.Sub), `,"error":`...)
		return append(appendError(dst, e.Err), `}}`...)
	case *broker.Bye:
		return appendBye(dst, e)
	case *broker.Welcome:
		return c.appendWelcome(dst, e)
	case *broker.Subscribed:
		return appendSubscribed(dst, e)
	case *broker.Unsubscribed:
		return appendUnsubscribed(dst, e)
	case *broker.History:
		return appendHistory(dst, e)
	case *broker.Counted:
		return appendCounted(dst, e)
	case *broker.Pong:
		if e.Ref == "" {
			return dst
		}
		return append(jsonrpc.AppendResult(dst, e.Ref), `{}}`...)
	case *broker.Failed:
		return appendFailed(dst, e.Ref, e.Err)
	case *broker.Deliveries, *broker.Acked, *broker.Sent, *broker.ReadMarker, *broker.Authenticated, *broker.Sessions:
		return appendPersonal(dst, e)
	case *broker.Echo: // of other codecs
	}
	return dst
}

// appendPersonal is appendEvent for what concerns users.
func appendPersonal(dst []byte, e any) []byte {
	switch e := e.(type) {
	case *broker.Deliveries:
		return appendDeliveries(dst, e)
	case *broker.Acked:
		return appendAcked(dst, e)
	case *broker.Sent:
		return appendSent(dst, e.Send)
	case *broker.ReadMarker:
		return appendReadMarker(dst, e)
	case *broker.Authenticated:
		return appendAuthenticated(dst, e)
	case *broker.Sessions:
		return appendSessions(dst, e)
	}
	return dst
}

// appendDelivery joins this subscription's head with the messages that all
// subscribers share.
func appendDelivery(dst []byte, e *broker.Messages) []byte {
	messages := e.Batch.Encoded(dialect, jsonform.Messages)
	// Room for the payload and, in seal, for the frame behind it.
	const head = 128
	dst = slices.Grow(dst, 2*(len(messages)+head+24*len(e.Also)))
	dst = appendHead(dst, e)
	dst = append(dst, messages...)
	return append(dst, deliveryTail...)
}

// appendShared appends the frame of a delivery whose messages are compressed
// once for all subscribers. It is written behind its head and moved over it.
func (c *Codec) appendShared(dst []byte, e *broker.Messages) []byte {
	messages := e.Batch.Encoded(c.dialect, func(m []*parley.Message) []byte {
		return c.sharing.Share(jsonform.Messages(m))
	})
	start := len(dst)
	dst = appendHead(dst, e)
	head := dst[start:]
	dst = c.sharing.AppendShared(dst, true, head, messages, []byte(deliveryTail))
	return append(dst[:start], dst[start+len(head):]...)
}

// deliveryTail ends a delivery.
const deliveryTail = `]}}`

// appendHead appends what stands before the messages of a delivery.
func appendHead(dst []byte, e *broker.Messages) []byte {
	dst = appendNotice(dst, "messages", e.Sub)
	if len(e.Also) > 0 {
		dst = append(dst, `,"also":[`...)
		for i, sub := range e.Also {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = strconv.AppendUint(dst, sub.ID, 10)
		}
		dst = append(dst, ']')
	}
	return append(dst, `,"messages":[`...)
}

func appendPublished(dst []byte, p *broker.Publish) []byte {
	switch {
	case p.Ref == "":
		return dst
	case p.Batch:
		dst = append(jsonrpc.AppendResult(dst, p.Ref), `{"results":[`...)
		for i := range p.Messages {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendOutcome(dst, &p.Messages[i])
		}
		return append(dst, `]}}`...)
	case p.Messages[0].Result.Err != nil:
		return appendFailed(dst, p.Ref, p.Messages[0].Result.Err)
	}
	return jsonrpc.AppendEnd(appendOutcome(jsonrpc.AppendResult(dst, p.Ref), &p.Messages[0]))
}

// appendOutcome appends what became of one message.
func appendOutcome(dst []byte, p *broker.Publication) []byte {
	if p.Result.Err != nil {
		dst = append(dst, `{"error":`...)
		return append(appendError(dst, p.Result.Err), '}')
	}
	dst = append(dst, `{"topic":`...)
	dst = jsonrpc.AppendString(dst, string(p.Message.Topic))
	dst = append(dst, `,"seq":`...)
	dst = jsonform.AppendSeq(dst, p.Result.Seq)
	if p.Result.Duplicate {
		dst = append(dst, `,"duplicate":true`...)
	}
	return append(dst, '}')
}

func appendFailed(dst []byte, ref string, err error) []byte {
	if ref == "" {
		return dst
	}
	return jsonrpc.AppendEnd(appendError(jsonrpc.AppendFailure(dst, ref), err))
}

func (c *Codec) appendWelcome(dst []byte, e *broker.Welcome) []byte {
	if e.Ref == "" {
		return dst // the client did not say hello
	}
	dst = append(jsonrpc.AppendResult(dst, e.Ref), `{"version":`...)
	dst = strconv.AppendInt(dst, version, 10)
	dst = append(dst, `,"server":`...)
	dst = jsonrpc.AppendString(dst, c.terms.Server)
	dst = append(dst, `,"time":`...)
	dst = jsonform.AppendTime(dst, e.Time)
	dst = append(dst, `,"user":`...)
	dst = jsonrpc.AppendString(dst, e.Identity.User)
	dst = jsonform.AppendOptional(dst, `,"device":`, e.Identity.Device)
	dst = append(dst, `,"limits":{`...)
	dst = appendInt(dst, `"message_bytes":`, int64(e.Limits.MessageBytes))
	dst = appendInt(dst, `,"batch_messages":`, int64(e.Limits.BatchMessages))
	dst = appendInt(dst, `,"subscriptions":`, int64(e.Limits.Subscriptions))
	dst = appendInt(dst, `,"history_messages":`, int64(e.Limits.HistoryMessages))
	dst = appendInt(dst, `,"frame_bytes":`, int64(c.terms.FrameBytes))
	dst = appendInt(dst, `,"recipients":`, int64(e.Limits.Recipients))
	dst = appendInt(dst, `,"in_flight":`, int64(e.Limits.InFlight))
	dst = appendInt(dst, `,"unread":`, int64(e.Limits.Unread))
	dst = append(dst, `},"promises":{"durable":`...)
	dst = strconv.AppendBool(dst, c.terms.Durable)
	dst = appendInt(dst, `,"dedup_seconds":`, int64(e.Limits.DedupWindow.Seconds()))
	dst = appendInt(dst, `,"idle_seconds":`, int64(c.terms.Idle.Seconds()))
	return append(dst, `}}}`...)
}

func appendInt(dst []byte, name string, n int64) []byte {
	return strconv.AppendInt(append(dst, name...), n, 10)
}

func appendSubscribed(dst []byte, e *broker.Subscribed) []byte {
	if e.Ref == "" {
		return dst
	}
	dst = append(jsonrpc.AppendResult(dst, e.Ref), `{"sub":`...)
	dst = strconv.AppendUint(dst, e.Sub.ID, 10)
	dst = append(dst, `,"topic":`...)
	dst = jsonrpc.AppendString(dst, string(e.Sub.Topic))
	if e.Cursor > 0 {
		dst = append(dst, `,"cursor":`...)
		dst = jsonform.AppendSeq(dst, e.Cursor)
	}
	return append(dst, `}}`...)
}

func appendUnsubscribed(dst []byte, e *broker.Unsubscribed) []byte {
	if e.Ref == "" {
		return dst
	}
	dst = append(jsonrpc.AppendResult(dst, e.Ref), `{"sub":`...)
	return append(strconv.AppendUint(dst, e.Sub.ID, 10), `}}`...)
}

func appendHistory(dst []byte, e *broker.History) []byte {
	if e.Ref == "" {
		return dst
	}
	dst = append(jsonrpc.AppendResult(dst, e.Ref), `{"messages":[`...)
	dst = jsonform.AppendMessages(dst, e.Messages)
	dst = append(dst, `],"next":`...)
	dst = jsonform.AppendSeq(dst, e.Next)
	dst = append(dst, `,"more":`...)
	dst = strconv.AppendBool(dst, e.More)
	dst = append(dst, `,"floor":`...)
	return append(jsonform.AppendSeq(dst, e.Floor), `}}`...)
}

func appendCounted(dst []byte, e *broker.Counted) []byte {
	if e.Ref == "" {
		return dst
	}
	dst = jsonrpc.AppendResult(dst, e.Ref)
	dst = appendInt(dst, `{"count":`, int64(e.Count))
	dst = append(dst, `,"first":`...)
	dst = jsonform.AppendSeq(dst, e.First)
	dst = append(dst, `,"last":`...)
	return append(jsonform.AppendSeq(dst, e.Last), `}}`...)
}

// appendNotice appends the head of a notification about sub, which stands first
// in every one of them.
func appendNotice(dst []byte, method string, sub *broker.Subscription) []byte {
	dst = append(jsonrpc.AppendNotification(dst, method), `{"sub":`...)
	return strconv.AppendUint(dst, sub.ID, 10)
}

func appendCursor(dst []byte, method string, sub *broker.Subscription, cursor parley.Seq) []byte {
	dst = append(appendNotice(dst, method, sub), `,"cursor":`...)
	return append(jsonform.AppendSeq(dst, cursor), `}}`...)
}

func appendSpan(dst []byte, method string, sub *broker.Subscription, from, to parley.Seq) []byte {
	dst = append(appendNotice(dst, method, sub), `,"from":`...)
	dst = append(jsonform.AppendSeq(dst, from), `,"to":`...)
	return append(jsonform.AppendSeq(dst, to), `}}`...)
}

func appendBye(dst []byte, e *broker.Bye) []byte {
	dst = append(jsonrpc.AppendNotification(dst, "bye"), `{"code":"`...)
	dst = append(dst, jsonform.ByeName(e.Code)...)
	dst = append(dst, `","reason":`...)
	dst = jsonrpc.AppendString(dst, e.Reason)
	if e.Retry > 0 {
		dst = appendInt(dst, `,"retry_ms":`, max(e.Retry.Milliseconds(), 1))
	}
	return append(dst, `}}`...)
}
