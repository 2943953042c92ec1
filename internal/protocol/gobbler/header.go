package gobbler

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

// maxHeaders bounds the header lines of one message.
const maxHeaders = 64

// cutHeaders reads what follows the first line of the documented dialect's ">":
// header lines up to an empty line, and the body behind that. Without an empty
// line there is no body.
//
// A first line that is a JSON object is the header as it stands. Otherwise each
// line is a name, a colon and a value, and together they become one object, in
// their order.
func cutHeaders(p []byte) (header, body []byte, err error) {
	line, rest := cut(p, '\n')
	if len(line) > 0 && line[0] == '{' {
		return cutObject(line, rest)
	}
	var names []string
	for ; len(line) > 0; line, rest = cut(rest, '\n') {
		if len(names) == maxHeaders || len(header)+len(line) > parley.MaxHeaderBytes {
			return nil, nil, fmt.Errorf("the header has more than %d lines or %d bytes: %w", maxHeaders, parley.MaxHeaderBytes, parley.ErrInvalid)
		}
		name, value, err := cutField(line)
		if err == nil && slices.Contains(names, name) {
			err = errRepeated
		}
		if err != nil {
			return nil, nil, fmt.Errorf("header line %d %w: %w", len(names)+1, err, parley.ErrInvalid)
		}
		names = append(names, name)
		header = appendQuoted(append(header, ','), name)
		header = appendQuoted(append(header, ':'), value)
	}
	if len(header) > 0 {
		header[0] = '{'
		header = append(header, '}')
	}
	return header, rest, nil
}

// cutObject reads a header that is a JSON object, and the body.
func cutObject(line, rest []byte) (header, body []byte, err error) {
	if !jsonrpc.IsObject(line) {
		return nil, nil, fmt.Errorf("header line 1 begins like a JSON object and is none: %w", parley.ErrInvalid)
	}
	next, body := cut(rest, '\n')
	if len(next) > 0 {
		return nil, nil, fmt.Errorf("an empty line must follow a header that is a JSON object: %w", parley.ErrInvalid)
	}
	return line, body, nil
}

var (
	errNotField = errors.New("is neither empty nor a name, a colon and a value")
	errNotText  = errors.New("is not valid UTF-8")
	errRepeated = errors.New("repeats a name")
)

// cutField reads one header line. Names are what they are in HTTP, so that a line
// of JSON is none.
func cutField(line []byte) (name, value string, err error) {
	before, after, found := bytes.Cut(line, []byte(":"))
	switch {
	case !utf8.Valid(line):
		return "", "", errNotText
	case !found || len(before) == 0 || bytes.ContainsFunc(before, notInName):
		return "", "", errNotField
	}
	return string(before), string(bytes.Trim(after, " \t")), nil
}

// notInName tells what is not in the name of an HTTP header (RFC 9110 section
// 5.6.2).
func notInName(r rune) bool {
	plain := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	return !plain && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}
