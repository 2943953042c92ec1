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
	known map[string]amount // of users who have sent or lost something lately
	delta map[string]int64  // of the commit that is being prepared
}

// usageState is how far usage is counted.
type usageState struct {
	on, complete bool
	since        parley.Seq    // what came later is counted when it comes
	stream       parley.Stream // what came before is counted up to here, in the order of keys
	seq          parley.Seq
}

// amount is what counts to a user: bytes of messages above since, at which an
// earlier user of that name was deleted.
type amount struct {
	bytes int64
	since parley.Seq
}

// encode makes what is stored: nothing for nothing.
func (a amount) encode() []byte {
	if a == (amount{}) {
		return nil
	}
	v := binary.BigEndian.AppendUint64(nil, uint64(a.bytes))
	if a.since > 0 {
		v = binary.BigEndian.AppendUint64(v, uint64(a.since))
	}
	return v
}

func decodeAmount(v []byte) (amount, error) {
	var a amount
	if len(v) != 8 && len(v) != 8+seqBytes {
		return a, errCorrupt
	}
	if a.bytes = int64(binary.BigEndian.Uint64(v)); len(v) > 8 {
		a.since = seqOf(v)
	}
	if a.bytes < 0 || a == (amount{}) {
		return a, errCorrupt
	}
	return a, nil
}

// maxKnown bounds the users whose usage is remembered, in maps of about 100 bytes
// each; that of others is read when they send.
const maxKnown = 100_000

func (u *usage) init(payer func(*parley.Message) string) {
	if payer == nil {
		payer = func(m *parley.Message) string { return m.Sender.User }
	}
	u.payer, u.wake = payer, make(chan struct{}, 1)
	u.known, u.delta = map[string]amount{}, map[string]int64{}
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
		if a, ok := u.known[user]; ok {
			a.bytes = max(0, a.bytes+d)
			u.known[user] = a
		}
	}
	clear(u.delta)
}

// used is what counts to a user, without the commit that is being prepared. The
// caller holds db.mu.
func (db *DB) used(user string) (amount, error) {
	u := &db.usage
	if a, ok := u.known[user]; ok {
		return a, nil
	}
	var a amount
	v, err := db.get(usageKey(user))
	switch {
	case errors.Is(err, pebble.ErrNotFound):
	case err != nil:
		return a, err
	default:
		// Nobody's messages are kept out, nor kept for ever, by a wrong count.
		if a, err = decodeAmount(v); err != nil {
			db.opt.Logger.Error("what a user has stored is not known any more, so that their quota holds too little", "key", fmt.Sprintf("%x", usageKey(user)), "error", err)
			a = amount{}
		}
	}
	if len(u.known) >= maxKnown {
		clear(u.known)
	}
	u.known[user] = a
	return a, nil
}

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
	have, err := db.used(user)
	if err != nil {
		r.Err = fmt.Errorf("%w: %w", err, parley.ErrUnavailable)
		return true
	}
	used := have.bytes + u.delta[user]
	if used+need <= entries[0].Quota {
		return false
	}
	r.Err = &backend.QuotaError{Used: used, Need: need, Quota: entries[0].Quota}
	return true
}

// putUsage writes what the commit changes. The caller holds db.mu.
func (db *DB) putUsage(batch *pebble.Batch) error {
	for user, d := range db.usage.delta {
		a, err := db.used(user)
		if err != nil {
			return err
		}
		a.bytes = max(0, a.bytes+d)
		if err := a.put(batch, user); err != nil {
			return err
		}
	}
	return nil
}

func (a amount) put(batch *pebble.Batch, user string) error {
	if v := a.encode(); v != nil {
		return batch.Set(usageKey(user), v, nil)
	}
	return batch.Delete(usageKey(user), nil)
}

// tally adds up what stored messages count to their users. Nil counts nothing.
type tally struct {
	db    *DB
	bytes map[string]int64
	since map[string]parley.Seq // as in amount
}

// tally begins one. The caller holds db.trim until it is done with it.
func (db *DB) tally() *tally {
	if !db.usage.state.on {
		return nil
	}
	return &tally{db: db, bytes: map[string]int64{}, since: map[string]parley.Seq{}}
}

// message adds one.
func (t *tally) message(m *parley.Message) error {
	user := t.db.usage.payer(m)
	if user == "" {
		return nil
	}
	since, known := t.since[user]
	if !known {
		t.db.mu.Lock()
		a, err := t.db.used(user)
		t.db.mu.Unlock()
		if err != nil {
			return err
		}
		since, t.since[user] = a.since, a.since
	}
	if m.Seq > since {
		t.bytes[user] += int64(m.Size())
	}
	return nil
}

// block adds those messages of the block at hand that are counted, above floor and
// up to cut.
func (t *tally) block(w *walk, floor, cut parley.Seq) error {
	if t == nil || cut < w.first || cut <= floor {
		return nil
	}
	all, err := w.stored()
	for _, m := range all {
		if err == nil && m.Seq > floor && m.Seq <= cut && t.db.usage.state.covers(w.q.Stream, m.Seq) {
			err = t.message(m)
		}
	}
	return err
}

// putFreed writes what is left to those whose messages go. The caller holds db.mu.
func (db *DB) putFreed(batch *pebble.Batch, freed *tally) error {
	db.usage.reset()
	if freed == nil {
		return nil
	}
	for user, n := range freed.bytes {
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
	a, err := db.used(user)
	if err != nil {
		return 0, fmt.Errorf("pebble: usage: %w", err)
	}
	return a.bytes, nil
}

// ForgetUsage implements backend.Meter.
func (db *DB) ForgetUsage(ctx context.Context, user string) error {
	if err := ctx.Err(); err != nil || !db.usage.on.Load() {
		return err
	}
	db.trim.Lock()
	defer db.trim.Unlock()
	batch := db.db.NewBatch()
	defer func() { _ = batch.Close() }()
	if err := db.forgetUser(batch, user); err != nil {
		return fmt.Errorf("pebble: forget usage: %w", err)
	}
	if batch.Empty() {
		return nil
	}
	return db.wait(batch)
}

// forgetUser queues the commit that forgets what a user has stored, if that is
// anything.
func (db *DB) forgetUser(batch *pebble.Batch, user string) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	a, err := db.used(user)
	if err != nil || a.bytes == 0 && db.usage.state.complete {
		return err
	}
	a = amount{since: db.last}
	err = errors.Join(a.put(batch, user), db.space.spare(int64(batch.Len())))
	if err == nil {
		err = db.db.ApplyNoSyncWait(batch, pebble.Sync)
	}
	if err == nil {
		db.usage.known[user] = a
	}
	return err
}
