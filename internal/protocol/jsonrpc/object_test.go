package jsonrpc_test

import (
	"strings"
	"testing"

	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

func TestIsObject(t *testing.T) {
	nested := func(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }
	for text, want := range map[string]bool{
		`{}`: true, ` {"a" : [1,{"b":null}]} `: true, nested(jsonrpc.MaxDepth): true,
		``: false, `{`: false, `[]`: false, `"{}"`: false, `{} {}`: false, `{"a":1,"a":2}`: false,
		"{\"a\":\"\xff\"}": false, `{'a':1}`: false, `{"a":NaN}`: false, nested(jsonrpc.MaxDepth + 1): false,
	} {
		if got := jsonrpc.IsObject([]byte(text)); got != want {
			t.Errorf("IsObject(%q) is %v", text, got)
		}
	}
}
