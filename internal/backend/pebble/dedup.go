package pebble

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"maps"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// dedupHash names an idempotency key: the first half of SHA-256 over the stream
// and the key, so that nobody can make two keys collide.
type dedupHash [16]byte

// dedupBytes is about what one key costs on disk: its two records with their
// overhead.
const dedupBytes = 72

// dedup finds the entries of one commit that repeat an earlier one.
type dedup struct {
	db     *DB
	batch  *pebble.Batch
	start  parley.Seq        // of the window
	staged map[dedupHash]int // entries of this commit, by index
	order  []dedupHash
	repeat map[int]int // entry -> the entry of this commit that it repeats
}

// check reports whether entry i is to be stored; if not, its result is set or
// will be.
func (d *dedup) check(e *backend.Entry, r *backend.Result, i int) (fresh bool, err error) {
	h := hashKey(e.Message.Topic.Stream(), e.Key)
	if first, ok := d.staged[h]; ok {
		if d.repeat == nil {
			d.repeat = map[int]int{}
		}
		d.repeat[i] = first
		return false, nil
	}
	if !d.db.known.missing(h) {
		seq, payload, err := d.db.lookUp(h)
		if err != nil {
			return false, err
		}
		if seq > d.start {
			d.settle(e, r, seq, payload)
			return false, nil
		}
	}
	if d.staged == nil {
		d.staged = map[dedupHash]int{}
	}
	d.staged[h] = i
	d.order = append(d.order, h)
	return true, nil
}

// lookUp finds a key in the index: the seq is 0 if it is not there.
func (db *DB) lookUp(h dedupHash) (seq parley.Seq, payload []byte, err error) {
	v, err := db.get(dedupKey(h))
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		return 0, nil, nil
	case err != nil:
		return 0, nil, err
	case len(v) != 16:
		return 0, nil, errCorrupt
	}
	return parley.Seq(binary.BigEndian.Uint64(v)), v[8:], nil
}

// settle answers a repeated entry.
func (d *dedup) settle(e *backend.Entry, r *backend.Result, seq parley.Seq, payload []byte) {
	if mine := hashPayload(e.Message); string(mine[:]) != string(payload) {
		r.Err = fmt.Errorf("the id %q was used for another message: %w", e.Message.ID, parley.ErrConflict)
		return
	}
	r.Seq, r.Duplicate = seq, true
	e.Message.Seq = seq
}

// finish writes the new keys, once their messages have seqs.
func (d *dedup) finish(entries []backend.Entry, results []backend.Result) error {
	if len(d.order) == 0 {
		return nil
	}
	var window []byte
	for _, h := range d.order {
		i := d.staged[h]
		payload := hashPayload(entries[i].Message)
		v := binary.BigEndian.AppendUint64(nil, uint64(results[i].Seq))
		if err := d.batch.Set(dedupKey(h), append(v, payload[:]...), nil); err != nil {
			return err
		}
		window = append(window, h[:]...)
		d.db.known.add(h, d.db.last)
	}
	for _, i := range slices.Sorted(maps.Keys(d.repeat)) {
		first := d.repeat[i]
		payload := hashPayload(entries[first].Message)
		d.settle(&entries[i], &results[i], results[first].Seq, payload[:])
	}
	d.db.keys += int64(len(d.order))
	return d.batch.Set(windowKey(d.db.last), window, nil)
}

// windowStart is the seq below which keys are forgotten. A seq is never below
// the time in µs at which it was given.
func (db *DB) windowStart() parley.Seq {
	return parley.Seq(max(0, db.opt.Past().Add(-db.opt.DedupWindow).UnixMicro()))
}

func hashKey(s parley.Stream, key string) dedupHash {
	h := sha256.New()
	writeField(h, string(s))
	writeField(h, key)
	return dedupHash(h.Sum(nil)[:16])
}

// hashPayload covers what a publisher chose. Expiry is left out: it is often
// computed anew for a retry.
func hashPayload(m *parley.Message) [8]byte {
	h := sha256.New()
	writeField(h, string(m.Topic))
	writeField(h, m.Header)
	writeField(h, string(m.Body))
	for _, k := range slices.Sorted(maps.Keys(m.Filters)) {
		writeField(h, k)
		writeField(h, m.Filters[k])
	}
	return [8]byte(h.Sum(nil)[:8])
}

// writeField writes the length first, so that fields cannot run together.
func writeField(h hash.Hash, s string) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(s)))
	_, _ = h.Write(n[:])
	_, _ = h.Write([]byte(s))
}

// expireKeys forgets idempotency keys that have left the window.
func (db *DB) expireKeys() {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-db.stop:
			return
		case <-tick.C:
			if err := db.forgetKeys(context.Background()); err != nil {
				db.opt.Logger.Error("cannot expire idempotency keys", "error", err)
			}
		}
	}
}

// forgetKeys drops the oldest keys until all are inside the window.
func (db *DB) forgetKeys(ctx context.Context) error {
	it, err := db.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindWindow}, UpperBound: []byte{kindWindow + 1}})
	if err != nil {
		return err
	}
	defer func() { _ = it.Close() }()
	start := db.windowStart()
	for it.First(); it.Valid() && ctx.Err() == nil; it.Next() {
		db.mu.Lock()
		over := db.keys*dedupBytes > db.opt.DedupBytes
		db.mu.Unlock()
		if seq := seqOf(it.Key()); seq > start && !over {
			break
		}
		if err := db.forget(it.Key(), it.Value()); err != nil {
			return err
		}
	}
	return it.Error()
}

// forget drops one commit's keys. A key that was used again since stays.
func (db *DB) forget(window, hashes []byte) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	batch := db.db.NewBatch()
	defer func() { _ = batch.Close() }()
	until := seqOf(window)
	var h dedupHash
	for ; len(hashes) >= len(h); hashes = hashes[len(h):] {
		copy(h[:], hashes)
		v, err := db.get(dedupKey(h))
		if err == nil && len(v) == 16 && parley.Seq(binary.BigEndian.Uint64(v)) <= until {
			if err := batch.Delete(dedupKey(h), nil); err != nil {
				return err
			}
		}
		db.keys--
	}
	if err := batch.Delete(window, nil); err != nil {
		return err
	}
	if err := db.putLast(batch); err != nil {
		return err
	}
	if err := db.db.Apply(batch, pebble.NoSync); err != nil {
		return err
	}
	db.known.forget(until)
	return nil
}
