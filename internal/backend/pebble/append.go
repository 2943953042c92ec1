package pebble

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// Append implements backend.Log. All entries are stored by one commit, or none.
func (db *DB) Append(ctx context.Context, entries []backend.Entry) ([]backend.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, nil
	}
	if err := db.space.admit(sizeOf(entries)); err != nil {
		return nil, err
	}
	results := make([]backend.Result, len(entries))
	batch, last, err := db.prepare(entries, results)
	if err != nil {
		return nil, err
	}
	defer func() { _ = batch.Close() }()
	began := time.Now()
	if err := db.wait(batch); err != nil {
		return nil, fmt.Errorf("pebble: commit: %w", err)
	}
	db.commit.Add(int64(time.Since(began)))
	db.advance(last)
	return results, nil
}

// wait returns when a queued commit is durable. When that fails nobody knows
// what is on disk.
func (db *DB) wait(batch *pebble.Batch) error {
	err := batch.SyncWait()
	if err != nil {
		db.opt.Fatal("commit: " + err.Error())
	}
	return err
}

// sizeOf is what a commit of entries takes at most. Each message may need a
// posting of its own for each topic above it, below the root.
func sizeOf(entries []backend.Entry) int64 {
	n := 0
	for _, e := range entries {
		topic := string(e.Message.Topic)
		n += e.Message.Size() + (strings.Count(topic, "/")-1)*(len(topic)+postingBytes)
	}
	return int64(n)
}

// postingBytes is what a posting of one message takes beside its topic.
const postingBytes = 32

// advance raises the watermark. The WAL is synced in order: when a commit is
// durable, so are all before it.
func (db *DB) advance(last parley.Seq) {
	for {
		now := db.durable.Load()
		if uint64(last) <= now || db.durable.CompareAndSwap(now, uint64(last)) {
			return
		}
	}
}

// prepare numbers and encodes the entries and queues their commit, so that
// commits are in the order of their seqs.
func (db *DB) prepare(entries []backend.Entry, results []backend.Result) (*pebble.Batch, parley.Seq, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	batch := db.db.NewBatch()
	now := db.opt.Now().Truncate(time.Microsecond)
	if err := db.stage(batch, entries, results, now); err != nil {
		return nil, 0, fmt.Errorf("pebble: prepare: %w", err)
	}
	if err := db.putUsage(batch); err != nil {
		return nil, 0, fmt.Errorf("pebble: prepare: %w", err)
	}
	if err := db.putLast(batch); err != nil {
		return nil, 0, fmt.Errorf("pebble: prepare: %w", err)
	}
	if err := db.db.ApplyNoSyncWait(batch, pebble.Sync); err != nil {
		return nil, 0, fmt.Errorf("pebble: commit: %w", err)
	}
	db.usage.settle()
	return batch, db.last, nil
}

func (db *DB) putLast(batch *pebble.Batch) error {
	v := binary.BigEndian.AppendUint64(nil, uint64(db.last))
	v = binary.BigEndian.AppendUint64(v, uint64(db.keys))
	return batch.Set(metaKey("last"), binary.BigEndian.AppendUint64(v, uint64(db.id)), nil)
}

// stage writes the entries into batch: groups them by stream, gives each group
// consecutive seqs, and ends a block where it is full.
func (db *DB) stage(batch *pebble.Batch, entries []backend.Entry, results []backend.Result, now time.Time) error {
	b := &db.build
	b.reset(now)
	db.usage.reset()
	known := dedup{db: db, batch: batch, start: db.windowStart()}
	left := false // the last that did not go along was not stored
	for i := range entries {
		switch {
		case entries[i].Along && left:
			known.along = true
			continue
		case entries[i].Along:
		case entries[i].Quota > 0 && db.over(entries[i:], &results[i]):
			if err := known.repeated(&entries[i], &results[i], i); err != nil {
				return err
			}
			left = true
			continue
		case entries[i].Key == "":
			left = false
		default:
			fresh, err := known.check(&entries[i], &results[i], i, (len(entries)-i+1)/2)
			if err != nil {
				return err
			}
			if left = !fresh; left {
				continue
			}
		}
		b.add(i, entries[i].Message.Topic)
		db.usage.charge(entries[i].Message)
	}
	for _, g := range b.sorted() {
		if err := db.stageGroup(batch, g, entries, results); err != nil {
			return err
		}
	}
	return known.finish(entries, results)
}

// stageGroup writes one stream's messages as blocks.
func (db *DB) stageGroup(batch *pebble.Batch, g *group, entries []backend.Entry, results []backend.Result) error {
	b := &db.build
	first := max(db.last+1, parley.Seq(max(0, b.time)))
	if first+parley.Seq(len(g.entries)) >= parley.MaxSeq {
		return fmt.Errorf("the clock says %d µs, beyond the last seq: %w", b.time, parley.ErrUnavailable)
	}
	b.begin()
	var prev *parley.Message
	seq := first
	for _, i := range g.entries {
		m := entries[i].Message
		m.Seq, m.Time = seq, b.now
		results[i].Seq = seq
		path := string(m.Topic[1+len(g.stream):])
		b.message(m, prev, path)
		prev = m
		seq++
		if b.full() {
			if err := db.flush(batch, g.stream, first); err != nil {
				return err
			}
			first, prev = seq, nil
			b.begin()
		}
	}
	db.last = seq - 1
	return db.flush(batch, g.stream, first)
}

func (db *DB) flush(batch *pebble.Batch, s parley.Stream, first parley.Seq) error {
	if t := db.totals[s]; t != nil {
		t.messages += db.build.head.count
		t.bytes += db.build.head.size
	}
	return db.build.flush(batch, s, first)
}
