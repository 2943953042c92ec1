package pebble

import (
	"context"
	"strconv"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// SetMeta writes a meta key, as a newer program or a fault would.
func (db *DB) SetMeta(name string, value []byte) error {
	return db.db.Set(metaKey(name), value, pebble.Sync)
}

// SetBlock stores a block as it is.
func (db *DB) SetBlock(s parley.Stream, first parley.Seq, value []byte) error {
	return db.db.Set(blockKey(nil, s, first), value, pebble.Sync)
}

// ForgetKeys expires idempotency keys now.
func (db *DB) ForgetKeys(ctx context.Context) error { return db.forgetKeys(ctx) }

// SweepRecords looks at the next n records, and removes those that have expired.
func (db *DB) SweepRecords(n int) error { return db.sweepRecords(n) }

// DecodeBlock decodes a stored block's messages.
func DecodeBlock(value []byte) (int, error) {
	h, rest, err := readHead(value)
	if err != nil {
		return 0, err
	}
	p, err := inflate(h, rest)
	if err != nil {
		return 0, err
	}
	r := reader{rest: p}
	n := 0
	var prev *parley.Message
	for r.next() {
		m := &parley.Message{}
		r.message(m, prev, "s")
		prev = m
		n++
	}
	return n, r.err
}

// EncodeBlock encodes messages of the stream "s" as one block.
func EncodeBlock(messages []*parley.Message) []byte {
	h := head{count: len(messages)}
	var p []byte
	var prev *parley.Message
	for _, m := range messages {
		p = appendMessage(p, m, prev, string(m.Topic[2:]))
		prev = m
	}
	block, _ := appendBlock(nil, nil, h, p)
	return block
}

// SetKey writes a key as it is, and DeleteKey removes one, as a fault would.
func (db *DB) SetKey(key string, value []byte) error {
	return db.db.Set([]byte(key), value, pebble.Sync)
}

// DeleteKey removes a key as it is.
func (db *DB) DeleteKey(key string) error { return db.db.Delete([]byte(key), pebble.Sync) }

// FirstKey finds the first key that begins with prefix, and its value.
func (db *DB) FirstKey(prefix string) (key string, value []byte, err error) {
	it, err := db.db.NewIter(&pebble.IterOptions{LowerBound: []byte(prefix)})
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = it.Close() }()
	if it.First() {
		key, value = string(it.Key()), append([]byte(nil), it.Value()...)
	}
	return key, value, it.Error()
}

// Flush writes what is in memory into a table.
func (db *DB) Flush() error { return db.db.Flush() }

// Compact rewrites all tables into the lowest level.
func (db *DB) Compact(ctx context.Context) error {
	return db.db.Compact(ctx, []byte{0}, []byte{0xff}, false)
}

// Levels is how many tables each level has.
func (db *DB) Levels() (tables []int, err error) {
	levels, err := db.db.SSTables()
	for _, l := range levels {
		tables = append(tables, len(l))
	}
	return tables, err
}

// WriteMark does what is done every second.
func (db *DB) WriteMark() {
	if err := db.mark.write(parley.Seq(db.durable.Load()), db.files.seen.place()); err != nil {
		panic(err)
	}
}

// SmallBlocks makes tables of many small blocks. Over a damaged block Pebble
// takes a time that grows with the square of its size.
func (o Options) SmallBlocks() Options {
	o.blockBytes = 512
	return o
}

// Tend does what the store does once a second about the room on its disk.
func (db *DB) Tend(ctx context.Context) { db.tendSpace(ctx) }

// Watermarks are the bounds for a disk: the memtable's size, the reserve, and
// what must be free to store again.
func Watermarks(total, wanted int64) (memTable, reserve, resume, ballast int64) {
	m := marksFor(total, wanted)
	return m.memTable, m.reserve, m.resume, m.ballast
}

// KeyFilter is the filter of idempotency keys, by itself.
type KeyFilter struct{ f keyFilter }

// Add notes key number n, of the commit that ends at seq.
func (f *KeyFilter) Add(n int, seq parley.Seq) {
	f.f.complete = true
	f.f.add(hashKey("s", strconv.Itoa(n)), seq)
}

// Missing reports whether the filter says that key number n is not there.
func (f *KeyFilter) Missing(n int) bool { return f.f.missing(hashKey("s", strconv.Itoa(n))) }

// Forget says that the keys of the commits up to until are gone. It returns how
// many generations are left.
func (f *KeyFilter) Forget(until parley.Seq) int {
	f.f.forget(until)
	return len(f.f.generations)
}

// GenerationKeys is how many keys one generation has.
const GenerationKeys = generationKeys

// FilterComplete reports whether the filter is in use: all that the store had
// when it was opened has been read.
func (db *DB) FilterComplete() bool {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.known.complete
}

// LoseFilter makes the filter what it would be had no key been added to it.
func (db *DB) LoseFilter() {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.known = keyFilter{complete: true}
}

// CountInSteps makes what was stored before be counted n blocks at a time.
func (o Options) CountInSteps(n int) Options {
	o.countBlocks = n
	return o
}

// FinishCounting counts the rest of what was stored before.
func (db *DB) FinishCounting(ctx context.Context) error {
	for {
		if done, err := db.countSome(ctx); done || err != nil {
			return err
		}
	}
}

// Recount is what each user has stored, by what is there, under a hash of the name,
// and Counts what is kept of that.
func (db *DB) Recount(ctx context.Context) (map[string]int64, error) {
	bytes := map[string]int64{}
	db.trim.Lock()
	defer db.trim.Unlock()
	sum := db.tally()
	for s, err := range db.Streams(ctx, "") {
		if err != nil {
			return nil, err
		}
		w, err := db.walk(ctx, backend.Query{Stream: s})
		if err != nil {
			return nil, err
		}
		for w.next() {
			all, err := w.stored()
			if err != nil {
				return nil, err
			}
			for _, m := range all {
				if m.Seq <= w.floor {
					continue
				}
				if err := sum.message(m); err != nil {
					return nil, err
				}
			}
		}
		w.close()
		if w.err != nil {
			return nil, w.err
		}
	}
	for user, n := range sum.bytes {
		bytes[string(usageKey(user)[1:])] = n
	}
	return bytes, nil
}

// Counts are the counts of all users, as they are kept.
func (db *DB) Counts() (map[string]int64, error) {
	it, err := db.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindUsage}, UpperBound: []byte{kindUsage + 1}})
	if err != nil {
		return nil, err
	}
	defer func() { _ = it.Close() }()
	bytes := map[string]int64{}
	for it.First(); it.Valid(); it.Next() {
		a, err := decodeAmount(it.Value())
		if err != nil {
			return nil, err
		}
		if a.bytes > 0 {
			bytes[string(it.Key()[1:])] = a.bytes
		}
	}
	return bytes, it.Error()
}
