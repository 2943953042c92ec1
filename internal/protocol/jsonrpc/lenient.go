package jsonrpc

import (
	"bytes"
	"errors"

	"github.com/go-json-experiment/json/jsontext"
)

// Members reads the JSON object that p begins with and calls visit with each
// member, in order, for protocols whose servers always read leniently: a name may
// come again, strings may hold what is not UTF-8, and nothing behind the object is
// looked at. It may nest MaxDepth levels. A value is valid until visit returns;
// the error of visit is returned.
func Members(p []byte, visit func(name string, value []byte) error) error {
	object, err := firstObject(p)
	if err != nil {
		return err
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(object), jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
	if _, err := d.ReadToken(); err != nil {
		return errNotJSON
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadValue()
		if err != nil {
			return errNotJSON
		}
		text, ok := LenientText(name)
		if !ok {
			return errNotJSON
		}
		value, err := d.ReadValue()
		if err != nil {
			return errNotJSON
		}
		if err := visit(text, value); err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return errNotJSON
	}
	return nil
}

// LenientText is the text of a JSON string, in which what is not UTF-8, or half
// of a surrogate pair, has become U+FFFD. It reports false when value is none.
func LenientText(value []byte) (string, bool) {
	if len(value) == 0 || value[0] != '"' {
		return "", false
	}
	// The error tells of such bytes too, and they are replaced then; the decoder
	// that value comes from has found no other fault.
	text, _ := jsontext.AppendUnquote(make([]byte, 0, len(value)-2), value)
	return string(text), true
}

var (
	errNotJSON = errors.New("not a JSON object")
	errTooDeep = errors.New("nested too deep")
)

// firstObject is the object that p begins with, as far as its brackets tell.
func firstObject(p []byte) ([]byte, error) {
	p = bytes.TrimLeft(p, " \t\r\n")
	if len(p) == 0 || p[0] != '{' {
		return nil, errNotJSON
	}
	depth := 0
	for i := 0; i < len(p); i++ {
		switch p[i] {
		case '{', '[':
			if depth++; depth > MaxDepth {
				return nil, errTooDeep
			}
		case '}', ']':
			if depth--; depth == 0 {
				return p[:i+1], nil
			}
		case '"':
			i = closing(p, i+1)
		}
	}
	return nil, errNotJSON
}
