package native_test

import (
	"bytes"
	"testing"

	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol/native"
)

// sharing is lines with parts that are worked on beforehand, which it marks.
type sharing struct {
	lines
	off    bool
	shared int // how many parts
}

func (s *sharing) Shares() bool { return !s.off }

func (s *sharing) Share(part []byte) []byte {
	s.shared++
	return append([]byte("«"), part...)
}

func (s *sharing) AppendShared(dst []byte, _ bool, head, shared, tail []byte) []byte {
	dst = append(append(dst, head...), bytes.TrimPrefix(shared, []byte("«"))...)
	return append(append(dst, tail...), '\n')
}

// TestSharing: the messages of a batch are compressed once for all subscribers,
// and each gets what it would get without compression.
func TestSharing(t *testing.T) {
	b := batch(3)
	s := new(sharing)
	for id := range uint64(5) {
		e := &broker.Messages{Sub: &broker.Subscription{ID: id}, Batch: b}
		for other := range id {
			e.Also = append(e.Also, &broker.Subscription{ID: 100 + other})
		}
		got := payload(t, native.New(s, terms()), e)
		if want := payload(t, newCodec(), e); !bytes.Equal(got, want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if s.shared != 1 {
		t.Errorf("a batch was worked on %d times", s.shared)
	}
	off := &sharing{off: true}
	payload(t, native.New(off, terms()), &broker.Messages{Sub: &broker.Subscription{ID: 1}, Batch: b})
	if off.shared != 0 {
		t.Error("a framing that does not compress was asked to")
	}
}
