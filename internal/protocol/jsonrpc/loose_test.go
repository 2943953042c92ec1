package jsonrpc_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

func TestParseLoose(t *testing.T) {
	for text, want := range map[string]string{
		`{"jsonrpc":"1.0","id":1,"method":"m","params":[1],"more":{}}`: `[{1 m [1]   }] false`,
		`{"ID":"a","METHOD":"m","Params":null}`:                        `[{"a" m null   }] false`,
		`{"id":null,"method":null}`:                                    `[{     }] false`,
		`{"id":"","result":"ACK"}`:                                     `[{   "ACK"  }] false`,
		`{"id":-1.5e3,"error":{"code":1}}`:                             `[{-1.5e3    {"code":1} }] false`,
		` [{"i\u0064":"x"},3,{"id":[]}] `:                              `[{"x"     } {     a message is an object} {     id must be a string or a number of at most 255 bytes}] true`,
		`{}`:                                                           `[{     }] false`,
		`{"id":"x","method":"m"`:                                       `-32700`,
		`{"id":"x"} {}`:                                                `-32700`,
		"{\"id\":\"\xff\"}":                                            `-32700`,
		`{"params":{"a":1,"a":2}}`:                                     `-32700`,
		`{"id":1,"Id":2}`:                                              `-32600`,
		`[]`:                                                           `-32600`,
		`[` + strings.Repeat(`{},`, 100) + `{}]`:                       `-32600`,
		strings.Repeat(`[`, 10_000):                                    `-32700`,
		``:                                                             `-32700`,
	} {
		messages, batch, fault := jsonrpc.ParseLoose([]byte(text))
		got := fmt.Sprintf("%s %v", show(messages), batch)
		if fault != nil {
			got = fmt.Sprint(fault.Code)
		}
		if got != want {
			t.Errorf("%.60s\ngot  %s\nwant %s", text, got, want)
		}
	}
}

func show(messages []jsonrpc.Message) string {
	var all []string
	for _, m := range messages {
		fault := ""
		if m.Err != nil {
			fault = m.Err.Message
		}
		all = append(all, fmt.Sprintf("{%s %s %s %s %s %s}", m.ID, m.Method, m.Params, m.Result, m.Fault, fault))
	}
	return "[" + strings.Join(all, " ") + "]"
}

// What ParseLoose reads is JSON, and its parts are where they stood.
func FuzzParseLoose(f *testing.F) {
	f.Add([]byte(`{"id":1,"method":"m","params":[1]}`))
	f.Add([]byte(`[{"ID":"\u0041","result":null},{"error":{}}]`))
	f.Fuzz(func(t *testing.T, p []byte) {
		messages, batch, fault := jsonrpc.ParseLoose(p)
		if fault != nil {
			return
		}
		if !json.Valid(p) || len(messages) == 0 || !batch && len(messages) > 1 {
			t.Fatalf("%q: %d messages", p, len(messages))
		}
		for i := range messages {
			m := &messages[i]
			for _, part := range []string{m.ID, string(m.Params), string(m.Result), string(m.Fault)} {
				if part != "" && !json.Valid([]byte(part)) {
					t.Fatalf("%q: the part %q", p, part)
				}
			}
			_ = m.Name()
		}
	})
}
