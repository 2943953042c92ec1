package pebble

import (
	"context"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parley-im/parley"
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

// Flush writes what is in memory as a table, as a full memtable would be.
func (db *DB) Flush() error { return db.db.Flush() }

// Compact rewrites all tables.
func (db *DB) Compact(ctx context.Context) error {
	return db.db.Compact(ctx, []byte{0}, []byte{0xff}, false)
}

// Tend does what the store does once a second about the room on its disk.
func (db *DB) Tend(ctx context.Context) { db.tendSpace(ctx) }

// Watermarks are the bounds for a disk: the memtable's size, the reserve, and
// what must be free to store again.
func Watermarks(total, wanted int64) (memTable, reserve, resume, ballast int64) {
	m := marksFor(total, wanted)
	return m.memTable, m.reserve, m.resume, m.ballast
}
