package pebble

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parley-im/parley/internal/backend"
)

// sweptRecords is how many records are looked at each minute: of a million, each
// is once in less than an hour.
const sweptRecords = 20_000

// sweepRecords looks at the next n records, and removes those that have expired.
// They read as absent already, so that nobody notices, whether or not it outlives
// a crash.
func (db *DB) sweepRecords(n int) error {
	due, err := db.dueRecords(n)
	for _, key := range due {
		if err == nil {
			err = db.removeExpired(key)
		}
	}
	if errors.Is(err, backend.ErrStorageFull) {
		return nil // there is no room for a deletion, which others say; the next round finds it
	}
	return err
}

// dueRecords moves the sweep on.
func (db *DB) dueRecords(n int) (due []string, err error) {
	lower := []byte{kindRecord}
	if db.swept != nil {
		lower = append(bytes.Clone(db.swept), 0)
	}
	it, err := db.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: []byte{kindRecord + 1}})
	if err != nil {
		return nil, fmt.Errorf("pebble: sweep: %w", err)
	}
	defer func() { _ = it.Close() }()
	now := db.opt.Past()
	it.First()
	for ; it.Valid() && n > 0; it.Next() {
		n--
		db.swept = append(db.swept[:0], it.Key()...)
		// One that is damaged is told to who reads it, and by a check of the store.
		if t, err := expiryOf(it.Value()); err == nil && !t.IsZero() && !t.After(now) {
			due = append(due, string(it.Key()[1:]))
		}
	}
	if !it.Valid() {
		db.swept = nil
	}
	if err := it.Error(); err != nil {
		return nil, fmt.Errorf("pebble: sweep: %w", err)
	}
	return due, nil
}

// removeExpired removes a record unless it was made anew meanwhile.
func (db *DB) removeExpired(key string) error {
	stripe := &db.kv[stripeOf(key)]
	stripe.Lock()
	defer stripe.Unlock()
	v, err := db.get(recordKey(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pebble: sweep: %w", err)
	}
	if t, err := expiryOf(v); err != nil || t.IsZero() || t.After(db.opt.Past()) {
		return nil //nolint:nilerr // as in dueRecords
	}
	if err := db.space.spare(int64(len(key))); err != nil {
		return err
	}
	if err := db.db.Delete(recordKey(key), pebble.NoSync); err != nil {
		return fmt.Errorf("pebble: sweep: %w", err)
	}
	return nil
}
