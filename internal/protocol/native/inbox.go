package native

import (
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/jsonform"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

const (
	maxAckEntries  = 1000 // of seqs, and of ranges, in one ack
	maxReasonBytes = 255
	maxAckWait     = time.Hour
	minAckWait     = 100 * time.Millisecond
	maxNakDelay    = 24 * time.Hour
	maxDeliver     = 1000
)

// deliveryParams say how what is delivered is acknowledged.
type deliveryParams struct {
	AckWaitMS   *int64 `json:"ack_wait_ms"`
	MaxInFlight *int   `json:"max_in_flight"`
}

func (p *deliveryParams) fill(d *broker.Delivery) error {
	var err error
	if d.AckWait, err = millis("ack_wait_ms", p.AckWaitMS, minAckWait, maxAckWait); err != nil {
		return err
	}
	d.MaxInFlight, err = countOf("max_in_flight", p.MaxInFlight)
	return err
}

// millis is *n milliseconds, or 0 when n is nil.
func millis(name string, n *int64, least, most time.Duration) (time.Duration, error) {
	switch {
	case n == nil:
		return 0, nil
	case *n < least.Milliseconds() || *n > most.Milliseconds():
		return 0, invalid(name + " must be from " + least.String() + " to " + most.String() + ", in milliseconds")
	}
	return time.Duration(*n) * time.Millisecond, nil
}

type openParams struct {
	deliveryParams `json:",inline"`
	startParams    `json:",inline"`
}

// openInbox asks for the user's own inbox. Its first device is behind nothing:
// without a place to begin it gets all that is there.
func openInbox(call jsonrpc.Call) (protocol.Request, error) {
	var p openParams
	if err := call.Params.Decode(&p); err != nil {
		return nil, err
	}
	r := &protocol.Inbox{Subscribe: broker.Subscribe{Ref: call.ID, Delivery: new(broker.Delivery)}}
	var err error
	if r.Start, err = p.start(); err != nil {
		return nil, err
	}
	if r.Start.Kind == broker.FromNow {
		r.Start.Kind = broker.AfterSeq
	}
	return r, p.fill(r.Delivery)
}

// durableParams make a subscription durable.
type durableParams struct {
	deliveryParams `json:",inline"`

	Durable    *string `json:"durable"`
	MaxDeliver *int    `json:"max_deliver"`
}

// delivery is nil for a subscription that is not durable.
func (p *durableParams) delivery() (*broker.Delivery, error) {
	if p.Durable == nil {
		if p.AckWaitMS != nil || p.MaxInFlight != nil || p.MaxDeliver != nil {
			return nil, invalid("ack_wait_ms, max_in_flight and max_deliver need durable")
		}
		return nil, nil
	}
	name, err := parley.ParseDevice(*p.Durable)
	if err != nil {
		return nil, invalid("durable must have 1 to 112 bytes, and no slash, comma, space or control character, and no $ first")
	}
	d := &broker.Delivery{Name: name}
	if d.MaxDeliver, err = countOf("max_deliver", p.MaxDeliver); err != nil {
		return nil, err
	}
	if d.MaxDeliver > maxDeliver {
		return nil, invalid("max_deliver must be at most 1000")
	}
	return d, p.fill(d)
}

// settled names the messages that an ack or a nak is about.
type settled struct {
	Sub    uint64                      `json:"sub"`
	Seqs   jsonrpc.List[parley.Seq]    `json:"seqs"`
	Ranges jsonrpc.List[[2]parley.Seq] `json:"ranges"`
}

// bounded is a settled with its limits.
func bounded() settled {
	var p settled
	p.Seqs.Max, p.Ranges.Max = maxAckEntries, maxAckEntries
	return p
}

// fill checks p and fills a with it. A range may say more than what is in
// flight: from 1 to a seq is everything up to it.
func (p *settled) fill(a *broker.Ack) error {
	if p.Sub == 0 {
		return invalid("sub is missing")
	}
	if len(p.Seqs.Items)+len(p.Ranges.Items) == 0 {
		return invalid("seqs or ranges are missing")
	}
	a.Sub = p.Sub
	a.Ranges = make([]broker.SeqRange, 0, len(p.Seqs.Items)+len(p.Ranges.Items))
	for _, seq := range p.Seqs.Items {
		if seq < 1 || seq > parley.MaxSeq {
			return invalid("a seq is from 1 to 2^53")
		}
		a.Ranges = append(a.Ranges, broker.SeqRange{First: seq, Last: seq})
	}
	for _, r := range p.Ranges.Items {
		if r[0] < 1 || r[1] < r[0] || r[1] > parley.MaxSeq {
			return invalid("a range is two seqs from 1 to 2^53, the lower first")
		}
		a.Ranges = append(a.Ranges, broker.SeqRange{First: r[0], Last: r[1]})
	}
	return nil
}

func ack(call jsonrpc.Call) (protocol.Request, error) {
	p := bounded()
	if err := call.Params.Decode(&p); err != nil {
		return nil, err
	}
	r := &protocol.Ack{Ack: broker.Ack{Ref: call.ID}}
	return r, p.fill(&r.Ack)
}

type nakParams struct {
	settled `json:",inline"`

	DelayMS *int64 `json:"delay_ms"`
	Dead    bool   `json:"dead"`
	Reason  string `json:"reason"`
}

func nak(call jsonrpc.Call) (protocol.Request, error) {
	p := nakParams{settled: bounded()}
	if err := call.Params.Decode(&p); err != nil {
		return nil, err
	}
	r := &protocol.Ack{Ack: broker.Ack{Ref: call.ID, Nak: true, Dead: p.Dead, Reason: p.Reason}}
	var err error
	if r.Delay, err = millis("delay_ms", p.DelayMS, 0, maxNakDelay); err != nil {
		return nil, err
	}
	switch {
	case p.Dead && p.DelayMS != nil:
		return nil, invalid("what is dead has no delay_ms")
	case p.Reason != "" && !p.Dead:
		return nil, invalid("reason needs dead")
	case len(p.Reason) > maxReasonBytes || strings.ContainsFunc(p.Reason, unicode.IsControl):
		return nil, invalid("reason has at most 255 bytes and no control characters")
	}
	return r, p.fill(&r.Ack)
}

type inboxHistoryParams struct {
	Peer       *string `json:"peer"`
	pageParams `json:",inline"`
}

func inboxHistory(call jsonrpc.Call) (protocol.Request, error) {
	var p inboxHistoryParams
	if err := call.Params.Decode(&p); err != nil {
		return nil, err
	}
	r := &protocol.History{Ref: call.ID}
	if p.Peer != nil {
		var err error
		if r.Peer, err = parley.ParseUser(*p.Peer); err != nil {
			return nil, err
		}
	}
	return r, p.fill(r)
}

func markRead(call jsonrpc.Call) (protocol.Request, error) {
	var p struct {
		Seq *parley.Seq `json:"seq"`
	}
	if err := call.Params.Decode(&p); err != nil {
		return nil, err
	}
	if p.Seq == nil {
		return nil, invalid("seq is missing")
	}
	seq, err := seqOf("seq", p.Seq)
	return &protocol.MarkRead{MarkRead: broker.MarkRead{Ref: call.ID, Seq: seq}}, err
}

// appendDeliveries appends messages that are to be acknowledged. Attempts stand
// before the messages, so that these are the same for all who get them.
func appendDeliveries(dst []byte, e *broker.Deliveries) []byte {
	dst = appendNotice(dst, "msg.recv", e.Sub)
	if e.Attempts != nil {
		dst = append(dst, `,"attempts":[`...)
		for i, n := range e.Attempts {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = strconv.AppendInt(dst, int64(n), 10)
		}
		dst = append(dst, ']')
	}
	dst = append(dst, `,"messages":[`...)
	dst = jsonform.AppendMessages(dst, e.Messages)
	return append(dst, deliveryTail...)
}

func appendAcked(dst []byte, e *broker.Acked) []byte {
	if e.Ref == "" {
		return dst
	}
	dst = appendInt(jsonrpc.AppendResult(dst, e.Ref), `{"count":`, int64(e.Count))
	dst = append(dst, `,"cursor":`...)
	return append(jsonform.AppendSeq(dst, e.Cursor), `}}`...)
}

// appendReadMarker is both an answer and an event.
func appendReadMarker(dst []byte, e *broker.ReadMarker) []byte {
	switch {
	case e.Ref != "":
		dst = append(jsonrpc.AppendResult(dst, e.Ref), '{')
	case e.Sub != nil:
		dst = append(appendNotice(dst, "inbox.read", e.Sub), ',')
	default:
		return dst
	}
	dst = append(dst, `"seq":`...)
	dst = jsonform.AppendSeq(dst, e.Seq)
	return append(appendInt(dst, `,"unread":`, int64(e.Unread)), `}}`...)
}
