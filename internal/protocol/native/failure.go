package native

import (
	"errors"
	"strconv"
	"strings"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

// The codes of errors beyond JSON-RPC's own, in the range that its
// specification leaves to servers. They never change their meaning.
const (
	codeUnauthenticated = -32001
	codeForbidden       = -32002
	codeNotFound        = -32003
	codeConflict        = -32004
	codeUnavailable     = -32005
)

// failure is an error as the client sees it.
type failure struct {
	code    int
	kind    string
	message string
}

// explain finds the words for err. An error of no known kind is a fault of the
// server, and what it says is nobody else's business.
func explain(err error) failure {
	var kind error
	f := failure{code: jsonrpc.CodeInternal, kind: "internal", message: "internal error"}
	switch {
	case errors.Is(err, parley.ErrInvalid):
		kind, f.code = parley.ErrInvalid, jsonrpc.CodeInvalidParams
		if e, ok := errors.AsType[*jsonrpc.Error](err); ok {
			f.code = e.Code
		}
	case errors.Is(err, parley.ErrUnauthenticated):
		kind, f.code = parley.ErrUnauthenticated, codeUnauthenticated
	case errors.Is(err, parley.ErrForbidden):
		kind, f.code = parley.ErrForbidden, codeForbidden
	case errors.Is(err, parley.ErrNotFound):
		kind, f.code = parley.ErrNotFound, codeNotFound
	case errors.Is(err, parley.ErrConflict):
		kind, f.code = parley.ErrConflict, codeConflict
	case errors.Is(err, parley.ErrUnavailable):
		kind, f.code = parley.ErrUnavailable, codeUnavailable
	default:
		return f
	}
	f.kind = kindName(f.code)
	// The kind that the error wraps ends its text; the client has it already.
	f.message = strings.TrimSuffix(err.Error(), ": "+kind.Error())
	return f
}

func kindName(code int) string {
	switch code {
	case codeUnauthenticated:
		return "unauthenticated"
	case codeForbidden:
		return "forbidden"
	case codeNotFound:
		return "not_found"
	case codeConflict:
		return "conflict"
	case codeUnavailable:
		return "unavailable"
	}
	return "invalid"
}

// appendError appends err as a JSON-RPC error object.
func appendError(dst []byte, err error) []byte {
	f := explain(err)
	dst = append(dst, `{"code":`...)
	dst = strconv.AppendInt(dst, int64(f.code), 10)
	dst = append(dst, `,"message":`...)
	dst = jsonrpc.AppendString(dst, f.message)
	dst = append(dst, `,"data":{"kind":"`...)
	dst = append(dst, f.kind...)
	dst = append(dst, '"')
	if f.code == codeUnavailable {
		dst = append(dst, `,"retry":true`...)
	}
	return append(dst, `}}`...)
}
