package jsonrpc

import (
	"errors"
	"strconv"

	"github.com/go-json-experiment/json"
)

// DecodeBody stores the members of the object p in the struct that v points to,
// as Params.Decode does, for JSON that comes in no envelope: the body of an HTTP
// request, or a line of one. Whatever is wrong is an *Error; p may nest at most
// MaxDepth levels.
func DecodeBody(p []byte, v any) error {
	if deeper(p) {
		return newError(CodeParse, "nested more than "+strconv.Itoa(MaxDepth)+" levels deep")
	}
	err := json.Unmarshal(p, v, json.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*json.SemanticError](err); ok {
		return newError(CodeInvalidParams, describe("body", err))
	}
	return syntaxError(err)
}
