package jsonrpc

import (
	"strings"
	"unicode/utf8"
)

// AppendResult appends the head of the answer to the request id. The result
// follows, then AppendEnd.
func AppendResult(dst []byte, id string) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","id":`...)
	dst = append(dst, id...)
	return append(dst, `,"result":`...)
}

// AppendFailure appends the head of the answer to the request id that failed.
// The error object follows, then AppendEnd.
func AppendFailure(dst []byte, id string) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","id":`...)
	dst = append(dst, id...)
	return append(dst, `,"error":`...)
}

// AppendNotification appends the head of a notification. The method's name must
// need no escaping. The params follow, then AppendEnd.
func AppendNotification(dst []byte, method string) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","method":"`...)
	dst = append(dst, method...)
	return append(dst, `","params":`...)
}

// AppendEnd closes what one of the heads began.
func AppendEnd(dst []byte) []byte { return append(dst, '}') }

// AppendString appends s as a JSON string. What is not UTF-8 is replaced by
// U+FFFD, one for each run of such bytes.
func AppendString(dst []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\ufffd")
	}
	return appendQuoted(dst, s)
}

// AppendText appends p as a JSON string; p must be valid UTF-8.
func AppendText(dst, p []byte) []byte { return appendQuoted(dst, p) }

// appendQuoted escapes what RFC 8259 section 7 asks for and nothing else.
func appendQuoted[S string | []byte](dst []byte, s S) []byte {
	dst = append(dst, '"')
	done := 0 // how much of s is appended
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[done:i]...)
		dst = appendEscaped(dst, c)
		done = i + 1
	}
	dst = append(dst, s[done:]...)
	return append(dst, '"')
}

func appendEscaped(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	}
	const digits = "0123456789abcdef"
	return append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
}
