package native_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
	"github.com/parley-im/parley/internal/protocol/native"
	"github.com/parley-im/parley/internal/wire"
)

const producer = "00112233445566778899aabbccddeeff"

func newCodec() *native.Codec { return native.New(lines{}, terms()) }

// decode decodes one text frame.
func decode(t *testing.T, c *native.Codec, text string) []protocol.Request {
	t.Helper()
	requests, err := c.Decode(nil, wire.Frame{Text: true, Payload: []byte(text)})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return requests
}

// call is a request with the id 1.
func call(method, params string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":` + params + `}`
}

// publish is what a publish of m with the id 1 decodes to.
func publish(m parley.Message) *protocol.Publish {
	return &protocol.Publish{Publish: broker.Publish{Ref: "1", Messages: []broker.Publication{{Message: m}}}}
}

func subscribe(s broker.Subscribe) *protocol.Subscribe {
	s.Ref = "1"
	return &protocol.Subscribe{Subscribe: s}
}

func TestDecode(t *testing.T) {
	noon := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		text string
		want protocol.Request
	}{
		"hello":          {call("hello", `{"version":1,"client":"a/1","producer":"`+producer+`"}`), &protocol.Hello{Ref: "1", Producer: producer}},
		"hello, bare":    {`{"jsonrpc":"2.0","id":"é","method":"hello"}`, &protocol.Hello{Ref: `"é"`}},
		"hello, capital": {call("hello", `{"producer":"`+strings.ToUpper(producer)+`"}`), &protocol.Hello{Ref: "1", Producer: producer}},

		"text":       {call("publish", `{"topic":"/a/b","text":"h\u00e9\n"}`), publish(parley.Message{Topic: "/a/b", Body: []byte("hé\n")})},
		"empty text": {call("publish", `{"topic":"/a","text":""}`), publish(parley.Message{Topic: "/a", Body: []byte{}})},
		"data":       {call("publish", `{"topic":"/a","data":"AP8="}`), publish(parley.Message{Topic: "/a", Body: []byte{0, 255}})},
		"no body":    {call("publish", `{"topic":"/a","data":null}`), publish(parley.Message{Topic: "/a"})},
		"label":      {call("publish", `{"topic":"/a","id":"m,1"}`), publish(parley.Message{Topic: "/a", ID: "m,1"})},
		"longest id": {
			call("publish", `{"topic":"/a","id":"`+strings.Repeat("x", 255)+`"}`),
			publish(parley.Message{Topic: "/a", ID: strings.Repeat("x", 255)}),
		},
		"headers": {
			call("publish", `{"topic":"/a","headers":{"b":"\n\"", "a":"\u00e9","":"x"}}`),
			publish(parley.Message{Topic: "/a", Header: `{"":"x","a":"é","b":"\n\""}`}),
		},
		"no headers": {call("publish", `{"topic":"/a","headers":{},"filters":{}}`), publish(parley.Message{Topic: "/a"})},
		"expires": {
			call("publish", `{"topic":"/a","expires":"9999-12-31T23:59:59.1234567+01:00"}`),
			publish(parley.Message{Topic: "/a", Expires: time.Date(9999, 12, 31, 22, 59, 59, 123456000, time.UTC)}),
		},
		"filters": {
			call("publish", `{"topic":"/a","filters":{"user_id":"ann","x":""}}`),
			publish(parley.Message{Topic: "/a", Filters: map[string]string{"user_id": "ann", "x": ""}}),
		},
		"batch of one": {
			call("publish", `{"messages":[{"topic":"/a"}]}`),
			&protocol.Publish{Publish: broker.Publish{Ref: "1", Batch: true, Messages: []broker.Publication{{Message: parley.Message{Topic: "/a"}}}}},
		},
		"batch": {
			call("publish", `{"messages":[{"topic":"/a","id":"1","text":"x"},{"topic":"/b"}]}`),
			&protocol.Publish{Publish: broker.Publish{Ref: "1", Batch: true, Messages: []broker.Publication{
				{Message: parley.Message{Topic: "/a", ID: "1", Body: []byte("x")}}, {Message: parley.Message{Topic: "/b"}},
			}}},
		},
		"publish without an answer": {
			`{"jsonrpc":"2.0","method":"publish","params":{"topic":"/a"}}`,
			&protocol.Publish{Publish: broker.Publish{Messages: []broker.Publication{{Message: parley.Message{Topic: "/a"}}}}},
		},

		"subscribe":       {call("subscribe", `{"topic":"/a"}`), subscribe(broker.Subscribe{Topic: "/a"})},
		"subscribe after": {call("subscribe", `{"topic":"/a","after":0}`), subscribe(broker.Subscribe{Topic: "/a", Start: broker.Start{Kind: broker.AfterSeq}})},
		"subscribe after most": {
			call("subscribe", `{"topic":"/a","after":9007199254740992,"since":null}`),
			subscribe(broker.Subscribe{Topic: "/a", Start: broker.Start{Kind: broker.AfterSeq, Seq: parley.MaxSeq}}),
		},
		"subscribe since": {
			call("subscribe", `{"topic":"/a","since":"2026-11-21T13:00:00+01:00"}`),
			subscribe(broker.Subscribe{Topic: "/a", Start: broker.Start{Kind: broker.SinceTime, Time: noon}}),
		},
		"subscribe last": {
			call("subscribe", `{"topic":"/a","last":3,"replay_only":true,"max":2}`),
			subscribe(broker.Subscribe{Topic: "/a", Start: broker.Start{Kind: broker.NewestN, Last: 3}, ReplayOnly: true, Max: 2}),
		},
		"unsubscribe": {call("unsubscribe", `{"sub":7}`), &protocol.Unsubscribe{Ref: "1", ID: 7}},

		"history": {call("history", `{"topic":"/a"}`), &protocol.History{Ref: "1", Topic: "/a"}},
		"history, all": {
			call("history", `{"topic":"/a","after":1,"before":9,"since":"2026-11-21T12:00:00Z","limit":5,"reverse":true}`),
			&protocol.History{Ref: "1", Topic: "/a", After: 1, Before: 9, Since: noon, Limit: 5, Reverse: true},
		},
		"count": {
			call("count", `{"topic":"/a","after":1,"before":9,"since":"2026-11-21T12:00:00Z"}`),
			&protocol.Count{Ref: "1", Topic: "/a", After: 1, Before: 9, Since: noon},
		},
		"ping":       {call("ping", `{}`), &protocol.Ping{Ref: "1"}},
		"ping, bare": {`{"jsonrpc":"2.0","id":-1,"method":"ping"}`, &protocol.Ping{Ref: "-1"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := decode(t, newCodec(), test.text)
			if len(got) != 1 || !reflect.DeepEqual(got[0], test.want) {
				t.Errorf("%s\ngot  %s\nwant %+v", test.text, show(got), test.want)
			}
		})
	}
}

func show(requests []protocol.Request) string {
	var b strings.Builder
	for _, r := range requests {
		fmt.Fprintf(&b, "%T%+v ", r, r)
	}
	return b.String()
}

func TestDecodeRefuses(t *testing.T) {
	const params = jsonrpc.CodeInvalidParams
	object := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"%d":""`, i)
		}
		return "{" + b.String()[1:] + "}"
	}
	tests := map[string]struct {
		text string
		code int
	}{
		"not JSON":         {`ping`, jsonrpc.CodeParse},
		"not a request":    {`{"id":1}`, jsonrpc.CodeInvalidRequest},
		"unknown method":   {call("pong", `{}`), jsonrpc.CodeMethodNotFound},
		"method by path":   {call("../publish", `{}`), jsonrpc.CodeMethodNotFound},
		"method with NUL":  {call(`ping\u0000`, `{}`), jsonrpc.CodeMethodNotFound},
		"method in case":   {call(`Ping`, `{}`), jsonrpc.CodeMethodNotFound},
		"method of 1 MB":   {call(strings.Repeat("m", 1<<20), `{}`), jsonrpc.CodeMethodNotFound},
		"params an array":  {call("publish", `["/a","x"]`), params},
		"ping with params": {call("ping", `{"a":1}`), params},

		"version 2":          {call("hello", `{"version":2}`), params},
		"version a string":   {call("hello", `{"version":"1"}`), params},
		"producer too short": {call("hello", `{"producer":"`+producer[:30]+`"}`), params},
		"producer too long":  {call("hello", `{"producer":"`+producer+`00"}`), params},
		"producer not hex":   {call("hello", `{"producer":"`+producer[:31]+`g"}`), params},
		"producer empty":     {call("hello", `{"producer":""}`), params},
		"client too long":    {call("hello", `{"client":"`+strings.Repeat("a", 256)+`"}`), params},

		"no params":             {`{"jsonrpc":"2.0","id":1,"method":"publish"}`, params},
		"no topic":              {call("publish", `{"text":"x"}`), params},
		"bad topic":             {call("publish", `{"topic":"a"}`), params},
		"topic a number":        {call("publish", `{"topic":1}`), params},
		"topic in capitals":     {call("publish", `{"Topic":"/a"}`), params},
		"text and data":         {call("publish", `{"topic":"/a","text":"","data":""}`), params},
		"text not a string":     {call("publish", `{"topic":"/a","text":{}}`), params},
		"data not base64":       {call("publish", `{"topic":"/a","data":"_w=="}`), params},
		"data without padding":  {call("publish", `{"topic":"/a","data":"/w"}`), params},
		"unknown member":        {call("publish", `{"topic":"/a","body":"x"}`), params},
		"prototype":             {call("publish", `{"topic":"/a","__proto__":{"text":"x"}}`), params},
		"empty id":              {call("publish", `{"topic":"/a","id":""}`), params},
		"long id":               {call("publish", `{"topic":"/a","id":"`+strings.Repeat("x", 256)+`"}`), params},
		"id with a line feed":   {call("publish", `{"topic":"/a","id":"a\nb"}`), params},
		"headers not strings":   {call("publish", `{"topic":"/a","headers":{"a":1}}`), params},
		"headers a string":      {call("publish", `{"topic":"/a","headers":"{}"}`), params},
		"headers too long":      {call("publish", `{"topic":"/a","headers":{"a":"`+strings.Repeat("x", 16384)+`"}}`), params},
		"expires in the past":   {call("publish", `{"topic":"/a","expires":"2020-01-01T00:00:00Z"}`), params},
		"expires a number":      {call("publish", `{"topic":"/a","expires":4102444800}`), params},
		"expires without zone":  {call("publish", `{"topic":"/a","expires":"2999-01-01T00:00:00"}`), params},
		"17 filters":            {call("publish", `{"topic":"/a","filters":`+object(17)+`}`), params},
		"filter without name":   {call("publish", `{"topic":"/a","filters":{"":"x"}}`), params},
		"long filter":           {call("publish", `{"topic":"/a","filters":{"a":"`+strings.Repeat("x", 256)+`"}}`), params},
		"empty batch":           {call("publish", `{"messages":[]}`), params},
		"batch and topic":       {call("publish", `{"topic":"/a","messages":[{"topic":"/a"}]}`), params},
		"batch and text":        {call("publish", `{"text":"","messages":[{"topic":"/a"}]}`), params},
		"batch with a fault":    {call("publish", `{"messages":[{"topic":"/a"},{"topic":"/a","id":""}]}`), params},
		"batch of numbers":      {call("publish", `{"messages":[1]}`), params},
		"batch too long":        {call("publish", `{"messages":[`+strings.Repeat(`{"topic":"/a"},`, 10)+`{"topic":"/a"}]}`), params},
		"subscribe nowhere":     {call("subscribe", `{}`), params},
		"subscribe with a list": {call("subscribe", `{"topic":["/a"]}`), params},
		"after and last":        {call("subscribe", `{"topic":"/a","after":0,"last":1}`), params},
		"since and last":        {call("subscribe", `{"topic":"/a","since":"2026-11-21T12:00:00Z","last":1}`), params},
		"after -1":              {call("subscribe", `{"topic":"/a","after":-1}`), params},
		"after 1.5":             {call("subscribe", `{"topic":"/a","after":1.5}`), params},
		"after 2^53+1":          {call("subscribe", `{"topic":"/a","after":9007199254740993}`), params},
		"after 2^64":            {call("subscribe", `{"topic":"/a","after":18446744073709551616}`), params},
		"since a date":          {call("subscribe", `{"topic":"/a","since":"2026-11-21"}`), params},
		"since empty":           {call("subscribe", `{"topic":"/a","since":""}`), params},
		"last 0":                {call("subscribe", `{"topic":"/a","last":0}`), params},
		"last 1e9":              {call("subscribe", `{"topic":"/a","last":1e9}`), params},
		"max 0":                 {call("subscribe", `{"topic":"/a","after":0,"max":0,"replay_only":true}`), params},
		"max and live":          {call("subscribe", `{"topic":"/a","after":0,"max":1}`), params},
		"replay of nothing":     {call("subscribe", `{"topic":"/a","replay_only":true}`), params},
		"unsubscribe no one":    {call("unsubscribe", `{}`), params},
		"unsubscribe 0":         {call("unsubscribe", `{"sub":0}`), params},
		"unsubscribe -1":        {call("unsubscribe", `{"sub":-1}`), params},
		"history nowhere":       {call("history", `{}`), params},
		"history limit 0":       {call("history", `{"topic":"/a","limit":0}`), params},
		"history limit -1":      {call("history", `{"topic":"/a","limit":-1}`), params},
		"history before 0":      {call("history", `{"topic":"/a","before":0}`), params},
		"history before 2^53+1": {call("history", `{"topic":"/a","before":9007199254740993}`), params},
		"history reverse 1":     {call("history", `{"topic":"/a","reverse":1}`), params},
		"count nowhere":         {call("count", `{}`), params},
		"count with a limit":    {call("count", `{"topic":"/a","limit":1}`), params},
		"count after 2^53+1":    {call("count", `{"topic":"/a","after":9007199254740993}`), params},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := decode(t, newCodec(), test.text)
			if len(got) != 1 {
				t.Fatalf("got %s", show(got))
			}
			bad, ok := got[0].(*protocol.Bad)
			if !ok || !errors.Is(bad.Err, parley.ErrInvalid) {
				t.Fatalf("got %s", show(got))
			}
			answer := encode(t, &broker.Failed{Ref: bad.Ref, Err: bad.Err})
			e, _ := answer["error"].(map[string]any)
			if code, _ := e["code"].(float64); int(code) != test.code {
				t.Errorf("got %v, want %d", answer, test.code)
			}
			if message, _ := e["message"].(string); message == "" || strings.HasSuffix(message, ": invalid") {
				t.Errorf("got message %q", message)
			}
		})
	}
}

func TestDecodeNotifications(t *testing.T) {
	for _, text := range []string{
		`{"jsonrpc":"2.0","method":"pong"}`,
		`{"jsonrpc":"2.0","method":"publish","params":{}}`,
		`[{"jsonrpc":"2.0","method":"subscribe"},{"jsonrpc":"2.0","method":"hello","params":{"version":2}}]`,
	} {
		if got := decode(t, newCodec(), text); len(got) != 0 {
			t.Errorf("%s: a faulty notification gets an answer: %s", text, show(got))
		}
	}
}

func TestDecodeBatch(t *testing.T) {
	c := newCodec()
	got := decode(t, c, `[`+call("ping", `{}`)+`,{"jsonrpc":"2.0","method":"ping"},3,`+call("ping", `{"x":1}`)+`]`)
	want := []string{`*protocol.Ping "1"`, `*protocol.Ping ""`, `*protocol.Bad "null"`, `*protocol.Bad "1"`}
	for i, r := range got {
		var ref string
		switch r := r.(type) {
		case *protocol.Ping:
			ref = r.Ref
		case *protocol.Bad:
			ref = r.Ref
		default:
			t.Errorf("request %d is a %T", i, r)
		}
		if s := fmt.Sprintf("%T %q", r, ref); i >= len(want) || s != want[i] {
			t.Errorf("request %d is %s", i, s)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d requests", len(got))
	}
}

func TestDecodeBinary(t *testing.T) {
	got, err := newCodec().Decode(nil, wire.Frame{Payload: []byte(call("ping", `{}`))})
	if err != nil || len(got) != 1 {
		t.Fatal(show(got), err)
	}
	if bad, ok := got[0].(*protocol.Bad); !ok || bad.Ref != "null" {
		t.Errorf("got %s", show(got))
	}
}

// The producer goes with every publish that has an id, and with no other.
func TestProducer(t *testing.T) {
	c := newCodec()
	decode(t, c, call("hello", `{"producer":"`+producer+`"}`))
	got := decode(t, c, call("publish", `{"messages":[{"topic":"/a","id":"x"},{"topic":"/a"}]}`))
	m := got[0].(*protocol.Publish).Messages
	if m[0].Producer != producer || m[1].Producer != "" {
		t.Errorf("got producers %q, %q", m[0].Producer, m[1].Producer)
	}
}

func TestHelloComesFirst(t *testing.T) {
	hello := call("hello", `{"producer":"`+producer+`"}`)
	for name, first := range map[string]string{"hello": hello, "ping": call("ping", `{}`), "an unknown method": call("x", `{}`)} {
		c := newCodec()
		decode(t, c, first)
		got := decode(t, c, hello)
		if bad, ok := got[0].(*protocol.Bad); !ok || !errors.Is(bad.Err, parley.ErrConflict) {
			t.Errorf("after %s: got %s", name, show(got))
		}
	}
	c := newCodec()
	decode(t, c, call("hello", `{"version":2}`))
	if got := decode(t, c, hello); len(got) != 1 || got[0].(*protocol.Hello).Producer != producer {
		t.Errorf("after a hello that failed: got %s", show(got))
	}
}

// What a request keeps must survive the frame, whose buffer is used again.
func TestDecodeCopies(t *testing.T) {
	text := `{"jsonrpc":"2.0","id":"id","method":"publish","params":{"topic":"/topic","text":"text","id":"label","headers":{"h":"v"},"filters":{"f":"w"}}}`
	p := []byte(text)
	c := newCodec()
	got, err := c.Decode(nil, wire.Frame{Text: true, Payload: p})
	if err != nil {
		t.Fatal(err)
	}
	clear(p)
	if want := decode(t, newCodec(), text); !reflect.DeepEqual(got, want) {
		t.Errorf("got %s", show(got))
	}
}

// Expiry is judged by the server's clock at that moment.
func TestExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCodec()
		text := call("publish", `{"topic":"/a","expires":"`+time.Now().Add(time.Second).Format(time.RFC3339Nano)+`"}`)
		if _, ok := decode(t, c, text)[0].(*protocol.Publish); !ok {
			t.Error("refused a second before")
		}
		<-time.After(time.Second) // virtual
		if _, ok := decode(t, c, text)[0].(*protocol.Bad); !ok {
			t.Error("accepted when it had expired")
		}
	})
}

// FuzzDecode holds every request to what the broker relies on.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(call("publish", `{"topic":"/a/b","text":"hi","id":"m","headers":{"k":"v"},"filters":{"k":"v"}}`)))
	f.Add([]byte(`[` + call("ping", `{}`) + `,` + call("count", `{"topic":"/a"}`) + `]`))
	f.Fuzz(func(t *testing.T, p []byte) {
		c := newCodec()
		requests, err := c.Decode(nil, wire.Frame{Text: true, Payload: p})
		if err != nil || len(requests) > jsonrpc.MaxBatch {
			t.Fatalf("%d requests, error %v", len(requests), err)
		}
		for _, r := range requests {
			hold(t, c, r)
		}
	})
}

func hold(t *testing.T, c *native.Codec, r protocol.Request) {
	switch r := r.(type) {
	case *protocol.Publish:
		if len(r.Messages) == 0 || len(r.Messages) > terms().BatchMessages {
			t.Fatalf("%d messages", len(r.Messages))
		}
		for _, p := range r.Messages {
			holdMessage(t, &p.Message)
		}
	case *protocol.Subscribe:
		holdTopic(t, r.Topic)
		if r.Start.Seq > parley.MaxSeq || r.Start.Last < 0 || r.Max < 0 {
			t.Fatalf("%+v", r)
		}
	case *protocol.History:
		if r.Topic != "" { // the user's own inbox has none yet
			holdTopic(t, r.Topic)
		}
		if r.After > parley.MaxSeq || r.Before > parley.MaxSeq || r.Limit < 0 {
			t.Fatalf("%+v", r)
		}
	case *protocol.Count:
		holdTopic(t, r.Topic)
	case *protocol.Bad:
		if r.Ref == "" {
			t.Fatal("a notification is answered")
		}
		payload(t, c, &broker.Failed{Ref: r.Ref, Err: r.Err})
	case *protocol.Ping:
		if r.Ref != "" {
			payload(t, c, &broker.Pong{Ref: r.Ref})
		}
	case *protocol.Hello, *protocol.Unsubscribe:
	default:
		holdPersonal(t, r)
	}
}

func holdTopic(t *testing.T, topic parley.Topic) {
	if _, err := parley.ParseTopic(string(topic)); err != nil {
		t.Fatal(err)
	}
}

// holdMessage checks that what a client published is delivered as it was.
func holdMessage(t *testing.T, m *parley.Message) {
	holdTopic(t, m.Topic)
	if len(m.ID) > parley.MaxIDBytes || len(m.Header) > parley.MaxHeaderBytes || len(m.Filters) > parley.MaxFilters {
		t.Fatalf("%+v", m)
	}
	if strings.ContainsRune(m.Header, '\n') || m.Header != "" && !jsonrpc.IsStrings(m.Header) {
		t.Fatalf("header %q", m.Header)
	}
	back := deliver(t, m)
	if back.Topic != string(m.Topic) || back.ID != m.ID || back.body(t) != string(m.Body) || len(back.Filters) != len(m.Filters) {
		t.Fatalf("%+v is delivered as %+v", m, back)
	}
}

// body is the body that a delivered message tells.
func (d *delivered) body(t *testing.T) string {
	if d.Text != nil {
		return *d.Text
	}
	p, err := base64.StdEncoding.DecodeString(*d.Data)
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}
