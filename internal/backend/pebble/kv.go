package pebble

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

const maxKeyBytes = 512

// kvStripes is how many changes of different keys can share an fsync.
const kvStripes = 256

// stripeOf is FNV-1a.
func stripeOf(key string) uint32 {
	h := uint32(2166136261)
	for i := range len(key) {
		h = (h ^ uint32(key[i])) * 16777619
	}
	return h % kvStripes
}

// Get implements backend.KV.
func (db *DB) Get(ctx context.Context, key string) (backend.Record, error) {
	if err := errors.Join(ctx.Err(), checkKey(key)); err != nil {
		return backend.Record{}, err
	}
	return db.record(key)
}

// record reads a record that has not expired.
func (db *DB) record(key string) (backend.Record, error) {
	v, err := db.get(recordKey(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return backend.Record{}, fmt.Errorf("record %q: %w", key, parley.ErrNotFound)
	}
	if err != nil {
		return backend.Record{}, fmt.Errorf("pebble: get: %w", err)
	}
	r, err := readRecord(key, v)
	if err == nil && !r.Expires.IsZero() && !r.Expires.After(db.opt.Past()) {
		return backend.Record{}, fmt.Errorf("record %q: %w", key, parley.ErrNotFound)
	}
	return r, err
}

// Put implements backend.KV.
func (db *DB) Put(ctx context.Context, r backend.Record) (uint64, error) {
	if err := errors.Join(ctx.Err(), checkKey(r.Key)); err != nil {
		return 0, err
	}
	// What takes the place of a record, such as an acknowledgement, goes on when
	// the disk is full.
	room := db.space.spare
	if r.Rev == 0 {
		room = db.space.admit
	}
	if err := room(int64(len(r.Key) + len(r.Value))); err != nil {
		return 0, err
	}
	rev, err := db.change(r.Key, r.Rev, true, func(b *pebble.Batch, rev uint64) error {
		v := binary.BigEndian.AppendUint64(nil, rev)
		expires := int64(0)
		if !r.Expires.IsZero() {
			expires = r.Expires.UnixMicro()
		}
		v = binary.BigEndian.AppendUint64(v, uint64(expires))
		return b.Set(recordKey(r.Key), append(v, r.Value...), nil)
	})
	if errors.Is(err, parley.ErrNotFound) {
		return 0, fmt.Errorf("record %q is gone: %w", r.Key, parley.ErrConflict)
	}
	return rev, err
}

// Delete implements backend.KV.
func (db *DB) Delete(ctx context.Context, key string, rev uint64) error {
	if err := errors.Join(ctx.Err(), checkKey(key)); err != nil {
		return err
	}
	if err := db.space.spare(int64(len(key))); err != nil {
		return err
	}
	_, err := db.change(key, rev, false, func(b *pebble.Batch, _ uint64) error {
		return b.Delete(recordKey(key), nil)
	})
	return err
}

// change compares and sets, or creates where it may. Revisions are taken from the store's one counter, so
// that a record made again never has a revision of its earlier life.
func (db *DB) change(key string, rev uint64, create bool, write func(b *pebble.Batch, rev uint64) error) (uint64, error) {
	stripe := &db.kv[stripeOf(key)]
	stripe.Lock()
	defer stripe.Unlock()
	old, err := db.record(key)
	switch {
	case err != nil && !errors.Is(err, parley.ErrNotFound):
		return 0, err
	case err != nil && (rev != 0 || !create):
		return 0, err
	case old.Rev != rev:
		return 0, fmt.Errorf("record %q has revision %d, not %d: %w", key, old.Rev, rev, parley.ErrConflict)
	}
	batch := db.db.NewBatch()
	defer func() { _ = batch.Close() }()
	db.mu.Lock()
	db.last = max(db.last+1, parley.Seq(max(0, db.opt.Now().UnixMicro())))
	next := db.last
	err = errors.Join(write(batch, uint64(next)), db.putLast(batch))
	if err == nil {
		err = db.db.ApplyNoSyncWait(batch, pebble.Sync)
	}
	db.mu.Unlock()
	if err == nil {
		err = db.wait(batch)
	}
	if err != nil {
		return 0, fmt.Errorf("pebble: put: %w", err)
	}
	db.advance(next)
	return uint64(next), nil
}

// Scan implements backend.KV.
func (db *DB) Scan(ctx context.Context, prefix string) iter.Seq2[backend.Record, error] {
	return db.scan(ctx, prefix, recordKey(prefix))
}

var _ backend.Seeker = (*DB)(nil)

// ScanAfter implements backend.Seeker.
func (db *DB) ScanAfter(ctx context.Context, prefix, after string) iter.Seq2[backend.Record, error] {
	if after < prefix {
		return db.Scan(ctx, prefix)
	}
	return db.scan(ctx, prefix, append(recordKey(after), 0)) // no key holds a NUL
}

// scan yields the records whose keys begin with prefix, from lower on.
func (db *DB) scan(ctx context.Context, prefix string, lower []byte) iter.Seq2[backend.Record, error] {
	return func(yield func(backend.Record, error) bool) {
		upper := prefixEnd(recordKey(prefix))
		if bytes.Compare(lower, upper) >= 0 {
			return
		}
		it, err := db.db.NewIterWithContext(ctx, &pebble.IterOptions{LowerBound: lower, UpperBound: upper})
		if err != nil {
			yield(backend.Record{}, fmt.Errorf("pebble: scan: %w", err))
			return
		}
		defer func() { _ = it.Close() }()
		for it.First(); it.Valid(); it.Next() {
			r, err := readRecord(string(it.Key()[1:]), it.Value())
			if err == nil {
				err = ctx.Err()
			}
			if err == nil && !r.Expires.IsZero() && !r.Expires.After(db.opt.Past()) {
				continue
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
		if err := it.Error(); err != nil {
			yield(backend.Record{}, fmt.Errorf("pebble: scan: %w", err))
		}
	}
}

func readRecord(key string, v []byte) (backend.Record, error) {
	expires, err := expiryOf(v)
	if err != nil {
		return backend.Record{}, fmt.Errorf("record %q: %w", key, err)
	}
	return backend.Record{Key: key, Rev: binary.BigEndian.Uint64(v), Value: append([]byte{}, v[16:]...), Expires: expires}, nil
}

// expiryOf is when a stored record expires; zero is never.
func expiryOf(v []byte) (time.Time, error) {
	if len(v) < 16 {
		return time.Time{}, errCorrupt
	}
	if t := int64(binary.BigEndian.Uint64(v[8:])); t != 0 {
		return time.UnixMicro(t), nil
	}
	return time.Time{}, nil
}

func checkKey(key string) error {
	if key == "" || len(key) > maxKeyBytes || strings.IndexByte(key, 0) >= 0 {
		return fmt.Errorf("record key must have 1 to %d bytes and no NUL: %w", maxKeyBytes, parley.ErrInvalid)
	}
	return nil
}
