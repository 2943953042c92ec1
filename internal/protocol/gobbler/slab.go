package gobbler

// Bounds of a slab, in bytes. A chunk lives as long as any body that was cut
// from it, so its size bounds what a small message can keep alive: 4 KiB, some
// sixteen times what the message is billed. Small bodies are what an allocation
// each would be dear for; a larger one gets its own.
const (
	minChunk  = 256
	maxChunk  = 4 << 10
	maxShared = 512
)

// A slab copies small byte strings into chunks that they share. The zero value
// is ready; it holds no memory until it is used, and chunks grow as it is used
// more, so that a connection that rarely publishes stays light.
type slab struct {
	chunk []byte // cut up to its length, free up to its capacity
	size  int    // of the newest chunk
}

// clone returns a copy of b whose capacity is its length, or nil when b is
// empty.
func (s *slab) clone(b []byte) []byte {
	switch {
	case len(b) == 0:
		return nil
	case len(b) > maxShared:
		own := make([]byte, len(b))
		copy(own, b)
		return own
	case len(b) > cap(s.chunk)-len(s.chunk):
		s.size = min(max(2*s.size, minChunk), maxChunk)
		s.chunk = make([]byte, 0, max(s.size, len(b)))
	}
	n := len(s.chunk)
	s.chunk = append(s.chunk, b...)
	return s.chunk[n:len(s.chunk):len(s.chunk)]
}
