package jsonrpc

import (
	"bytes"
	"errors"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Limits of what Parse accepts.
const (
	// MaxDepth bounds how deep objects and arrays nest, the outermost included.
	MaxDepth = 32
	// MaxBatch bounds the entries of a batch.
	MaxBatch = 100
	// MaxIDBytes bounds an id that is a string, without quotes and escapes.
	MaxIDBytes = 64
	// MaxIDNumber bounds an id that is a number, both ways: 2^53, up to which
	// JavaScript tells integers apart.
	MaxIDNumber = 1 << 53
)

// NullID is the id of an answer to what has no readable id.
const NullID = "null"

// Call is one thing that a client asked, or tried to.
type Call struct {
	// ID is the request's id as it stood on the wire, a number or a quoted
	// string, so that it can be copied into the answer. It is empty for a
	// notification, which gets no answer, not even an error; and NullID when Err
	// is set and no id could be read.
	ID     string
	Method string
	// Params is the object or array as it stood on the wire, or nil. It is a
	// part of the frame and valid as long as that is.
	Params Params
	// Err says why this is no request; Method and Params then mean nothing.
	Err *Error
}

// Parse reads the calls of one frame: one, or those of a batch in order. It
// returns at least one. A frame that cannot be read as a whole is one call with
// Err; so nothing of it is done.
func Parse(p []byte) []Call {
	if deeper(p) {
		return failed(newError(CodeParse, "nested more than "+strconv.Itoa(MaxDepth)+" levels deep"))
	}
	f := &frame{text: p}
	f.calls = f.room[:0]
	err := json.Unmarshal(p, f)
	switch {
	case f.err != nil:
		return failed(f.err)
	case err != nil:
		return failed(syntaxError(err))
	}
	return f.calls
}

func failed(e *Error) []Call { return []Call{{ID: NullID, Err: e}} }

func syntaxError(err error) *Error {
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return newError(CodeParse, "not strict JSON: a name twice in one object")
	}
	message := "not strict JSON"
	if e, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		message += ", at byte " + strconv.FormatInt(e.ByteOffset, 10)
	}
	return newError(CodeParse, message)
}

// frame collects the calls of a frame while the library walks through it.
type frame struct {
	text  []byte
	calls []Call
	room  [1]Call // the usual frame holds one call
	err   *Error  // the frame as a whole is refused
}

// errRefused stops the walk early; the reason is in frame.err.
var errRefused = errors.New("refused")

// UnmarshalJSONFrom reads the whole frame.
func (f *frame) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '[' {
		return f.readCall(d)
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != ']' {
		// The rest is not even looked at: a million entries cost a hundred.
		if len(f.calls) == MaxBatch {
			return f.refuse("a batch of more than " + strconv.Itoa(MaxBatch) + " entries")
		}
		if err := f.readCall(d); err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	if len(f.calls) == 0 {
		return f.refuse("an empty batch")
	}
	return nil
}

func (f *frame) refuse(message string) error {
	f.err = InvalidRequest(message)
	return errRefused
}

func (f *frame) readCall(d *jsontext.Decoder) error {
	if d.PeekKind() != '{' {
		if err := d.SkipValue(); err != nil {
			return err
		}
		f.calls = append(f.calls, Call{ID: NullID, Err: InvalidRequest("a request is an object")})
		return nil
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	var e envelope
	for d.PeekKind() != '}' {
		name, err := d.ReadValue()
		if err != nil {
			return err
		}
		m := memberOf(name)
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		// The value lies in the library's buffer; the same bytes of the frame
		// live longer.
		end := int(d.InputOffset())
		e.set(m, f.text[end-len(value):end])
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	f.calls = append(f.calls, e.call())
	return nil
}

// member is one of the names that an envelope may have.
type member int

const (
	memberUnknown member = iota
	memberVersion
	memberID
	memberMethod
	memberParams
	memberAnswer // of a response
)

func memberOf(quoted []byte) member {
	if bytes.IndexByte(quoted, '\\') >= 0 {
		quoted = []byte(`"` + text(quoted) + `"`)
	}
	switch string(quoted) {
	case `"jsonrpc"`:
		return memberVersion
	case `"id"`:
		return memberID
	case `"method"`:
		return memberMethod
	case `"params"`:
		return memberParams
	case `"result"`, `"error"`:
		return memberAnswer
	}
	return memberUnknown
}

// text is what a valid JSON string says.
func text(quoted []byte) string {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1])
	}
	// The string was validated by the decoder.
	p, _ := jsontext.AppendUnquote(nil, quoted)
	return string(p)
}
