package jsonrpc_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

type params struct {
	Name  string            `json:"name"`
	Count *uint64           `json:"count"`
	Text  jsonrpc.Text      `json:"text"`
	Data  []byte            `json:"data"`
	Words map[string]string `json:"words"`

	List jsonrpc.List[struct {
		N int `json:"n"`
	}] `json:"list"`
}

func TestDecodeParams(t *testing.T) {
	var p params
	p.List.Max = 2
	text := `{"name":"a\u00e9","count":0,"text":"\"\ud83d\ude00\"","data":"AP8=","words":{"k":"v","__proto__":""},"list":[{"n":1},{"n":2}]}`
	if err := jsonrpc.Params(text).Decode(&p); err != nil {
		t.Fatal(err)
	}
	if p.Name != "aé" || p.Count == nil || *p.Count != 0 || string(p.Text) != `"😀"` || string(p.Data) != "\x00\xff" {
		t.Errorf("got %+v", p)
	}
	if !reflect.DeepEqual(p.Words, map[string]string{"k": "v", "__proto__": ""}) {
		t.Errorf("got words %v", p.Words)
	}
	if len(p.List.Items) != 2 || p.List.Items[1].N != 2 {
		t.Errorf("got list %v", p.List.Items)
	}
}

func TestDecodeParamsAbsent(t *testing.T) {
	null := `{"name":null,"count":null,"text":null,"data":null,"words":null,"list":null}`
	for _, text := range []jsonrpc.Params{nil, jsonrpc.Params(`{}`), jsonrpc.Params(null)} {
		var p params
		if err := text.Decode(&p); err != nil || !reflect.DeepEqual(p, params{}) {
			t.Errorf("%s: got %+v, %v", text, p, err)
		}
	}
	var p params
	if err := jsonrpc.Params(`{"text":"","list":[],"data":""}`).Decode(&p); err != nil {
		t.Fatal(err)
	}
	if p.Text == nil || p.List.Items == nil || p.Data == nil {
		t.Errorf("what is empty reads as absent: %+v", p)
	}
}

func TestDecodeParamsRefuses(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"array":             {`["a"]`, "params: must be an object"},
		"unknown member":    {`{"nam":"a"}`, "params/nam: there is no such member"},
		"another case":      {`{"Name":"a"}`, "params/Name: there is no such member"},
		"unknown, within":   {`{"list":[{"n":1},{"m":1}]}`, "params/list/1/m: there is no such member"},
		"prototype":         {`{"__proto__":{}}`, "params/__proto__: there is no such member"},
		"number for string": {`{"name":1}`, "params/name: "},
		"string for number": {`{"count":"1"}`, "params/count: "},
		"negative":          {`{"count":-1}`, "params/count: "},
		"fraction":          {`{"count":1.0}`, "params/count: "},
		"exponent":          {`{"count":1e3}`, "params/count: "},
		"out of range":      {`{"count":1e400}`, "params/count: "},
		"above 2^64":        {`{"count":18446744073709551616}`, "params/count: "},
		"text a number":     {`{"text":1}`, "params/text: "},
		"data not base64":   {`{"data":"a-b_"}`, "params/data: "},
		"data without end":  {`{"data":"AP8"}`, "params/data: "},
		"data in lines":     {`{"data":"AP8=\n"}`, "params/data: "},
		"object of numbers": {`{"words":{"a":1}}`, "params/words/a: "},
		"list an object":    {`{"list":{}}`, "params/list: "},
		"list too long":     {`{"list":[{},{},{},{}]}`, "params/list: too many entries, at most 2"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var p params
			p.List.Max = 2
			err := jsonrpc.Params(test.text).Decode(&p)
			e, ok := errors.AsType[*jsonrpc.Error](err)
			if !ok || e.Code != jsonrpc.CodeInvalidParams || !strings.HasPrefix(e.Message, test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func TestErrorsStayShort(t *testing.T) {
	var p params
	err := jsonrpc.Params(`{"` + strings.Repeat("é", 10_000) + `":1}`).Decode(&p)
	if n := len(err.Error()); n > 200 || n < 190 || !json.Valid([]byte(`"`+err.Error()+`"`)) {
		t.Errorf("got %d bytes: %s", n, err)
	}
}

func TestIsStrings(t *testing.T) {
	for text, want := range map[string]bool{
		`{}`: true, `{"a":"b"}`: true, "{ \"a\" :\t\"b\" , \"c\":\"\\u00e9\"} ": true,
		``: false, ` {}`: false, `null`: false, `[]`: false, `"a"`: false, `{"a":1}`: false, `{"a":null}`: false,
		`{"a":{}}`: false, `{"a":"b"`: false, `{"a":"b"}x`: false, `{"a":"b","a":"b"}`: false, "{\"a\":\"\xff\"}": false,
		`{"a":"\ud800"}`: false, `{a:"b"}`: false, `{"a":"b",}`: false, `{"a"}`: false, `{"a":}`: false,
	} {
		if got := jsonrpc.IsStrings(text); got != want {
			t.Errorf("%q: got %v", text, got)
		}
	}
}
