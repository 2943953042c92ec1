package pebble

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// The size of a page where a query does not say.
const (
	pageMessages = 1000
	pageBytes    = 1 << 20
)

// Read implements backend.Log.
func (db *DB) Read(ctx context.Context, q backend.Query) (backend.Page, error) {
	w, err := db.walk(ctx, q)
	if err != nil {
		return backend.Page{}, fmt.Errorf("pebble: read: %w", err)
	}
	defer w.close()
	page := backend.Page{Floor: w.floor}
	limit, bytes := cmp.Or(q.Limit, pageMessages), cmp.Or(q.MaxBytes, pageBytes)
	for !page.More && w.next() {
		page.More, err = w.take(&page, limit, &bytes)
		if err != nil {
			return backend.Page{}, fmt.Errorf("pebble: read: %w", err)
		}
	}
	if w.err != nil {
		return backend.Page{}, fmt.Errorf("pebble: read: %w", w.err)
	}
	if !page.More {
		page.Next = w.end()
	}
	return page, nil
}

// Count implements backend.Log. It reads blocks' heads and topics' postings, and
// messages only where some may have expired or a bound cuts through a block.
func (db *DB) Count(ctx context.Context, q backend.Query) (backend.Span, error) {
	w, err := db.walk(ctx, q)
	if err != nil {
		return backend.Span{}, fmt.Errorf("pebble: count: %w", err)
	}
	defer w.close()
	span := backend.Span{}
	limit := cmp.Or(q.Limit, math.MaxInt)
	for span.Count < limit && w.next() {
		if err := w.tally(&span, limit); err != nil {
			return backend.Span{}, fmt.Errorf("pebble: count: %w", err)
		}
	}
	if w.err != nil {
		return backend.Span{}, fmt.Errorf("pebble: count: %w", w.err)
	}
	return span, nil
}

// Bounds implements backend.Log.
func (db *DB) Bounds(ctx context.Context, s parley.Stream) (floor, last parley.Seq, err error) {
	w, err := db.walk(ctx, backend.Query{Stream: s, Reverse: true})
	if err != nil {
		return 0, 0, fmt.Errorf("pebble: bounds: %w", err)
	}
	defer w.close()
	if w.next() {
		last = w.head.last(w.first)
	}
	if w.err != nil {
		return 0, 0, fmt.Errorf("pebble: bounds: %w", w.err)
	}
	return w.floor, max(last, w.floor), nil
}

// floorIn reads a stream's floor.
func floorIn(r pebble.Reader, s parley.Stream) (parley.Seq, error) {
	v, err := getIn(r, floorKey(s))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err == nil && len(v) != seqBytes {
		err = errCorrupt
	}
	if err != nil {
		return 0, err
	}
	return parley.Seq(binary.BigEndian.Uint64(v)), nil
}

// Streams implements backend.Log.
func (db *DB) Streams(ctx context.Context, from parley.Stream) iter.Seq2[parley.Stream, error] {
	return func(yield func(parley.Stream, error) bool) {
		if err := ctx.Err(); err != nil {
			yield("", err)
			return
		}
		lower, _ := blockBounds(from)
		it, err := db.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lower, UpperBound: []byte{kindBlock + 1}})
		if err != nil {
			yield("", fmt.Errorf("pebble: streams: %w", err))
			return
		}
		defer func() { _ = it.Close() }()
		for it.First(); it.Valid(); {
			if err := ctx.Err(); err != nil {
				yield("", err)
				return
			}
			s := streamOf(it.Key())
			_, beyond := blockBounds(s)
			if !yield(s, nil) {
				return
			}
			it.SeekGE(beyond)
		}
		if err := it.Error(); err != nil {
			yield("", fmt.Errorf("pebble: streams: %w", err))
		}
	}
}

func since(t time.Time) int64 {
	if t.IsZero() {
		return math.MinInt64
	}
	return ceilMicro(t)
}

// ceilMicro is the first whole microsecond that is not before t.
func ceilMicro(t time.Time) int64 { return t.Add(time.Microsecond - 1).UnixMicro() }
