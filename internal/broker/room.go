package broker

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

// Room bounds the memory of bodies that are on their way, all of them together.
// Its methods may be called concurrently.
type Room struct {
	bound int64
	used  atomic.Int64
}

// NewRoom makes room for bound bytes.
func NewRoom(bound int64) *Room { return &Room{bound: bound} }

// FreeBytes of a body take no room: so small ones get through whatever the large
// ones do, and a connection costs that much anyway.
const FreeBytes = 4 << 10

// Take makes room for n bytes more than the taken ones; the error wraps
// ErrOverloaded when there is none. Whoever is alone always has room: what is
// larger than the bound would otherwise be told to try again for ever.
func (r *Room) Take(n, taken int) error {
	if used := r.used.Add(int64(n)); used > r.bound && used > int64(n+taken) {
		r.used.Add(-int64(n))
		return fmt.Errorf("too many large bodies are on their way: %w", ErrOverloaded)
	}
	return nil
}

// Give gives back what was taken.
func (r *Room) Give(n int) { r.used.Add(-int64(n)) }

// ReadAll reads to the end of from, which bounds itself, with the room that there
// is for it until then. Promised is the length that the client names, negative if
// it does not: memory is taken as bytes arrive, whatever was promised.
func (r *Room) ReadAll(from io.Reader, promised int64) ([]byte, error) {
	first := int64(FreeBytes)
	if promised >= 0 {
		first = min(first, promised+1) // one more, to see the end
	}
	p := make([]byte, 0, first)
	taken := 0
	defer func() { r.Give(taken) }()
	for {
		n, err := from.Read(p[len(p):cap(p)])
		p = p[:len(p)+n]
		switch {
		case errors.Is(err, io.EOF):
			return p, nil
		case err != nil:
			return nil, err
		case len(p) == cap(p):
			size := 2 * int64(cap(p))
			if whole := promised + 1; whole > int64(cap(p)) {
				size = min(size, whole) // it may be kept, and then spare memory is not counted
			}
			more := int(size) - cap(p)
			if err := r.Take(more, taken); err != nil {
				return nil, err
			}
			taken += more
			p = append(make([]byte, 0, size), p...)
		}
	}
}
