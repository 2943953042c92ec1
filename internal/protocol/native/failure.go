package native

import (
	"errors"
	"strconv"

	"github.com/parley-im/parley/internal/protocol/jsonform"
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

// codeOf is the number for err, which is of that kind.
func codeOf(err error, kind string) int {
	switch kind {
	case "invalid":
		if e, ok := errors.AsType[*jsonrpc.Error](err); ok {
			return e.Code
		}
		return jsonrpc.CodeInvalidParams
	case "unauthenticated":
		return codeUnauthenticated
	case "forbidden":
		return codeForbidden
	case "not_found":
		return codeNotFound
	case "conflict":
		return codeConflict
	case "unavailable":
		return codeUnavailable
	}
	return jsonrpc.CodeInternal
}

// appendError appends err as a JSON-RPC error object.
func appendError(dst []byte, err error) []byte {
	f := jsonform.Explain(err)
	dst = append(dst, `{"code":`...)
	dst = strconv.AppendInt(dst, int64(codeOf(err, f.Kind)), 10)
	dst = append(dst, `,"message":`...)
	dst = jsonrpc.AppendString(dst, f.Message)
	dst = append(dst, `,"data":{"kind":"`...)
	dst = append(dst, f.Kind...)
	dst = append(dst, '"')
	if f.Code != f.Kind {
		dst = append(append(append(dst, `,"code":"`...), f.Code...), '"')
	}
	if f.Retry() {
		dst = append(dst, `,"retry":true`...)
	}
	if f.After > 0 {
		dst = strconv.AppendInt(append(dst, `,"retry_ms":`...), f.After.Milliseconds(), 10)
	}
	return append(dst, `}}`...)
}
