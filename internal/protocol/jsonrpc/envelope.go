package jsonrpc

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// envelope is a request object on its way to become a Call. The first fault
// that is found is kept.
type envelope struct {
	versioned bool
	response  bool
	named     bool
	id        string
	method    string
	params    Params
	err       *Error
}

func (e *envelope) set(m member, value []byte) {
	kind := jsontext.Value(value).Kind()
	switch m {
	case memberVersion:
		e.versioned = true
		e.check(kind == '"' && text(value) == "2.0", `jsonrpc must be "2.0"`)
	case memberID:
		valid := validID(value)
		if valid {
			e.id = string(value)
		}
		e.check(valid, "id must be a string of at most 64 bytes or an integer of at most 2^53")
	case memberMethod:
		e.named = true
		if kind == '"' {
			e.method = text(value)
		}
		e.check(kind == '"', "method must be a string")
	case memberParams:
		e.params = value
		e.check(kind == '{' || kind == '[', "params must be an object")
	case memberAnswer:
		e.response = true
	case memberUnknown:
		e.check(false, "a request has jsonrpc, id, method and params, and no other member")
	}
}

func (e *envelope) check(ok bool, message string) {
	if !ok && e.err == nil {
		e.err = InvalidRequest(message)
	}
}

func (e *envelope) call() Call {
	if e.response {
		// Its id is none of the client's requests; answering with it could be
		// taken for the answer to one.
		return Call{ID: NullID, Err: InvalidRequest("a response to nothing that was asked")}
	}
	e.check(e.versioned, `jsonrpc must be "2.0"`)
	e.check(e.named, "method is missing")
	if e.err != nil {
		// Without an id this may have been meant as a notification, but nobody
		// can know that.
		if e.id == "" {
			e.id = NullID
		}
		return Call{ID: e.id, Err: e.err}
	}
	return Call{ID: e.id, Method: e.method, Params: e.params}
}

func validID(value []byte) bool {
	kind := jsontext.Value(value).Kind()
	if kind == '"' {
		// A byte takes at most six on the wire, as \u0061.
		return len(value) <= 6*MaxIDBytes+2 && len(text(value)) <= MaxIDBytes
	}
	if kind == '0' {
		n, err := strconv.ParseInt(string(value), 10, 64)
		return err == nil && n <= MaxIDNumber && n >= -MaxIDNumber
	}
	return false
}
