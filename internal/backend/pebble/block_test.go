package pebble_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend/pebble"
)

func samples() [][]*parley.Message {
	m := &parley.Message{
		Topic: "/s/a/b", ID: "id", Header: `{"k":"v"}`, Body: []byte("body"), Expires: time.UnixMicro(1),
		Sender: parley.Identity{User: "ann", Device: "phone"}, Filters: map[string]string{"a": "1", "b": ""},
	}
	return [][]*parley.Message{
		{{Topic: "/s"}},
		{m, m, {Topic: "/s/c", Body: bytes.Repeat([]byte("x"), 1000)}},
		{{Topic: "/s", Body: []byte{0, 255}}, m},
	}
}

// FuzzBlock: whatever is on the disk, decoding it neither panics nor takes more
// memory than it should, and what was encoded is decoded.
func FuzzBlock(f *testing.F) {
	for _, messages := range samples() {
		f.Add(pebble.EncodeBlock(messages))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		n, err := pebble.DecodeBlock(value)
		if err == nil && n > len(value)*64 {
			t.Errorf("%d messages from %d bytes", n, len(value))
		}
	})
}

func TestBlockRoundTrip(t *testing.T) {
	for _, messages := range samples() {
		block := pebble.EncodeBlock(messages)
		if n, err := pebble.DecodeBlock(block); err != nil || n != len(messages) {
			t.Errorf("decoded %d of %d messages: %v", n, len(messages), err)
		}
		for i := range block {
			// A cut block is damaged, or by chance a shorter one; never a panic.
			if n, err := pebble.DecodeBlock(block[:i]); err == nil && n >= len(messages) {
				t.Errorf("a block cut at %d of %d bytes has all messages", i, len(block))
			}
		}
	}
}
