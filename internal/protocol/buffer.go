package protocol

import (
	"sync"

	"github.com/parley-im/parley/internal/broker"
)

// buffer is what a writer holds while it writes. A connection at rest holds
// none.
type buffer struct {
	events []broker.Event
	bytes  []byte
}

// maxPooled bounds a buffer that is kept for the next writer.
const maxPooled = 512 << 10

//nolint:gochecknoglobals // a pool shared by all connections is the point of it
var buffers = sync.Pool{New: func() any { return &buffer{bytes: make([]byte, 0, 16<<10)} }}

func (b *buffer) release() {
	clear(b.events)
	b.events = b.events[:0]
	if cap(b.bytes) <= maxPooled && cap(b.events) <= 1024 {
		buffers.Put(b)
	}
}
