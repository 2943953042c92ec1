package wire

import "sync"

const (
	bufferSteps = 4
	smallBuffer = 1 << 10
	// maxBuffer is the largest pooled buffer, and what one socket read takes at
	// most.
	maxBuffer = smallBuffer << (2 * (bufferSteps - 1))
	// maxSpareFrames bounds what a pooled buffer keeps beside its bytes.
	maxSpareFrames = 2048
)

// buffer is memory for bytes that have arrived and for the frames found in
// them.
type buffer struct {
	bytes  []byte
	used   int // for who writes into it
	frames []Frame
}

// buffers lends buffers of 1, 4, 16 and 64 KiB: what is held while frames are
// worked on, or for the rest of a frame, is at most four times what arrived.
type buffers struct{ pools [bufferSteps]sync.Pool }

// size rounds n up to a size that is lent; above the largest it is n itself.
func (*buffers) size(n int) (size, step int) {
	for step = range bufferSteps {
		if size = smallBuffer << (2 * step); n <= size {
			return size, step
		}
	}
	return n, bufferSteps
}

// get lends a buffer of at least n bytes.
func (b *buffers) get(n int) *buffer {
	size, step := b.size(n)
	if step < bufferSteps {
		if c, ok := b.pools[step].Get().(*buffer); ok {
			return c
		}
	}
	return &buffer{bytes: make([]byte, size)}
}

// put takes a buffer back; nil is none.
func (b *buffers) put(c *buffer) {
	if c == nil {
		return
	}
	if cap(c.frames) > maxSpareFrames {
		c.frames = nil
	}
	clear(c.frames) // they may refer to memory of their own
	c.frames = c.frames[:0]
	if size, step := b.size(len(c.bytes)); step < bufferSteps && size == len(c.bytes) {
		b.pools[step].Put(c)
	}
}
