package jsonrpc

import (
	"strings"
	"unicode/utf8"

	"github.com/parley-im/parley"
)

// The error codes of the specification (section 5.1).
const (
	CodeParse          = -32700 // the frame is not strict JSON
	CodeInvalidRequest = -32600 // it is JSON, but not a request
	CodeMethodNotFound = -32601
	CodeInvalidParams  = -32602
	CodeInternal       = -32603
)

// Error is a fault in what the client sent. It wraps parley.ErrInvalid: sending
// the same again cannot help.
type Error struct {
	// Code is one of the codes above.
	Code int
	// Message says what is wrong, in words for a programmer; at most
	// maxMessageBytes, because it may quote the client.
	Message string
}

// Error is the message.
func (e *Error) Error() string { return e.Message }

// Unwrap makes errors.Is(e, parley.ErrInvalid) true.
func (e *Error) Unwrap() error { return parley.ErrInvalid }

// MethodNotFound is the error for a method that the dialect does not have. It
// does not repeat the name: it is a stranger's, and may be long.
func MethodNotFound() *Error {
	return newError(CodeMethodNotFound, "there is no such method")
}

// InvalidRequest is the error for a frame that is no request.
func InvalidRequest(message string) *Error {
	return newError(CodeInvalidRequest, message)
}

const maxMessageBytes = 200

func newError(code int, message string) *Error {
	if len(message) > maxMessageBytes {
		cut := maxMessageBytes
		for !utf8.RuneStart(message[cut]) {
			cut--
		}
		message = strings.Clone(message[:cut])
	}
	return &Error{Code: code, Message: message}
}
