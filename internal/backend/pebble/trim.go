package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// total is what a stream holds above its floor. It is counted when a stream is
// first trimmed by count or bytes, and kept up from then on, so that trimming
// costs what it drops and not what it keeps.
type total struct {
	messages int
	bytes    int64
}

// maxTotals bounds the streams whose totals are remembered; the others are
// counted again.
const maxTotals = 100_000

// trimBlocks is how many blocks one commit drops.
const trimBlocks = 256

// Trim implements backend.Log.
func (db *DB) Trim(ctx context.Context, s parley.Stream, r backend.Retention) (parley.Seq, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	db.trim.Lock()
	defer db.trim.Unlock()
	floor, err := floorIn(db.db, s)
	if err != nil {
		return 0, fmt.Errorf("pebble: trim: %w", err)
	}
	have := &total{}
	if r.Messages > 0 || r.Bytes > 0 {
		if have, err = db.total(ctx, s); err != nil {
			return 0, fmt.Errorf("pebble: trim: %w", err)
		}
	}
	for {
		next, more, err := db.trimSome(ctx, s, floor, r, have)
		if err != nil {
			return floor, fmt.Errorf("pebble: trim: %w", err)
		}
		if floor = next; !more {
			return floor, nil
		}
	}
}

// total finds what the stream holds. The caller holds db.trim.
func (db *DB) total(ctx context.Context, s parley.Stream) (*total, error) {
	db.mu.Lock()
	if t := db.totals[s]; t != nil {
		have := *t
		db.mu.Unlock()
		return &have, nil
	}
	if len(db.totals) >= maxTotals {
		clear(db.totals)
	}
	// From here on Append counts what comes, and the walk what was there: all
	// up to last has been given to Pebble.
	sum := &total{}
	db.totals[s] = sum
	last := db.last
	db.mu.Unlock()
	counted, err := db.count(ctx, s, last)
	db.mu.Lock()
	defer db.mu.Unlock()
	if err != nil {
		delete(db.totals, s)
		return nil, err
	}
	sum.messages += counted.messages
	sum.bytes += counted.bytes
	have := *sum
	return &have, nil
}

// count adds up what the stream holds up to last, durable or not.
func (db *DB) count(ctx context.Context, s parley.Stream, last parley.Seq) (total, error) {
	w, err := db.walk(ctx, backend.Query{Stream: s})
	if err != nil {
		return total{}, err
	}
	defer w.close()
	w.before = last + 1
	sum := total{}
	for w.next() {
		n, size, err := w.above(w.floor)
		if err != nil {
			return total{}, err
		}
		sum.messages += n
		sum.bytes += size
	}
	return sum, w.err
}

// above counts the block's messages beyond floor.
func (w *walk) above(floor parley.Seq) (messages int, bytes int64, err error) {
	if w.first > floor {
		return w.head.count, w.head.size, nil
	}
	all, err := w.stored()
	for _, m := range all {
		if m.Seq > floor {
			messages++
			bytes += int64(m.Size())
		}
	}
	return messages, bytes, err
}

// stored decodes all messages of the block, the expired ones too.
func (w *walk) stored() ([]*parley.Message, error) {
	whole := *w
	whole.after, whole.before, whole.now, whole.path, whole.q.Params = 0, parley.MaxSeq, 0, "", nil
	return whole.messages()
}

// trimSome drops up to trimBlocks blocks, and raises the floor into the block
// where r is met. More says that r is not met yet.
func (db *DB) trimSome(ctx context.Context, s parley.Stream, floor parley.Seq, r backend.Retention, have *total) (parley.Seq, bool, error) {
	w, err := db.walk(ctx, backend.Query{Stream: s})
	if err != nil {
		return floor, false, err
	}
	defer w.close()
	batch := db.db.NewBatch()
	defer func() { _ = batch.Close() }()
	old, before := floor, *have
	freed := db.tally()
	for n := 0; w.next(); n++ {
		if n == trimBlocks {
			return floor, true, db.commitTrim(batch, s, floor, before.to(have), freed)
		}
		cut, err := w.cut(old, r, have)
		if err != nil {
			return old, false, err
		}
		if cut > floor {
			floor = cut
		}
		if err := freed.block(w, old, cut); err != nil {
			return old, false, err
		}
		if cut < w.head.last(w.first) {
			break
		}
		if err := w.drop(batch); err != nil {
			return old, false, err
		}
	}
	if w.err != nil || floor == old {
		return old, false, w.err
	}
	return floor, false, db.commitTrim(batch, s, floor, before.to(have), freed)
}

// cut decides how far into the block at hand r reaches, as a seq, and takes what
// goes from have.
func (w *walk) cut(floor parley.Seq, r backend.Retention, have *total) (parley.Seq, error) {
	last := w.head.last(w.first)
	byAge := !r.Before.IsZero() && w.head.time < ceilMicro(r.Before)
	if byAge || r.Through >= last {
		n, size, err := w.above(floor)
		have.messages -= n
		have.bytes -= size
		return last, err
	}
	if r.Through < w.first && !have.exceeds(r) {
		return floor, nil
	}
	if rest := (total{have.messages - w.head.count, have.bytes - w.head.size}); w.first > floor && rest.exceeds(r) {
		*have = rest
		return last, nil
	}
	cut := floor
	messages, err := w.stored()
	for _, m := range messages {
		if m.Seq > floor {
			if m.Seq > r.Through && !have.exceeds(r) {
				break
			}
			have.messages--
			have.bytes -= int64(m.Size())
		}
		cut = m.Seq
	}
	return cut, err
}

func (t *total) exceeds(r backend.Retention) bool {
	return r.Messages > 0 && t.messages > r.Messages || r.Bytes > 0 && t.bytes > r.Bytes
}

// drop deletes the block at hand and what points to it.
func (w *walk) drop(batch *pebble.Batch) error {
	if err := batch.Delete(blockKey(nil, w.q.Stream, w.first), nil); err != nil {
		return err
	}
	if w.head.flags&blockIndexed == 0 {
		return nil
	}
	p, err := inflate(w.head, w.value)
	if err != nil {
		return err
	}
	gone := map[string]bool{}
	r := reader{rest: p}
	for r.next() {
		if gone[string(r.path)] { // as most are; this allocates nothing
			continue
		}
		for path := string(r.path); path != "" && !gone[path]; path = path[:strings.LastIndexByte(path, '/')] {
			gone[path] = true
			if err := batch.Delete(topicKey(nil, w.q.Stream, path, w.first), nil); err != nil {
				return err
			}
		}
	}
	return r.err
}

// to is how t became have.
func (t *total) to(have *total) total {
	return total{messages: have.messages - t.messages, bytes: have.bytes - t.bytes}
}

// commitTrim raises the floor and drops what is below in one commit; change is that
// of the stream's total.
func (db *DB) commitTrim(batch *pebble.Batch, s parley.Stream, floor parley.Seq, change total, freed *tally) error {
	if err := batch.Set(floorKey(s), binary.BigEndian.AppendUint64(nil, uint64(floor)), nil); err != nil {
		return err
	}
	if err := db.space.spare(int64(batch.Len())); err != nil {
		return err
	}
	// It takes a seq, so that the mark, which knows seqs only, tells when the
	// commit is lost and what was removed is back.
	db.mu.Lock()
	db.last++
	last := db.last
	err := errors.Join(db.putFreed(batch, freed), db.putLast(batch))
	if err == nil {
		err = db.db.ApplyNoSyncWait(batch, pebble.Sync)
	}
	if err == nil {
		db.usage.settle()
	}
	db.mu.Unlock()
	if err == nil {
		err = db.wait(batch)
	}
	if err != nil {
		return err
	}
	db.advance(last)
	db.space.trimmed(s, floor)
	db.mu.Lock()
	defer db.mu.Unlock()
	if t := db.totals[s]; t != nil {
		t.messages += change.messages
		t.bytes += change.bytes
	}
	return nil
}

// Stats is a snapshot of the store for its operator.
type Stats struct {
	Last           parley.Seq    // the last durable seq
	DiskBytes      uint64        // all files
	WALBytes       uint64        // of them, the live write-ahead log
	MemTableBytes  uint64        // memory for what is not flushed yet
	CompactionDebt uint64        // bytes that compactions have yet to rewrite
	L0Files        int64         // tables that no compaction has sorted yet
	DedupKeys      int64         // idempotency keys in the window
	SyncTime       time.Duration // spent waiting for fsyncs in all
	DamagedFiles   int           // files that a read found damaged since Open
}

// Stats takes a snapshot. It costs some microseconds.
func (db *DB) Stats() Stats {
	m := db.db.Metrics()
	db.mu.Lock()
	keys := db.keys
	db.mu.Unlock()
	return Stats{
		Last:           parley.Seq(db.durable.Load()),
		DiskBytes:      m.DiskSpaceUsage(),
		WALBytes:       m.WAL.Size,
		MemTableBytes:  m.MemTable.Size,
		CompactionDebt: m.Compact.EstimatedDebt,
		L0Files:        m.Levels[0].TablesCount,
		DedupKeys:      keys,
		SyncTime:       time.Duration(db.commit.Load()),
		DamagedFiles:   db.damage.count(),
	}
}
