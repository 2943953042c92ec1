package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// walk visits the blocks that hold what a query selects, in its direction.
// Without a topic it steps through the blocks; with one, through the topic's
// postings, and load fetches the block of the one at hand. It sees the store, the floor
// included, as it was at one moment.
type walk struct {
	ctx     context.Context //nolint:containedctx // a walk lives within one call, whose context it is
	snap    *pebble.Snapshot
	floor   parley.Seq
	it      *pebble.Iterator
	q       backend.Query
	path    string     // below the root; "" is all of the stream
	after   parley.Seq // the query's, or the floor
	before  parley.Seq // the query's, or what is beyond the watermark
	now     int64
	started bool
	err     error

	// The block at hand.
	first   parley.Seq
	head    head
	value   []byte // what follows the head, valid until next
	posting []byte // of the topic, valid until next
}

func (db *DB) walk(ctx context.Context, q backend.Query) (*walk, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if q.Now.IsZero() {
		q.Now = db.opt.Past()
	}
	// What is below the watermark now is in any later snapshot.
	w := &walk{ctx: ctx, q: q, before: parley.Seq(db.durable.Load()) + 1, now: q.Now.UnixMicro(), snap: db.db.NewSnapshot()}
	var err error
	if w.floor, err = floorIn(w.snap, q.Stream); err != nil {
		return nil, errors.Join(err, w.snap.Close())
	}
	w.after = max(q.After, w.floor)
	if q.Before != 0 {
		w.before = min(w.before, q.Before)
	}
	if !q.Since.IsZero() {
		// A seq is never below the time at which it was given.
		w.after = max(w.after, parley.Seq(max(0, ceilMicro(q.Since)-1)))
	}
	lower, upper := blockBounds(q.Stream)
	if q.Topic != "" && q.Topic != q.Stream.Topic() {
		w.path = string(q.Topic[1+len(q.Stream):])
		lower, upper = topicBounds(q.Stream, w.path)
	}
	if w.it, err = w.snap.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lower, UpperBound: upper}); err != nil {
		return nil, errors.Join(err, w.snap.Close())
	}
	return w, nil
}

// close ends the walk. What it could report, next has reported.
func (w *walk) close() {
	_ = w.it.Close()
	_ = w.snap.Close()
}

// end is where a walk that found no more came to: never further than the end of
// the log, even if nothing before a later time was asked for.
func (w *walk) end() parley.Seq {
	if w.q.Reverse {
		return w.after + 1
	}
	return max(w.q.After, w.floor, w.before-1)
}

func (w *walk) key(seq parley.Seq) []byte {
	if w.path == "" {
		return blockKey(nil, w.q.Stream, seq)
	}
	return topicKey(nil, w.q.Stream, w.path, seq)
}

// step moves the iterator to the next key in the query's direction.
func (w *walk) step() bool {
	switch {
	case w.started && w.q.Reverse:
		return w.it.Prev()
	case w.started:
		return w.it.Next()
	}
	w.started = true
	if w.q.Reverse {
		return w.it.SeekLT(w.key(w.before))
	}
	// The block that holds after+1 may begin below it.
	return w.it.SeekLT(w.key(w.after+1)) || w.it.First()
}

// next loads the next block that may hold selected messages.
func (w *walk) next() bool {
	for w.err == nil && w.after+1 < w.before && w.step() {
		w.first = seqOf(w.it.Key())
		if w.first >= w.before {
			return false
		}
		var last parley.Seq
		if w.err = w.ctx.Err(); w.err == nil {
			last, w.err = w.look()
		}
		if w.err != nil {
			return false
		}
		if last > w.after {
			return true
		}
		if w.q.Reverse {
			return false
		}
	}
	if w.err == nil {
		w.err = w.it.Error()
	}
	return false
}

// look reads what the key at hand has, and returns the last seq that it is
// about. A topic's posting is looked at without its block.
func (w *walk) look() (last parley.Seq, err error) {
	value, err := w.it.ValueAndErr()
	if err != nil {
		return 0, err
	}
	if w.path == "" {
		w.head, w.value, err = readHead(value)
		return w.head.last(w.first), err
	}
	w.posting = value
	p := w.positions()
	for p.next() {
		last = w.first + parley.Seq(p.at)
	}
	return last, p.err
}

// load reads the block that a posting is about.
func (w *walk) load() error {
	if w.path == "" {
		return nil
	}
	value, err := getIn(w.snap, blockKey(nil, w.q.Stream, w.first))
	if err == nil {
		w.head, w.value, err = readHead(value)
	}
	return err
}

// wanted reports whether the message at seq is within the query's bounds.
func (w *walk) wanted(seq parley.Seq) bool { return seq > w.after && seq < w.before }

// positions yields which messages of the block the topic covers.
type positions struct {
	all   bool
	rest  []byte
	at    int
	count int
	err   error
}

func (w *walk) positions() positions {
	if w.path == "" {
		return positions{at: -1, all: true, count: w.head.count}
	}
	if len(w.posting) == 0 {
		return positions{err: errCorrupt}
	}
	p := positions{at: -1, rest: w.posting[1:], count: maxBlockMessages}
	if p.all = w.posting[0]&postAll != 0; p.all {
		n, read := binary.Uvarint(p.rest)
		if read <= 0 || n > maxBlockMessages {
			return positions{err: errCorrupt}
		}
		p.count = int(n)
	}
	return p
}

// next moves to the next position.
func (p *positions) next() bool {
	if p.err != nil {
		return false
	}
	if p.all {
		p.at++
		return p.at < p.count
	}
	if len(p.rest) == 0 {
		return false
	}
	v, n := binary.Uvarint(p.rest)
	if n <= 0 || v >= uint64(p.count-p.at-1) {
		p.err = errCorrupt
		return false
	}
	p.at += 1 + int(v)
	p.rest = p.rest[n:]
	return true
}

// conditional reports whether some of the wanted messages may be hidden.
func (w *walk) conditional() bool {
	if w.path == "" {
		return w.head.flags&blockConditional != 0
	}
	return w.posting[0]&postConditional != 0
}

// tally adds the block's messages to span.
func (w *walk) tally(span *backend.Span, limit int) error {
	found, err := w.seqs()
	if err != nil || len(found) == 0 {
		return err
	}
	if excess := span.Count + len(found) - limit; excess > 0 && w.q.Reverse {
		found = found[excess:]
	} else if excess > 0 {
		found = found[:len(found)-excess]
	}
	span.Count += len(found)
	if span.First == 0 || w.q.Reverse {
		span.First = found[0]
	}
	if span.Last == 0 || !w.q.Reverse {
		span.Last = found[len(found)-1]
	}
	return nil
}

// seqs are those of the block's messages that the query selects.
func (w *walk) seqs() ([]parley.Seq, error) {
	if w.conditional() || !w.q.Since.IsZero() {
		if err := w.load(); err != nil || w.head.time < since(w.q.Since) {
			return nil, err
		}
	}
	var live []bool
	if w.conditional() {
		var err error
		if live, err = w.live(); err != nil {
			return nil, err
		}
	}
	var found []parley.Seq
	p := w.positions()
	for p.next() {
		if live != nil && p.at >= len(live) {
			return nil, errCorrupt
		}
		if seq := w.first + parley.Seq(p.at); w.wanted(seq) && (live == nil || live[p.at]) {
			found = append(found, seq)
		}
	}
	return found, p.err
}

// live tells which of the block's messages are not hidden.
func (w *walk) live() ([]bool, error) {
	p, err := inflate(w.head, w.value)
	if err != nil {
		return nil, err
	}
	live := make([]bool, w.head.count)
	r := reader{rest: p}
	for i := range live {
		if !r.next() {
			return nil, errCorrupt
		}
		live[i] = !r.hidden(w.now, w.q.Params)
	}
	return live, nil
}

// take adds the block's messages to page until a bound is reached; full says
// that it was.
func (w *walk) take(page *backend.Page, limit int, bytes *int) (full bool, err error) {
	if err := w.load(); err != nil {
		return false, err
	}
	if w.head.time < since(w.q.Since) {
		return false, nil
	}
	messages, err := w.messages()
	if err != nil {
		return false, err
	}
	for i := range messages {
		m := messages[i]
		if w.q.Reverse {
			m = messages[len(messages)-1-i]
		}
		page.Messages = append(page.Messages, m)
		page.Next = m.Seq
		*bytes -= m.Size()
		if len(page.Messages) >= limit || *bytes <= 0 {
			return true, nil
		}
	}
	return false, nil
}

// messages decodes those of the block that the query selects, in order of seq.
func (w *walk) messages() ([]*parley.Message, error) {
	p, err := inflate(w.head, w.value)
	if err != nil {
		return nil, err
	}
	var (
		r     = reader{rest: p}
		pos   = w.positions()
		slab  = make([]parley.Message, 0, min(w.head.count, 64))
		found []*parley.Message
		prev  *parley.Message
		at    = -1
		now   = time.UnixMicro(w.head.time)
	)
	if pos.all {
		slab = make([]parley.Message, 0, w.head.count)
		found = make([]*parley.Message, 0, w.head.count)
	}
	for pos.next() {
		for ; at < pos.at; at++ {
			if !r.next() {
				return nil, errCorrupt
			}
		}
		seq := w.first + parley.Seq(at)
		if !w.wanted(seq) || r.hidden(w.now, w.q.Params) {
			continue
		}
		if len(slab) == cap(slab) {
			slab = make([]parley.Message, 0, 64)
		}
		slab = append(slab, parley.Message{Seq: seq, Time: now})
		m := &slab[len(slab)-1]
		r.message(m, prev, w.q.Stream)
		found, prev = append(found, m), m
	}
	return found, pos.err
}
