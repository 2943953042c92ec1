package pebble

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
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
	along  bool        // some entry goes along with one that is not stored
}

// check reports whether entry i, after which about as many keys come, is to be
// stored; if not, its result is set or will be.
func (d *dedup) check(e *backend.Entry, r *backend.Result, i, about int) (fresh bool, err error) {
	h := hashKey(e.Message.Topic.Stream(), e.Key)
	if found, err := d.find(h, e, r, i); found || err != nil {
		return false, err
	}
	if d.staged == nil {
		d.staged = make(map[dedupHash]int, about)
	}
	d.staged[h] = i
	d.order = append(d.order, h)
	return true, nil
}

// find reports whether the key h of entry i was used before; then its result is
// set or will be.
func (d *dedup) find(h dedupHash, e *backend.Entry, r *backend.Result, i int) (bool, error) {
	if first, ok := d.staged[h]; ok {
		if d.repeat == nil {
			d.repeat = map[int]int{}
		}
		d.repeat[i] = first
		return true, nil
	}
	if d.db.known.missing(h) {
		return false, nil
	}
	seq, payload, err := d.db.lookUp(h)
	if err != nil || seq <= d.start {
		return false, err
	}
	d.settle(e, r, seq, payload)
	return true, nil
}

// repeated answers entry i, which is refused, as what it repeats if it does.
func (d *dedup) repeated(e *backend.Entry, r *backend.Result, i int) error {
	if e.Key == "" {
		return nil
	}
	refusal := r.Err
	r.Err = nil
	found, err := d.find(hashKey(e.Message.Topic.Stream(), e.Key), e, r, i)
	if !found {
		r.Err = refusal
	}
	return err
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
	defer d.follow(entries, results)
	if len(d.order) == 0 {
		return nil
	}
	window := make([]byte, 0, len(d.order)*len(dedupHash{}))
	var key [1 + len(dedupHash{})]byte
	var value [16]byte
	key[0] = kindDedup
	// The database finds its place for a key fastest near that of the one before.
	slices.SortFunc(d.order, func(a, b dedupHash) int { return bytes.Compare(a[:], b[:]) })
	for _, h := range d.order {
		i := d.staged[h]
		payload := hashPayload(entries[i].Message)
		copy(key[1:], h[:])
		binary.BigEndian.PutUint64(value[:8], uint64(results[i].Seq))
		copy(value[8:], payload[:])
		if err := d.batch.Set(key[:], value[:], nil); err != nil {
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

// follow sets the results of the entries that went along with one that was not
// stored.
func (d *dedup) follow(entries []backend.Entry, results []backend.Result) {
	if !d.along {
		return
	}
	var lead backend.Result
	for i := range entries {
		switch {
		case !entries[i].Along:
			lead = results[i]
		case lead.Duplicate || lead.Err != nil:
			results[i] = backend.Result{Duplicate: lead.Duplicate, Err: lead.Err}
		}
	}
}

// windowStart is the seq below which keys are forgotten. A seq is never below
// the time in µs at which it was given.
func (db *DB) windowStart() parley.Seq {
	return parley.Seq(max(0, db.opt.Past().Add(-db.opt.DedupWindow).UnixMicro()))
}

func hashKey(s parley.Stream, key string) dedupHash {
	var stack [512]byte
	sum := sha256.Sum256(appendField(appendField(stack[:0], string(s)), key))
	return dedupHash(sum[:16])
}

// hashPayload covers what a publisher chose. Expiry is left out: it is often
// computed anew for a retry.
func hashPayload(m *parley.Message) [8]byte {
	var stack [1024]byte
	p := appendField(stack[:0], string(m.Topic))
	p = appendField(p, m.Header)
	p = binary.BigEndian.AppendUint64(p, uint64(len(m.Body)))
	p = append(p, m.Body...)
	if len(m.Filters) > 0 {
		for _, k := range slices.Sorted(maps.Keys(m.Filters)) {
			p = appendField(appendField(p, k), m.Filters[k])
		}
	}
	sum := sha256.Sum256(p)
	return [8]byte(sum[:8])
}

// appendField writes the length first, so that fields cannot run together.
func appendField(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint64(dst, uint64(len(s))), s...)
}

// expireKeys forgets idempotency keys that have left the window, and records that
// have expired.
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
			if err := db.sweepRecords(sweptRecords); err != nil {
				db.opt.Logger.Error("cannot remove expired records", "error", err)
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
