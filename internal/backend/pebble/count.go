package pebble

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parley-im/parley"
)

// countBlocks is how many blocks are looked at together when what was stored
// before is counted: a few milliseconds, in which nothing is trimmed.
const countBlocks = 256

// usageVersion is of what the key "usage" holds: this, whether all is counted,
// since, seq, and the stream.
const (
	usageVersion = 1
	usageHead    = 2 + 2*seqBytes
)

func (st *usageState) encode() []byte {
	v := []byte{usageVersion, 0}
	if st.complete {
		v[1] = 1
	}
	v = binary.BigEndian.AppendUint64(v, uint64(st.since))
	v = binary.BigEndian.AppendUint64(v, uint64(st.seq))
	return append(v, st.stream...)
}

func decodeUsage(v []byte) (usageState, error) {
	if len(v) < usageHead || v[0] != usageVersion || v[1] > 1 {
		return usageState{}, fmt.Errorf("read how far usage is counted: %w", errCorrupt)
	}
	return usageState{
		on: true, complete: v[1] == 1,
		since: parley.Seq(binary.BigEndian.Uint64(v[2:])), seq: parley.Seq(binary.BigEndian.Uint64(v[2+seqBytes:])),
		stream: parley.Stream(v[usageHead:]),
	}, nil
}

// loadUsage reads how far usage is counted.
func (db *DB) loadUsage() error {
	v, err := db.get(metaKey("usage"))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	st, err := decodeUsage(v)
	if err == nil {
		db.usage.set(st)
	}
	return err
}

// StartMetering implements backend.Meter.
func (db *DB) StartMetering(ctx context.Context) error {
	if err := ctx.Err(); err != nil || db.usage.on.Load() {
		return err
	}
	if err := db.beginUsage(); err != nil {
		return fmt.Errorf("pebble: begin to count usage: %w", err)
	}
	_, err := db.countSome(ctx) // of a small store that is all
	return err
}

// beginUsage makes usage count from here on.
func (db *DB) beginUsage() error {
	db.trim.Lock()
	defer db.trim.Unlock()
	batch := db.db.NewBatch()
	defer func() { _ = batch.Close() }()
	db.mu.Lock()
	if db.usage.state.on {
		db.mu.Unlock()
		return nil
	}
	st := usageState{on: true, since: db.last}
	err := errors.Join(
		batch.Set(metaKey("format"), []byte{formatVersion}, nil),
		batch.Set(metaKey("usage"), st.encode(), nil),
		db.space.spare(int64(batch.Len())),
	)
	if err == nil {
		err = db.db.ApplyNoSyncWait(batch, pebble.Sync)
	}
	if err == nil {
		db.usage.set(st)
	}
	db.mu.Unlock()
	if err != nil {
		return err
	}
	return db.wait(batch)
}

// countRetry is how long counting waits after an error, such as a full disk.
const countRetry = time.Minute

// countUsage counts what was stored before usage was.
func (db *DB) countUsage() {
	for {
		select {
		case <-db.stop:
			return
		case <-db.usage.wake:
		}
		wait := time.Duration(0)
		for done := false; !done; {
			select {
			case <-db.stop:
				return
			case <-time.After(wait):
			}
			var err error
			if done, err = db.countSome(context.Background()); err != nil {
				wait = countRetry
				db.opt.Logger.Error("cannot count what users have stored, so that quotas hold too little for now: it is tried again", "in", wait, "error", err)
				continue
			}
			wait = 0
		}
	}
}

// countSome counts the next blocks that were stored before, and reports whether
// that was all.
func (db *DB) countSome(ctx context.Context) (done bool, err error) {
	db.trim.Lock()
	defer db.trim.Unlock()
	st := db.usage.state
	if st.complete {
		return true, nil
	}
	bytes, err := db.countFrom(ctx, &st)
	if err != nil {
		return false, fmt.Errorf("pebble: count usage: %w", err)
	}
	batch := db.db.NewBatch()
	defer func() { _ = batch.Close() }()
	db.mu.Lock()
	defer db.mu.Unlock()
	db.usage.reset()
	maps.Copy(db.usage.delta, bytes)
	err = errors.Join(db.putUsage(batch), batch.Set(metaKey("usage"), st.encode(), nil), db.space.spare(int64(batch.Len())))
	if err == nil {
		// When a crash loses it, it is counted again.
		err = db.db.Apply(batch, pebble.NoSync)
	}
	if err != nil {
		return false, fmt.Errorf("pebble: count usage: %w", err)
	}
	db.usage.settle()
	db.usage.set(st)
	return st.complete, nil
}

// countFrom adds up the next blocks, and moves st on behind them. The caller holds
// db.trim.
func (db *DB) countFrom(ctx context.Context, st *usageState) (map[string]int64, error) {
	lower := []byte{kindBlock}
	if st.stream != "" {
		lower = blockKey(nil, st.stream, st.seq+1)
	}
	it, err := db.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lower, UpperBound: []byte{kindBlock + 1}})
	if err != nil {
		return nil, err
	}
	defer func() { _ = it.Close() }()
	sum := db.tally()
	var at parley.Stream
	var floor parley.Seq
	it.First()
	for n := 0; it.Valid() && n < cmp.Or(db.opt.countBlocks, countBlocks); it.Next() {
		n++
		s := streamOf(it.Key())
		if s != at {
			at = s
			if floor, err = floorIn(db.db, s); err != nil {
				return nil, err
			}
		}
		first := seqOf(it.Key())
		st.stream, st.seq = s, first
		if first > st.since {
			continue
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return nil, err
		}
		// Of a damaged block who reads it is told, and a check tells it.
		if st.seq, err = countBlock(sum, value, s, first, floor); err != nil && !errors.Is(err, errCorrupt) {
			return nil, err
		}
	}
	st.complete = !it.Valid()
	return sum.bytes, it.Error()
}

// countBlock adds a block's messages above floor to sum, and returns its last seq.
func countBlock(sum *tally, value []byte, s parley.Stream, first, floor parley.Seq) (parley.Seq, error) {
	h, rest, err := readHead(value)
	if err != nil {
		return first, err
	}
	w := walk{first: first, head: h, value: rest}
	w.q.Stream = s
	all, err := w.stored()
	for _, m := range all {
		if err == nil && m.Seq > floor {
			err = sum.message(m)
		}
	}
	return h.last(first), err
}
