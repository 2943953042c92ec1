package jsonrpc

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Params is the raw parameters of a call: a JSON object or array, or nil.
type Params []byte

// Decode stores the members of the object p in the struct that v points to, by
// the struct's json tags; nil counts as the empty object. A member that is null
// counts as absent. Members that the struct does not have, arrays and values of
// another type are an error with CodeInvalidParams that says where. It copies
// all that v keeps.
func (p Params) Decode(v any) error {
	if p == nil {
		return nil
	}
	err := json.Unmarshal(p, v, json.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}
	return newError(CodeInvalidParams, describe("params", err))
}

// describe puts a decoding error into words of ours: the library's name Go
// types, and may change. Root names the whole that was decoded.
func describe(root string, err error) string {
	e, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return root + ": not strict JSON"
	}
	where := root + string(e.JSONPointer)
	switch {
	case errors.Is(e.Err, json.ErrUnknownName):
		return where + ": there is no such member"
	case errors.Is(e.Err, errTooMany):
		return where + ": " + e.Err.Error()
	case e.JSONPointer == "":
		return where + ": must be an object"
	}
	return where + ": a value of another kind or range is needed"
}

// Text is a JSON string as bytes. Nil means that it was absent or null; an empty
// string is not nil.
type Text []byte

// UnmarshalJSONFrom reads the string.
func (t *Text) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	value, err := d.ReadValue()
	if err != nil {
		return err
	}
	if value.Kind() == 'n' {
		*t = nil
		return nil
	}
	if value.Kind() == '"' {
		// AppendUnquote wants room for the quotes as well.
		*t, err = jsontext.AppendUnquote(make([]byte, 0, len(value)), value)
		return err
	}
	return errNotText
}

var errNotText = errors.New("not a string")

// List is a JSON array of at most Max entries: an entry more is an error before
// memory is spent on it. Max is set before decoding. Items is nil when the array
// was absent or null.
type List[T any] struct {
	Max   int
	Items []T
}

var errTooMany = errors.New("too many entries")

// UnmarshalJSONFrom reads the array.
func (l *List[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	start, err := d.ReadToken()
	if err != nil {
		return err
	}
	if start.Kind() == 'n' {
		return nil
	}
	if start.Kind() != '[' {
		return errNotList
	}
	l.Items = []T{}
	for d.PeekKind() != ']' {
		if len(l.Items) == l.Max {
			return fmt.Errorf("%w, at most %d", errTooMany, l.Max)
		}
		var none T
		l.Items = append(l.Items, none)
		if err := json.UnmarshalDecode(d, &l.Items[len(l.Items)-1]); err != nil {
			return err
		}
	}
	_, err = d.ReadToken()
	return err
}

// Strings is a JSON string, which counts as a list of one, or an array of at most
// MaxStrings of them: an entry more is an error before memory is spent on it. It
// is nil when it was absent or null.
type Strings []string

// MaxStrings bounds Strings.
const MaxStrings = 1000

// UnmarshalJSONFrom reads either form.
func (l *Strings) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*l = nil
	if kind := d.PeekKind(); kind == 'n' {
		return d.SkipValue()
	} else if kind == '"' {
		var text string
		err := json.UnmarshalDecode(d, &text)
		*l = Strings{text}
		return err
	}
	list := List[jsonString]{Max: MaxStrings}
	if err := list.UnmarshalJSONFrom(d); err != nil {
		return err
	}
	*l = make(Strings, len(list.Items))
	for i, item := range list.Items {
		(*l)[i] = string(item)
	}
	return nil
}

// jsonString is a string, and null is none.
type jsonString string

// UnmarshalJSONFrom reads the string.
func (s *jsonString) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '"' {
		return errNotText
	}
	return json.UnmarshalDecode(d, (*string)(s))
}

var errNotList = errors.New("not an array")

// IsStrings reports whether text is a strict JSON object whose values are all
// strings.
func IsStrings(text string) bool {
	if text == "" || text[0] != '{' {
		return false
	}
	return json.Unmarshal([]byte(text), &stringObject{}) == nil
}

// IsObject reports whether text is one strict JSON object, nested at most
// MaxDepth levels deep.
func IsObject(text []byte) bool {
	v := jsontext.Value(text)
	return v.Kind() == '{' && !deeper(text) && v.IsValid()
}

// stringObject reads an object of strings and keeps nothing of it.
type stringObject struct{}

// UnmarshalJSONFrom reads the object.
func (*stringObject) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != '}' {
		if err := d.SkipValue(); err != nil {
			return err
		}
		if d.PeekKind() != '"' {
			return errNotText
		}
		if err := d.SkipValue(); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}
