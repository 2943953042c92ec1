package backendtest

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// model is what a log should hold, in the plainest form. It does not choose
// seqs and times: it is told those that the log under test chose.
type model struct {
	streams map[parley.Stream]*history
	keys    map[place]*parley.Message // the first message of each key
}

// history is what one stream should hold.
type history struct {
	messages []*parley.Message // in order of seq
	floor    parley.Seq
	last     parley.Seq
}

type place struct {
	stream parley.Stream
	key    string
}

func newModel() *model {
	return &model{streams: make(map[parley.Stream]*history), keys: make(map[place]*parley.Message)}
}

// stream returns the stream's history, which is empty for an unknown stream.
func (m *model) stream(s parley.Stream) *history {
	h := m.streams[s]
	if h == nil {
		h = &history{}
		m.streams[s] = h
	}
	return h
}

// first returns the message that an earlier entry with the same key stored.
func (m *model) first(e backend.Entry) *parley.Message {
	if e.Key == "" {
		return nil
	}
	return m.keys[place{e.Message.Topic.Stream(), e.Key}]
}

// add takes one stored entry.
func (m *model) add(e backend.Entry) {
	s := e.Message.Topic.Stream()
	h := m.stream(s)
	h.messages = append(h.messages, e.Message)
	h.last = e.Message.Seq
	if e.Key != "" {
		m.keys[place{s, e.Key}] = e.Message
	}
}

// find returns all messages that q selects, its Limit and MaxBytes aside.
func (m *model) find(q backend.Query) []*parley.Message {
	now := q.Now
	if now.IsZero() {
		now = time.Now()
	}
	var found []*parley.Message
	for _, msg := range m.stream(q.Stream).messages {
		switch {
		case msg.Seq <= q.After, q.Before != 0 && msg.Seq >= q.Before:
		case q.Topic != "" && !q.Topic.Covers(msg.Topic):
		case msg.Time.Before(q.Since), msg.Expired(now):
		case q.Params != nil && !msg.Matches(q.Params):
		default:
			found = append(found, msg)
		}
	}
	if q.Reverse {
		slices.Reverse(found)
	}
	return found
}

// count is what Count should answer.
func (m *model) count(q backend.Query) backend.Span {
	found := m.find(q)
	if q.Limit > 0 && len(found) > q.Limit {
		found = found[:q.Limit]
	}
	if len(found) == 0 {
		return backend.Span{}
	}
	first, last := found[0].Seq, found[len(found)-1].Seq
	return backend.Span{Count: len(found), First: min(first, last), Last: max(first, last)}
}

// trim drops what r does not keep and returns how many messages that are.
func (m *model) trim(s parley.Stream, r backend.Retention) int {
	h := m.stream(s)
	kept, bytes := 0, int64(0)
	for _, msg := range slices.Backward(h.messages) {
		bytes += int64(msg.Size())
		if msg.Seq <= r.Through || msg.Time.Before(r.Before) ||
			r.Messages > 0 && kept == r.Messages || r.Bytes > 0 && bytes > r.Bytes {
			break
		}
		kept++
	}
	dropped := len(h.messages) - kept
	if dropped > 0 {
		h.floor = max(h.floor, h.messages[dropped-1].Seq)
		h.messages = slices.Clone(h.messages[dropped:])
	}
	return dropped
}

// names lists the streams that hold messages, in order.
func (m *model) names() []parley.Stream {
	var names []parley.Stream
	for _, s := range slices.Sorted(maps.Keys(m.streams)) {
		if len(m.streams[s].messages) > 0 {
			names = append(names, s)
		}
	}
	return names
}

// difference says in what got differs from want, or is empty.
func difference(got, want *parley.Message) string {
	switch {
	case got == nil:
		return "message is nil"
	case got.Seq != want.Seq:
		return "Seq"
	case got.Topic != want.Topic:
		return "Topic"
	case !got.Time.Equal(want.Time):
		return "Time"
	case !got.Expires.Equal(want.Expires):
		return "Expires"
	case got.ID != want.ID:
		return "ID"
	case got.Sender != want.Sender:
		return "Sender"
	case got.Header != want.Header:
		return "Header"
	case string(got.Body) != string(want.Body):
		return "Body"
	case !maps.Equal(got.Filters, want.Filters):
		return "Filters"
	case want.Filters == nil && got.Filters != nil:
		return "Filters that were nil"
	}
	return ""
}

// samePayload is whether two entries of one key are the same publish.
func samePayload(a, b *parley.Message) bool {
	return cmp.Compare(string(a.Body), string(b.Body)) == 0
}
