package jsonrpc

import (
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxLooseID bounds an id as it stands on the wire, in ParseLoose.
const maxLooseID = 255

// Message is one object of a dialect in which both sides ask: a request, a
// notification, or a response.
type Message struct {
	// ID is as it stood on the wire, a number or a quoted string; empty when it
	// was missing, null or an empty string.
	ID     string
	Method string
	// Params, Result and Fault (the member error) are values as they stood on the
	// wire, null included; nil when missing. They are parts of the frame and valid
	// as long as that is.
	Params, Result, Fault Params
	// Err says why this is none of them; ID is set when it could be read.
	Err *Error
}

// Name is what an ID that is a string says, and empty for a number.
func (m *Message) Name() string {
	if m.ID == "" || m.ID[0] != '"' {
		return ""
	}
	return text([]byte(m.ID))
}

// ParseLoose reads the messages of one frame as Parse does, but for dialects that
// were never strict: a version is not needed, names are known in any case,
// unknown members are passed over, params are any value, and an id may be null.
// It is as strict as Parse in what nobody writes by intent: a name twice in one
// object (in any case, in that of a message), text that is not UTF-8, and depth.
// A frame that cannot be read as a whole is an error.
func ParseLoose(p []byte) (messages []Message, batch bool, fault *Error) {
	if deeper(p) {
		return nil, false, newError(CodeParse, "nested more than "+strconv.Itoa(MaxDepth)+" levels deep")
	}
	f := &looseFrame{text: p}
	f.messages = f.room[:0]
	switch err := json.Unmarshal(p, f); {
	case f.err != nil:
		return nil, f.batch, f.err
	case err != nil:
		return nil, f.batch, syntaxError(err)
	}
	return f.messages, f.batch, nil
}

// looseFrame collects the messages of a frame.
type looseFrame struct {
	text     []byte
	messages []Message
	room     [1]Message // the usual frame holds one
	batch    bool
	err      *Error
}

// UnmarshalJSONFrom reads the whole frame.
func (f *looseFrame) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '[' {
		return f.readMessage(d)
	}
	f.batch = true
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != ']' {
		if len(f.messages) == MaxBatch {
			return f.refuse("a batch of more than " + strconv.Itoa(MaxBatch) + " entries")
		}
		if err := f.readMessage(d); err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	if len(f.messages) == 0 {
		return f.refuse("an empty batch")
	}
	return nil
}

func (f *looseFrame) refuse(message string) error {
	f.err = InvalidRequest(message)
	return errRefused
}

func (f *looseFrame) readMessage(d *jsontext.Decoder) error {
	var m Message
	if d.PeekKind() != '{' {
		m.Err = InvalidRequest("a message is an object")
		f.messages = append(f.messages, m)
		return d.SkipValue()
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	var seen [memberNames]bool
	for d.PeekKind() != '}' {
		name, err := d.ReadValue()
		if err != nil {
			return err
		}
		at := looseMemberOf(name)
		value, err := d.ReadValue()
		if err != nil {
			return err
		}
		end := int(d.InputOffset())
		if at == looseUnknown {
			continue
		}
		if seen[at] {
			return f.refuse("a name twice in one object")
		}
		seen[at] = true
		m.set(at, f.text[end-len(value):end:end])
	}
	f.messages = append(f.messages, m)
	_, err := d.ReadToken()
	return err
}

// looseMember is one of the names that a message may have.
type looseMember int

const (
	looseUnknown looseMember = iota
	looseID
	looseMethod
	looseParams
	looseResult
	looseFault
	memberNames // how many there are
)

func looseMemberOf(quoted []byte) looseMember {
	const longest = len(`"\u0070\u0061\u0072\u0061\u006d\u0073"`)
	if len(quoted) > longest {
		return looseUnknown
	}
	switch strings.ToLower(text(quoted)) {
	case "id":
		return looseID
	case "method":
		return looseMethod
	case "params":
		return looseParams
	case "result":
		return looseResult
	case "error":
		return looseFault
	}
	return looseUnknown
}

func (m *Message) set(at looseMember, value []byte) {
	kind := jsontext.Value(value).Kind()
	switch at {
	case looseID:
		switch {
		case kind == 'n' || string(value) == `""`:
		case (kind == '"' || kind == '0') && len(value) <= maxLooseID:
			m.ID = string(value)
		default:
			m.check("id must be a string or a number of at most " + strconv.Itoa(maxLooseID) + " bytes")
		}
	case looseMethod:
		if kind == '"' {
			m.Method = text(value)
		} else if kind != 'n' {
			m.check("method must be a string")
		}
	case looseParams:
		m.Params = value
	case looseResult:
		m.Result = value
	case looseFault:
		m.Fault = value
	case looseUnknown, memberNames:
	}
}

func (m *Message) check(message string) {
	if m.Err == nil {
		m.Err = InvalidRequest(message)
	}
}

// DecodeLoose is Decode for dialects that were never strict: names are known in
// any case, and unknown members are passed over. Nil, and null, leave v as it is.
func (p Params) DecodeLoose(v any) error {
	if p == nil {
		return nil
	}
	if err := json.Unmarshal(p, v, json.MatchCaseInsensitiveNames(true)); err != nil {
		return newError(CodeInvalidParams, describe("params", err))
	}
	return nil
}

// Null reports whether p is missing or null.
func (p Params) Null() bool { return p == nil || jsontext.Value(p).Kind() == 'n' }
