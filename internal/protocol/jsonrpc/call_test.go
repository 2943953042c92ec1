package jsonrpc_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

func TestParse(t *testing.T) {
	long := strings.Repeat("é", 32) // 64 bytes
	tests := map[string]struct {
		text string
		want []jsonrpc.Call
	}{
		"all members": {
			`{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":[1]}}`,
			[]jsonrpc.Call{{ID: "1", Method: "m", Params: jsonrpc.Params(`{"a":[1]}`)}},
		},
		"any order and space": {
			" {\"params\" : {} ,\t\"method\":\"m\",\"id\":\"x\",\r\n\"jsonrpc\":\"2.0\" } ",
			[]jsonrpc.Call{{ID: `"x"`, Method: "m", Params: jsonrpc.Params(`{}`)}},
		},
		"notification": {
			`{"jsonrpc":"2.0","method":"m"}`,
			[]jsonrpc.Call{{Method: "m"}},
		},
		"params array": {
			`{"jsonrpc":"2.0","id":1,"method":"m","params":[1,2]}`,
			[]jsonrpc.Call{{ID: "1", Method: "m", Params: jsonrpc.Params(`[1,2]`)}},
		},
		"escapes": {
			`{"json\u0072pc":"2\u002e0","\u0069d":"\u0061","method":"a\n\u0000\/b"}`,
			[]jsonrpc.Call{{ID: `"\u0061"`, Method: "a\n\x00/b"}},
		},
		"method of any name": {
			`{"jsonrpc":"2.0","id":1,"method":"../../étc\u202e"}`,
			[]jsonrpc.Call{{ID: "1", Method: "../../étc\u202e"}},
		},
		"largest id":  {request(`9007199254740992`), []jsonrpc.Call{{ID: "9007199254740992", Method: "m"}}},
		"smallest id": {request(`-9007199254740992`), []jsonrpc.Call{{ID: "-9007199254740992", Method: "m"}}},
		"longest id":  {request(`"` + long + `"`), []jsonrpc.Call{{ID: `"` + long + `"`, Method: "m"}}},
		"longest id, escaped": {
			request(`"` + strings.Repeat(`\u0061`, 64) + `"`),
			[]jsonrpc.Call{{ID: `"` + strings.Repeat(`\u0061`, 64) + `"`, Method: "m"}},
		},
		"empty id": {request(`""`), []jsonrpc.Call{{ID: `""`, Method: "m"}}},
		"the same id twice": {
			`[` + request(`7`) + `,` + request(`7`) + `]`,
			[]jsonrpc.Call{{ID: "7", Method: "m"}, {ID: "7", Method: "m"}},
		},
		"batch of notifications": {
			`[{"jsonrpc":"2.0","method":"m"},{"jsonrpc":"2.0","method":"n"}]`,
			[]jsonrpc.Call{{Method: "m"}, {Method: "n"}},
		},
		"deepest": {
			`{"jsonrpc":"2.0","method":"m","params":` + nested(31) + `}`,
			[]jsonrpc.Call{{Method: "m", Params: jsonrpc.Params(nested(31))}},
		},
		"brackets in strings do not nest": {
			`{"jsonrpc":"2.0","method":"` + strings.Repeat(`[{\"\\`, 50) + `"}`,
			[]jsonrpc.Call{{Method: strings.Repeat(`[{"\`, 50)}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := jsonrpc.Parse([]byte(test.text))
			if fmt.Sprintf("%+q", got) != fmt.Sprintf("%+q", test.want) {
				t.Errorf("got  %+q\nwant %+q", got, test.want)
			}
		})
	}
}

// request is a request with the raw id.
func request(id string) string {
	return `{"jsonrpc":"2.0","id":` + id + `,"method":"m"}`
}

// nested is n arrays in each other.
func nested(n int) string {
	return strings.Repeat("[", n) + strings.Repeat("]", n)
}

func TestParseRefuses(t *testing.T) {
	const (
		parse   = jsonrpc.CodeParse
		request = jsonrpc.CodeInvalidRequest
	)
	head := `{"jsonrpc":"2.0","method":"m",`
	tests := map[string]struct {
		text string
		code int
		id   string
	}{
		"empty":             {``, parse, "null"},
		"space":             {" \n", parse, "null"},
		"not JSON":          {`hello`, parse, "null"},
		"cut":               {`{"jsonrpc":"2.0","method":"m"`, parse, "null"},
		"trailing comma":    {`{"jsonrpc":"2.0","method":"m",}`, parse, "null"},
		"trailing text":     {`{"jsonrpc":"2.0","method":"m"}x`, parse, "null"},
		"two values":        {`{"jsonrpc":"2.0","method":"m"}{"jsonrpc":"2.0","method":"m"}`, parse, "null"},
		"byte order mark":   {"\ufeff" + head + `"id":1}`, parse, "null"},
		"comment":           {head + `/**/"id":1}`, parse, "null"},
		"single quotes":     {`{'jsonrpc':'2.0'}`, parse, "null"},
		"NaN":               {head + `"params":{"a":NaN}}`, parse, "null"},
		"Infinity":          {head + `"params":{"a":-Infinity}}`, parse, "null"},
		"leading zero":      {head + `"id":01}`, parse, "null"},
		"NUL":               {head + "\"id\":1}\x00", parse, "null"},
		"NUL in a string":   {head + "\"id\":\"\x00\"}", parse, "null"},
		"line feed, raw":    {head + "\"id\":\"\n\"}", parse, "null"},
		"invalid UTF-8":     {head + "\"id\":\"\xff\"}", parse, "null"},
		"overlong UTF-8":    {head + "\"id\":\"\xc0\x80\"}", parse, "null"},
		"raw surrogate":     {head + "\"id\":\"\xed\xa0\x80\"}", parse, "null"},
		"high surrogate":    {head + `"id":"\ud800"}`, parse, "null"},
		"low surrogate":     {head + `"params":{"a":"\udc00x"}}`, parse, "null"},
		"id twice":          {head + `"id":1,"id":2}`, parse, "null"},
		"id twice, escaped": {head + `"id":1,"\u0069d":2}`, parse, "null"},
		"name twice within": {head + `"params":{"a":{"b":1,"b":2}}}`, parse, "null"},
		"deep":              {head + `"params":` + nested(32) + `}`, parse, "null"},
		"deep behind a \\":  {head + `"params":{"\\":` + nested(31) + `}}`, parse, "null"},
		"very deep":         {nested(10001), parse, "null"},
		"deep and open":     {strings.Repeat(`{"a":`, 1_000_000), parse, "null"},
		"batch cut":         {`[` + head + `"id":1}`, parse, "null"},

		"number":               {`1`, request, "null"},
		"string":               {`"ping"`, request, "null"},
		"null":                 {`null`, request, "null"},
		"empty batch":          {`[]`, request, "null"},
		"long batch":           {`[` + strings.Repeat(`1,`, 1_000_000) + `1]`, request, "null"},
		"empty object":         {`{}`, request, "null"},
		"no version":           {`{"id":1,"method":"m"}`, request, "1"},
		"version 1.0":          {`{"jsonrpc":"1.0","id":1,"method":"m"}`, request, "1"},
		"version as a number":  {`{"jsonrpc":2.0,"id":1,"method":"m"}`, request, "1"},
		"version null":         {`{"jsonrpc":null,"id":1,"method":"m"}`, request, "1"},
		"no method":            {`{"jsonrpc":"2.0","id":1}`, request, "1"},
		"method a number":      {`{"jsonrpc":"2.0","id":"a","method":1}`, request, `"a"`},
		"method null":          {`{"jsonrpc":"2.0","method":null}`, request, "null"},
		"params a string":      {head + `"id":1,"params":"a"}`, request, "1"},
		"params a number":      {head + `"params":1}`, request, "null"},
		"params null":          {head + `"id":1,"params":null}`, request, "1"},
		"id null":              {head + `"id":null}`, request, "null"},
		"id true":              {head + `"id":true}`, request, "null"},
		"id 1.5":               {head + `"id":1.5}`, request, "null"},
		"id 1.0":               {head + `"id":1.0}`, request, "null"},
		"id 1e2":               {head + `"id":1e2}`, request, "null"},
		"id 1e400":             {head + `"id":1e400}`, request, "null"},
		"id 2^53+1":            {head + `"id":9007199254740993}`, request, "null"},
		"id -2^53-1":           {head + `"id":-9007199254740993}`, request, "null"},
		"id 2^64":              {head + `"id":18446744073709551616}`, request, "null"},
		"id an object":         {head + `"id":{}}`, request, "null"},
		"id an array":          {head + `"id":[1]}`, request, "null"},
		"id of 65 bytes":       {head + `"id":"` + strings.Repeat("a", 65) + `"}`, request, "null"},
		"id of 10 MB":          {head + `"id":"` + strings.Repeat("a", 10<<20) + `"}`, request, "null"},
		"response":             {`{"jsonrpc":"2.0","id":1,"result":{}}`, request, "null"},
		"failed response":      {`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}`, request, "null"},
		"request and response": {head + `"id":1,"result":1}`, request, "null"},
		"another member":       {head + `"id":1,"token":"x"}`, request, "1"},
		"name in another case": {`{"jsonrpc":"2.0","id":1,"Method":"m"}`, request, "1"},
		"name in both cases":   {head + `"id":1,"Method":"n"}`, request, "1"},
		"prototype":            {head + `"id":1,"__proto__":{"method":"n"}}`, request, "1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := jsonrpc.Parse([]byte(test.text))
			if len(got) != 1 || got[0].Err == nil {
				t.Fatalf("got %d calls: %+q", len(got), got)
			}
			if c := got[0]; c.Err.Code != test.code || c.ID != test.id {
				t.Errorf("got code %d for id %s, want %d for %s (%v)", c.Err.Code, c.ID, test.code, test.id, c.Err)
			}
			if !errors.Is(got[0].Err, parley.ErrInvalid) {
				t.Errorf("%v is not of the kind ErrInvalid", got[0].Err)
			}
			if n := len(got[0].Err.Message); n == 0 || n > 200 {
				t.Errorf("the message has %d bytes", n)
			}
		})
	}
}

func TestParseBatch(t *testing.T) {
	t.Run("a faulty entry fails alone", func(t *testing.T) {
		got := jsonrpc.Parse([]byte(`[1,` + request("2") + `,[],{"jsonrpc":"2.0","id":3},` + request("4") + `]`))
		var ids, codes []string
		for _, c := range got {
			ids = append(ids, c.ID)
			if c.Err != nil {
				codes = append(codes, fmt.Sprint(c.Err.Code))
			}
		}
		if s := strings.Join(ids, " "); s != "null 2 null 3 4" {
			t.Errorf("got ids %s", s)
		}
		if s := strings.Join(codes, " "); s != "-32600 -32600 -32600" {
			t.Errorf("got codes %s", s)
		}
	})
	t.Run("100 entries are the most", func(t *testing.T) {
		text := `[` + strings.Repeat(request("1")+`,`, 99) + request("1")
		if got := jsonrpc.Parse([]byte(text + `]`)); len(got) != 100 || got[99].Err != nil {
			t.Errorf("100: got %d calls", len(got))
		}
		if got := jsonrpc.Parse([]byte(text + `,` + request("1") + `]`)); len(got) != 1 || got[0].Err == nil {
			t.Errorf("101: got %d calls", len(got))
		}
	})
}

// seeds are frames of all sorts, beside those in testdata.
func seeds() []string {
	return []string{
		request("1"), request(`"a"`), request("null"), `[` + request("1") + `,2]`, `[]`, `{}`, ``,
		`{"jsonrpc":"2.0","method":"m","params":{"a":{"b":[1,2,"\u00e9\ud83d\ude00"]}}}`,
		`{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}`, "\ufeff{}", nested(33), `"\"`, `{"a":"\\\""}`,
	}
}

// FuzzParse holds Parse against the standard library: it may refuse more, but
// never reads a frame in another way.
func FuzzParse(f *testing.F) {
	for _, s := range seeds() {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		calls := jsonrpc.Parse(p)
		if len(calls) == 0 || len(calls) > jsonrpc.MaxBatch {
			t.Fatalf("%d calls", len(calls))
		}
		if calls[0].Err != nil && calls[0].Err.Code == jsonrpc.CodeParse {
			if len(calls) > 1 {
				t.Fatal("a frame that is no JSON has more than one fault")
			}
			return
		}
		if calls[0].Err == nil && !json.Valid(p) {
			t.Fatal("accepted what is no JSON")
		}
		for _, c := range calls {
			check(t, c)
		}
		if len(calls) == 1 && calls[0].Err == nil {
			compare(t, p, calls[0])
		}
	})
}

// check holds c to what the fields of a call promise.
func check(t *testing.T, c jsonrpc.Call) {
	if c.Err != nil {
		if c.ID == "" || c.Err.Code != jsonrpc.CodeInvalidRequest {
			t.Fatalf("id %q with error %d", c.ID, c.Err.Code)
		}
	} else if c.ID == jsonrpc.NullID {
		t.Fatal("a null id was accepted")
	}
	if c.ID != "" && !json.Valid([]byte(c.ID)) {
		t.Fatalf("id %q is no JSON", c.ID)
	}
	if c.Params != nil && !json.Valid(c.Params) {
		t.Fatalf("params %q are no JSON", c.Params)
	}
}

// compare reads the single request p with the standard library and expects c.
func compare(t *testing.T, p []byte, c jsonrpc.Call) {
	var members map[string]json.RawMessage
	if p[strings.IndexAny(string(p), "{[")] == '[' {
		var list []map[string]json.RawMessage
		if err := json.Unmarshal(p, &list); err != nil {
			t.Fatal(err)
		}
		members = list[0]
	} else if err := json.Unmarshal(p, &members); err != nil {
		t.Fatal(err)
	}
	var method string
	if err := json.Unmarshal(members["method"], &method); err != nil || method != c.Method {
		t.Fatalf("got method %q, want %q (%v)", c.Method, method, err)
	}
	if string(members["id"]) != c.ID || string(members["params"]) != string(c.Params) {
		t.Fatalf("got id %s, params %s", c.ID, c.Params)
	}
}
