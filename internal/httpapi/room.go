package httpapi

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
)

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
	p, err := a.cfg.Arriving.ReadAll(http.MaxBytesReader(w, r.Body, limit), r.ContentLength)
	if err != nil && !errors.Is(err, parley.ErrUnavailable) {
		err = brokenBody(err)
	}
	return p, err
}

// answerBody sends the body of an answer, if there is room to hold it until the
// client has taken it.
func (a *API) answerBody(size int, send func()) error {
	if size > broker.FreeBytes {
		if err := a.leaving.Take(size, 0); err != nil {
			return err
		}
		defer a.leaving.Give(size)
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
