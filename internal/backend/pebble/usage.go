package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

var _ backend.Meter = (*DB)(nil)

// usage counts what each user has stored, once somebody wants it counted: one
// number for each, under a key of its own, which changes in the same commit as
// the messages, so that no crash parts them. Most users are on disk only.
//
// What was there before it began is counted a part at a time, in the order of the
// keys of blocks, while messages come and go. Counted is what came after it began,
// and what is in the part that it has come through; only that is taken off again.
type usage struct {
	payer    func(*parley.Message) string
	on, done atomic.Bool
	wake     chan struct{} // has one when there is something to count

	// DB.mu guards what follows. State changes under DB.trim besides, so that who
	// holds one of them may read it.
	state usageState
	known map[string]int64 // of users who have sent or lost something lately
	delta map[string]int64 // of the commit that is being prepared
}

// usageState is how far usage is counted.
type usageState struct {
	on, complete bool
	since        parley.Seq    // what came later is counted when it comes
	stream       parley.Stream // what came before is counted up to here, in the order of keys
	seq          parley.Seq
}

// maxKnown bounds the users whose usage is remembered, in maps of about 100 bytes
// each; that of others is read when they send.
const maxKnown = 100_000

func (u *usage) init(payer func(*parley.Message) string) {
	if payer == nil {
		payer = func(m *parley.Message) string { return m.Sender.User }
	}
	u.payer, u.wake = payer, make(chan struct{}, 1)
	u.known, u.delta = map[string]int64{}, map[string]int64{}
}

// covers reports whether the message at seq of s is counted.
func (st *usageState) covers(s parley.Stream, seq parley.Seq) bool {
	return st.on && (st.complete || seq > st.since || s < st.stream || s == st.stream && seq <= st.seq)
}

// set makes st what is in force.
func (u *usage) set(st usageState) {
	u.state = st
	u.on.Store(st.on)
	u.done.Store(st.on && st.complete)
	if st.on && !st.complete {
		select {
		case u.wake <- struct{}{}:
		default:
		}
	}
}

// reset begins a commit.
func (u *usage) reset() { clear(u.delta) }

// charge counts a message that is being stored. The caller holds DB.mu.
func (u *usage) charge(m *parley.Message) {
	if !u.state.on {
		return
	}
	if user := u.payer(m); user != "" {
		u.delta[user] += int64(m.Size())
	}
}

// settle notes that the commit was made. The caller holds DB.mu.
func (u *usage) settle() {
	for user, d := range u.delta {
		if n, ok := u.known[user]; ok {
			u.known[user] = max(0, n+d)
		}
	}
	clear(u.delta)
}

// used is what counts to a user, without the commit that is being prepared. The
// caller holds db.mu.
func (db *DB) used(user string) (int64, error) {
	u := &db.usage
	if n, ok := u.known[user]; ok {
		return n, nil
	}
	v, err := db.get(usageKey(user))
	switch {
	case errors.Is(err, pebble.ErrNotFound):
		v = make([]byte, usageBytes)
	case err != nil:
		return 0, err
	case len(v) != usageBytes:
		return 0, fmt.Errorf("the usage of a user: %w", errCorrupt)
	}
	if len(u.known) >= maxKnown {
		clear(u.known)
	}
	n := int64(binary.BigEndian.Uint64(v))
	u.known[user] = n
	return n, nil
}

// usageBytes is the length of what is stored of one user.
const usageBytes = 8

// over reports whether the first of entries, with those that go along with it, is
// more than its sender may have stored; then r says so. The caller holds db.mu.
func (db *DB) over(entries []backend.Entry, r *backend.Result) bool {
	u := &db.usage
	if !u.state.on {
		return false
	}
	user := u.payer(entries[0].Message)
	if user == "" {
		return false
	}
	need := int64(entries[0].Message.Size())
	for _, e := range entries[1:] {
		if !e.Along {
			break
		}
		need += int64(e.Message.Size())
	}
	used, err := db.used(user)
	if err != nil {
		r.Err = fmt.Errorf("%w: %w", err, parley.ErrUnavailable)
		return true
	}
	used += u.delta[user]
	if used+need <= entries[0].Quota {
		return false
	}
	r.Err = &backend.QuotaError{Used: used, Need: need, Quota: entries[0].Quota}
	return true
}

// putUsage writes what the commit changes. The caller holds db.mu.
func (db *DB) putUsage(batch *pebble.Batch) error {
	for user, d := range db.usage.delta {
		n, err := db.used(user)
		if err != nil {
			return err
		}
		if n += d; n > 0 {
			err = batch.Set(usageKey(user), binary.BigEndian.AppendUint64(nil, uint64(n)), nil)
		} else {
			err = batch.Delete(usageKey(user), nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// freed is what a part of a trim takes off usage. Nil is nothing.
type freed struct {
	db    *DB
	bytes map[string]int64
}

// freed begins a part of a trim. The caller holds db.trim.
func (db *DB) freed() *freed {
	if !db.usage.state.on {
		return nil
	}
	return &freed{db: db, bytes: map[string]int64{}}
}

// add takes off the messages of the block at hand that are above floor, up to cut.
func (f *freed) add(w *walk, floor, cut parley.Seq) error {
	if f == nil || cut < w.first || cut <= floor {
		return nil
	}
	all, err := w.stored()
	for _, m := range all {
		if m.Seq <= floor || m.Seq > cut || !f.db.usage.state.covers(w.q.Stream, m.Seq) {
			continue
		}
		if user := f.db.usage.payer(m); user != "" {
			f.bytes[user] += int64(m.Size())
		}
	}
	return err
}

// putFreed writes what is left to those whose messages go. The caller holds db.mu.
func (db *DB) putFreed(batch *pebble.Batch, f *freed) error {
	db.usage.reset()
	if f == nil {
		return nil
	}
	for user, n := range f.bytes {
		db.usage.delta[user] = -n
	}
	return db.putUsage(batch)
}

// Metering implements backend.Meter.
func (db *DB) Metering() (on, complete bool) { return db.usage.on.Load(), db.usage.done.Load() }

// Used implements backend.Meter.
func (db *DB) Used(ctx context.Context, user string) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	n, err := db.used(user)
	if err != nil {
		return 0, fmt.Errorf("pebble: usage: %w", err)
	}
	return n, nil
}
