// Package eventsource reads Server-Sent Events as the WHATWG's HTML standard
// tells browsers to (section 9.2, "Server-sent events"), and with nothing of the
// server's own code, so that tests see what a browser sees.
package eventsource

import (
	"bufio"
	"errors"
	"io"
	"strings"
)

// Event is one event as a page gets it.
type Event struct {
	// Type is "message" unless the server named another one.
	Type string
	Data string
	// LastID is the last id that the server gave, with this event or before.
	LastID string
}

// Reader reads the events of a stream.
type Reader struct {
	r     *bufio.Reader
	begun bool
	cr    bool // the line before ended with CR

	kind, id string
	data     strings.Builder
	any      bool // there was a data field

	// LastID is what the client would come back with.
	LastID string
	// Retry is what the last retry field said, in milliseconds.
	Retry string
	// Comments counts the comments so far.
	Comments int
}

// NewReader reads from r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReader(r)} }

// Next returns the next event. At the end of the stream the error is io.EOF; an
// event that is not finished then is no event.
func (r *Reader) Next() (Event, error) {
	for {
		line, err := r.line()
		if err != nil {
			return Event{}, err
		}
		if line != "" {
			r.field(line)
			continue
		}
		if e, ok := r.dispatch(); ok {
			return e, nil
		}
	}
}

// line reads up to LF, CR, or CR LF, the LF of which may come much later.
func (r *Reader) line() (string, error) {
	var b strings.Builder
	for {
		c, err := r.r.ReadByte()
		if err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				err = io.EOF // what a browser makes of it
			}
			return "", err
		}
		if c == '\n' && r.cr {
			r.cr = false
			continue
		}
		r.cr = c == '\r'
		if c == '\n' || c == '\r' {
			break
		}
		b.WriteByte(c)
	}
	s := b.String()
	if !r.begun {
		r.begun = true
		s = strings.TrimPrefix(s, "\ufeff")
	}
	return s, nil
}

func (r *Reader) field(line string) {
	name, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch name {
	case "":
		r.Comments++
	case "event":
		r.kind = value
	case "data":
		r.any = true
		r.data.WriteString(value + "\n")
	case "id":
		if !strings.Contains(value, "\x00") {
			r.id = value
		}
	case "retry":
		if value != "" && strings.Trim(value, "0123456789") == "" {
			r.Retry = value
		}
	}
}

func (r *Reader) dispatch() (Event, bool) {
	r.LastID = r.id
	e := Event{Type: r.kind, Data: strings.TrimSuffix(r.data.String(), "\n"), LastID: r.LastID}
	ok := r.any
	if e.Type == "" {
		e.Type = "message"
	}
	r.kind, r.any = "", false
	r.data.Reset()
	return e, ok
}
