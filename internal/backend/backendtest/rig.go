package backendtest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// rig is a log under test beside the model of it. Each of its methods does
// something to both and fails the test where they differ.
type rig struct {
	*testing.T
	log  backend.Log
	want *model
	// passed is, per stream, the highest Next of a read that came to the end: a
	// message stored later at or below it would be missed by that reader.
	passed map[parley.Stream]parley.Seq
}

func newRig(t *testing.T, log backend.Log) *rig {
	return &rig{T: t, log: log, want: newModel(), passed: make(map[parley.Stream]parley.Seq)}
}

// message makes a message to append.
func message(topic, body string) *parley.Message {
	return &parley.Message{Topic: parley.Topic(topic), Body: []byte(body)}
}

// entries makes one entry without a key for each message.
func entries(messages ...*parley.Message) []backend.Entry {
	list := make([]backend.Entry, len(messages))
	for i, m := range messages {
		list[i].Message = m
	}
	return list
}

// publish appends one message and returns its seq.
func (r *rig) publish(topic, body string) parley.Seq {
	r.Helper()
	return r.append(entries(message(topic, body)))[0].Seq
}

// append appends the entries and checks every result.
func (r *rig) append(list []backend.Entry) []backend.Result {
	r.Helper()
	before := time.Now()
	results, err := r.log.Append(r.Context(), list)
	after := time.Now()
	if err != nil {
		r.Fatalf("Append of %d entries: %v", len(list), err)
	}
	if len(results) != len(list) {
		r.Fatalf("Append of %d entries: %d results", len(list), len(results))
	}
	lead := backend.Result{}
	for i, e := range list {
		if !e.Along {
			lead = results[i]
		} else if lead.Duplicate || lead.Err != nil {
			if got := results[i]; got.Seq != 0 || got.Duplicate != lead.Duplicate || (got.Err == nil) != (lead.Err == nil) {
				r.Fatalf("Append, entry %d goes along with %+v, and has %+v", i, lead, got)
			}
			continue
		}
		if fault := r.judge(e, results[i]); fault != "" {
			r.Fatalf("Append, entry %d of %d (%s, key %q): %s; result %+v",
				i, len(list), e.Message.Topic, e.Key, fault, results[i])
		}
		if results[i].Duplicate || results[i].Err != nil {
			continue
		}
		// The time is the log's, whose clock may be another machine's.
		if tm := e.Message.Time; tm.Before(before.Add(-time.Minute)) || tm.After(after.Add(time.Minute)) ||
			!tm.Equal(tm.Truncate(time.Microsecond)) {
			r.Fatalf("Append, entry %d: time %v, want whole microseconds around %v", i, tm, before)
		}
		r.want.add(e)
	}
	return results
}

// judge says what is wrong with an entry's result, or is empty.
func (r *rig) judge(e backend.Entry, got backend.Result) string {
	first := r.want.first(e)
	switch {
	case first != nil && !samePayload(first, e.Message):
		if !errors.Is(got.Err, parley.ErrConflict) {
			return "key of another payload, want ErrConflict"
		}
	case got.Err != nil:
		return "unexpected error"
	case first != nil:
		if !got.Duplicate || got.Seq != first.Seq {
			return fmt.Sprintf("want a duplicate of seq %d", first.Seq)
		}
	case got.Duplicate:
		return "not a duplicate"
	case got.Seq <= r.want.stream(e.Message.Topic.Stream()).last:
		return fmt.Sprintf("seq not above %d", r.want.stream(e.Message.Topic.Stream()).last)
	case got.Seq <= r.passed[e.Message.Topic.Stream()]:
		return fmt.Sprintf("a reader has already passed seq %d", r.passed[e.Message.Topic.Stream()])
	case got.Seq >= parley.MaxSeq:
		return "seq not below MaxSeq"
	case e.Message.Seq != got.Seq:
		return fmt.Sprintf("the message's seq is %d", e.Message.Seq)
	}
	return ""
}

// expect reads and counts what q selects and returns it; it follows Next
// through all pages of at most q.Limit messages and q.MaxBytes bytes.
func (r *rig) expect(q backend.Query) []*parley.Message {
	r.Helper()
	want := r.want.find(q)
	got := r.readAll(q)
	if fault := compare(got, want); fault != "" {
		r.Fatalf("Read %s: %s", describe(q), fault)
	}
	r.count(q)
	return got
}

// readAll follows Next through all pages, and checks each page on its own.
func (r *rig) readAll(q backend.Query) []*parley.Message {
	r.Helper()
	var all []*parley.Message
	for {
		page, err := r.log.Read(r.Context(), q)
		if err != nil {
			r.Fatalf("Read %s: %v", describe(q), err)
		}
		if fault := r.judgePage(q, page); fault != "" {
			r.Fatalf("Read %s: %s; %d messages, next %d, more %v, floor %d",
				describe(q), fault, len(page.Messages), page.Next, page.More, page.Floor)
		}
		all = append(all, page.Messages...)
		if !page.More {
			return all
		}
		if q.Reverse {
			q.Before = page.Next
		} else {
			q.After = page.Next
		}
	}
}

// judgePage says what is wrong with a page, or is empty. What the messages are
// is the caller's to check.
func (r *rig) judgePage(q backend.Query, page backend.Page) string {
	h := r.want.stream(q.Stream)
	size := 0
	for i, m := range page.Messages {
		if q.MaxBytes > 0 && size >= q.MaxBytes {
			return fmt.Sprintf("goes on after %d bytes at message %d", size, i)
		}
		size += m.Size()
	}
	switch {
	case q.Limit > 0 && len(page.Messages) > q.Limit:
		return "more than Limit messages"
	case page.Floor != h.floor:
		return fmt.Sprintf("want floor %d", h.floor)
	case q.Reverse:
		return judgeReverse(q, page)
	case page.Next < q.After, len(page.Messages) > 0 && page.Next < page.Messages[len(page.Messages)-1].Seq:
		return "Next lies before what was read"
	case page.More && page.Next <= q.After:
		return "More without progress"
	case !page.More && q.Before == 0 && page.Next < h.last:
		return fmt.Sprintf("the read came to the end at %d, but Next has not passed over it", h.last)
	}
	if seq := r.missed(q, page); seq != 0 {
		return fmt.Sprintf("Next has passed over seq %d, which was not read", seq)
	}
	if q.Before == 0 && q.Since.IsZero() && page.Next > q.After {
		r.passed[q.Stream] = max(r.passed[q.Stream], page.Next)
	}
	return ""
}

// missed is the first seq, if there is one, that a reader who goes on from Next
// without the upper bound would never get.
func (r *rig) missed(q backend.Query, page backend.Page) parley.Seq {
	if n := len(page.Messages); n > 0 {
		q.After = page.Messages[n-1].Seq
	}
	q.Before = 0
	if rest := r.want.find(q); len(rest) > 0 && rest[0].Seq <= page.Next {
		return rest[0].Seq
	}
	return 0
}

func judgeReverse(q backend.Query, page backend.Page) string {
	switch {
	case len(page.Messages) > 0 && page.Next > page.Messages[len(page.Messages)-1].Seq:
		return "Next lies above what was read"
	case page.More && page.Next == 0:
		return "More, but Next 0 bounds nothing"
	case page.More && q.Before != 0 && page.Next >= q.Before:
		return "More without progress"
	}
	return ""
}

// count checks what Count answers to q.
func (r *rig) count(q backend.Query) backend.Span {
	r.Helper()
	got, err := r.log.Count(r.Context(), q)
	if err != nil {
		r.Fatalf("Count %s: %v", describe(q), err)
	}
	if want := r.want.count(q); got != want {
		r.Fatalf("Count %s: %+v, want %+v", describe(q), got, want)
	}
	return got
}

// trim trims a stream and checks the floor: it lies at or above the last
// message dropped and below the first one kept.
func (r *rig) trim(s parley.Stream, retention backend.Retention) {
	r.Helper()
	h := r.want.stream(s)
	dropped := r.want.trim(s, retention)
	floor, err := r.log.Trim(r.Context(), s, retention)
	if err != nil {
		r.Fatalf("Trim %q %+v: %v", s, retention, err)
	}
	if floor < h.floor || len(h.messages) > 0 && floor >= h.messages[0].Seq {
		r.Fatalf("Trim %q %+v dropped %d: floor %d, want at least %d and below what is kept",
			s, retention, dropped, floor, h.floor)
	}
	h.floor = floor
	if len(h.messages) == 0 {
		h.last = max(h.last, floor)
	}
	r.bounds(s)
	r.expect(backend.Query{Stream: s})
}

// bounds checks what Bounds answers.
func (r *rig) bounds(s parley.Stream) {
	r.Helper()
	floor, last, err := r.log.Bounds(r.Context(), s)
	if err != nil {
		r.Fatalf("Bounds %q: %v", s, err)
	}
	if h := r.want.stream(s); floor != h.floor || last != h.last {
		r.Fatalf("Bounds %q: floor %d, last %d, want %d, %d", s, floor, last, h.floor, h.last)
	}
}

// streams checks what Streams yields.
func (r *rig) streams() {
	r.Helper()
	var got []parley.Stream
	for s, err := range r.log.Streams(r.Context(), "") {
		if err != nil {
			r.Fatalf("Streams: %v", err)
		}
		got = append(got, s)
	}
	want := r.want.names()
	if !slices.Equal(got, want) {
		r.Fatalf("Streams: %q, want %q", got, want)
	}
	if len(want) == 0 {
		return
	}
	for _, from := range []parley.Stream{want[len(want)/2], want[len(want)/2] + "\x01"} {
		got = nil
		for s, err := range r.log.Streams(r.Context(), from) {
			if err != nil {
				r.Fatalf("Streams from %q: %v", from, err)
			}
			got = append(got, s)
		}
		i, _ := slices.BinarySearch(want, from)
		if !slices.Equal(got, want[i:]) {
			r.Fatalf("Streams from %q: %q, want %q", from, got, want[i:])
		}
	}
}

// everything checks all that the log says about every stream of the model.
func (r *rig) everything() {
	r.Helper()
	r.streams()
	for s := range r.want.streams {
		r.bounds(s)
		r.expect(backend.Query{Stream: s})
		r.expect(backend.Query{Stream: s, Reverse: true, Limit: 7})
	}
}

// compare says where got differs from want, or is empty.
func compare(got, want []*parley.Message) string {
	for i := range min(len(got), len(want)) {
		if d := difference(got[i], want[i]); d != "" {
			return fmt.Sprintf("message %d of %d differs in %s: got %s, want %s", i, len(want), d, brief(got[i]), brief(want[i]))
		}
	}
	if len(got) != len(want) {
		return fmt.Sprintf("%d messages, want %d", len(got), len(want))
	}
	return ""
}

func brief(m *parley.Message) string {
	if m == nil {
		return "nil"
	}
	body := m.Body
	if len(body) > 40 {
		body = body[:40]
	}
	return fmt.Sprintf("%d %s %q", m.Seq, m.Topic, body)
}

func describe(q backend.Query) string {
	s := fmt.Sprintf("{%s", q.Stream.Topic())
	if q.Topic != "" {
		s += fmt.Sprintf(" topic %s", q.Topic)
	}
	s += fmt.Sprintf(" after %d before %d limit %d bytes %d", q.After, q.Before, q.Limit, q.MaxBytes)
	if !q.Since.IsZero() {
		s += " since " + q.Since.Format(time.RFC3339Nano)
	}
	if !q.Now.IsZero() {
		s += " now " + q.Now.Format(time.RFC3339Nano)
	}
	if q.Params != nil {
		s += fmt.Sprintf(" params %v", q.Params)
	}
	if q.Reverse {
		s += " reverse"
	}
	return s + "}"
}

// random returns a source of random numbers and prints what repeats them.
func random(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	if s := os.Getenv("PARLEY_TEST_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("PARLEY_TEST_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("PARLEY_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, seed))
}

// pattern makes n bytes in which every value occurs and that do not repeat
// with the length of a block.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i + i/251)
	}
	return p
}
