package broker

import (
	"sync"

	"github.com/parley-im/parley"
)

// Batch is a run of messages that one subscribed topic received together, in
// ascending order of seq. It is immutable, shared by all who deliver it, and
// remembers how each dialect writes it, so that a thousand subscribers cost one
// encoding.
type Batch struct {
	Messages []*parley.Message

	conditional bool // some message has filters or an expiry

	mu      sync.Mutex
	encoded []encoding // one per dialect in use: two or three
}

type encoding struct {
	dialect string
	bytes   []byte
}

// NewBatch makes a batch of at least one message.
func NewBatch(messages []*parley.Message) *Batch {
	b := &Batch{Messages: messages}
	for _, m := range messages {
		if m.Filters != nil || !m.Expires.IsZero() {
			b.conditional = true
		}
	}
	return b
}

// First is the seq of the first message.
func (b *Batch) First() parley.Seq { return b.Messages[0].Seq }

// Last is the seq of the last message.
func (b *Batch) Last() parley.Seq { return b.Messages[len(b.Messages)-1].Seq }

// Encoded returns the batch in the given dialect, calling encode the first time
// only. The bytes are shared: nobody may change them. Concurrent callers of one
// dialect wait for a single encoding.
func (b *Batch) Encoded(dialect string, encode func([]*parley.Message) []byte) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.encoded {
		if e.dialect == dialect {
			return e.bytes
		}
	}
	p := encode(b.Messages)
	b.encoded = append(b.encoded, encoding{dialect, p})
	return p
}
