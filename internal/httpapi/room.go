package httpapi

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/parley-im/parley/internal/broker"
)

// room bounds the memory of bodies that are on their way.
type room struct {
	bound int64
	used  atomic.Int64
}

// take makes room for n bytes more than the taken ones, or tells that there is
// none. Whoever is alone always has room: what is larger than the bound would
// otherwise be told to try again for ever.
func (r *room) take(n, taken int) error {
	if used := r.used.Add(int64(n)); used > r.bound && used > int64(n+taken) {
		r.used.Add(-int64(n))
		return fmt.Errorf("too many large bodies are on their way: %w", broker.ErrOverloaded)
	}
	return nil
}

func (r *room) give(n int) { r.used.Add(-int64(n)) }

// firstBytes of a body take no room: so small publishes get through whatever
// those of large ones do, and a connection costs that much anyway.
const firstBytes = 4 << 10

// readBody reads a body of at most limit bytes. One that says that it is larger
// is refused before it is read; memory is taken as the bytes arrive, whatever
// length was promised.
func (a *API) readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		w.Header().Set("Accept-Encoding", "identity")
		return nil, failure(http.StatusUnsupportedMediaType, "a body must not be compressed: Content-Encoding is "+strconv.Quote(clip(encoding)))
	}
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	from := http.MaxBytesReader(w, r.Body, limit)
	first := int64(firstBytes)
	if r.ContentLength >= 0 {
		first = min(first, r.ContentLength+1) // one more, to see the end
	}
	p := make([]byte, 0, first)
	taken := 0
	defer func() { a.arriving.give(taken) }()
	for {
		n, err := from.Read(p[len(p):cap(p)])
		p = p[:len(p)+n]
		switch {
		case err == io.EOF:
			return p, nil
		case err != nil:
			return nil, brokenBody(err)
		case len(p) == cap(p):
			if err := a.arriving.take(cap(p), taken); err != nil {
				return nil, err
			}
			taken += cap(p)
			p = append(make([]byte, 0, 2*cap(p)), p...)
		}
	}
}

// answerBody sends the body of an answer, if there is room to hold it until the
// client has taken it.
func (a *API) answerBody(size int, send func()) error {
	if size > firstBytes {
		if err := a.leaving.take(size, 0); err != nil {
			return err
		}
		defer a.leaving.give(size)
	}
	send()
	return nil
}

// clip keeps a stranger's text short in an error.
func clip(s string) string {
	const longest = 40
	if len(s) > longest {
		return s[:longest]
	}
	return s
}
