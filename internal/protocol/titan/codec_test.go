package titan_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/titan"
	"github.com/parley-im/parley/internal/wire"
)

// lines is a framing of one line a frame.
type lines struct{}

func (lines) Name() string { return "lines" }

func (lines) AppendFrame(dst []byte, _ bool, payload []byte) []byte {
	return append(append(dst, payload...), '\n')
}

func terms(d titan.Dialect) titan.Terms {
	ids, err := titan.NewIDs(make([]byte, titan.SecretBytes))
	if err != nil {
		panic(err)
	}
	return titan.Terms{
		Dialect: d, IDs: ids, Batch: 3, NakDelay: time.Minute,
		Clock: func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) },
	}
}

// decode is what a codec makes of frames, in words.
func decode(t testing.TB, c *titan.Codec, frames ...string) string {
	t.Helper()
	var said []string
	for _, f := range frames {
		requests, err := c.Decode(nil, wire.Frame{Text: true, Payload: []byte(f)})
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		for _, r := range requests {
			said = append(said, describe(c, r))
		}
	}
	return strings.Join(said, "; ")
}

// describe says what a request is, and for what the codec answers itself, what
// the client is told and whether that is the end.
func describe(c *titan.Codec, r protocol.Request) string {
	switch r := r.(type) {
	case *protocol.Authenticate:
		return fmt.Sprintf("show %d %s%x", r.Credential.Kind, r.Credential.Secret, r.Credential.Certificate)
	case *protocol.Inbox:
		return "inbox"
	case *protocol.Await:
		return "await"
	case *protocol.Send:
		var b strings.Builder
		b.WriteString("send")
		for _, l := range r.Letters {
			fmt.Fprintf(&b, " %v %q", l.To, l.Message.Body)
			if l.Message.Header != "" {
				b.WriteString(" " + l.Message.Header)
			}
			if !l.Message.Expires.IsZero() {
				b.WriteString(" until " + l.Message.Expires.Format(time.RFC3339))
			}
		}
		return b.String()
	case *protocol.Ack:
		if r.Nak {
			return fmt.Sprintf("nak %d %v", r.Ranges[0].First, r.Delay)
		}
		return fmt.Sprintf("ack %d", r.Ranges[0].First)
	case *protocol.Reply:
		return tell(c, r.Event)
	case *protocol.Bad:
		return tell(c, &broker.Failed{Ref: r.Ref, Err: r.Err})
	case *protocol.Publish, *protocol.Subscribe, *protocol.Unsubscribe, *protocol.History, *protocol.Count, *protocol.Ping, *protocol.Hello,
		*protocol.MarkRead, *protocol.Sessions:
	}
	return fmt.Sprintf("%T", r)
}

func tell(c *titan.Codec, e broker.Event) string {
	said := strings.TrimSuffix(string(c.Encode(nil, e)), "\n")
	if c.Last(e) {
		said += " END"
	}
	return strings.TrimSpace(said)
}

const (
	claim = `{"id":"j","method":"auth.jwt","params":{"token":"T"}}`
	known = "show 1 T; inbox"
)

// What Titan's server did with a message, by the rows of its behaviour; where
// this one does better, the wanted text says how.
func TestTitan(t *testing.T) {
	for name, test := range map[string]struct{ frame, want string }{
		// The envelope.
		"a version":             {`{"jsonrpc":"2.0","id":"1","method":"echo","params":{"a":1}}`, `{"id":"1","result":{"a":1}}`},
		"another version":       {`{"jsonrpc":1,"id":"1","method":"echo","params":[1]}`, `{"id":"1","result":[1]}`},
		"a number as id":        {`{"id":12,"method":"echo","params":1.0}`, `{"id":12,"result":1.0}`},
		"an odd number as id":   {`{"id":1e400,"method":"echo","params":12345678901234567890}`, `{"id":1e400,"result":12345678901234567890}`},
		"an escaped id":         {`{"id":"\u0041<","method":"echo","params":0}`, `{"id":"\u0041<","result":0}`},
		"no id":                 {`{"method":"echo","params":{"a":1}}`, `{"id":"","result":{"a":1}}`},
		"null as id":            {`{"id":null,"method":"ping"}`, `{"id":"","result":"ACK"}`},
		"an empty id":           {`{"id":"","method":"ping"}`, `{"id":"","result":"ACK"}`},
		"names in any case":     {`{"ID":"1","Method":"echo","PARAMS":"x"}`, `{"id":"1","result":"x"}`},
		"unknown members":       {`{"id":"1","method":"ping","more":{"x":[]},"":0}`, `{"id":"1","result":"ACK"}`},
		"a method and a result": {`{"id":"1","method":"ping","result":"ACK"}`, `{"id":"1","result":"ACK"}`},
		"binary":                {"{\"id\":\"1\",\n\t\"method\":\"ping\"}", `{"id":"1","result":"ACK"}`},
		"a batch": {
			`[{"id":"1","method":"ping"},{"id":2,"method":"no.such"},{"id":"3","result":"ACK"},{"method":"echo","params":false}]`,
			`{"id":"1","result":"ACK"}; {"id":2,"error":{"code":-32601,"message":"there is no such method"}}; {"id":"","result":false}`,
		},
		"a bad id":           {`{"id":true,"method":"ping"}`, "END"},
		"an object as id":    {`{"id":{},"method":"ping"}`, "END"},
		"a long id":          {`{"id":"` + strings.Repeat("x", 300) + `","method":"ping"}`, "END"},
		"a name twice":       {`{"id":"1","method":"ping","ID":"2"}`, "END"},
		"a name twice below": {`{"id":"1","method":"echo","params":{"a":1,"a":2}}`, "END"},
		"a bad method":       {`{"id":"1","method":7}`, `{"id":"1","error":{"code":-32600,"message":"method must be a string"}} END`},
		"an empty batch":     {`[]`, "END"},
		"a batch of batches": {`[[{"id":"1","method":"ping"}]]`, "END"},
		"null":               {`null`, "END"},
		"a string":           {`"ping"`, "END"},
		"a number":           {`7`, "END"},
		"an empty frame":     {``, "END"},
		"no JSON":            {`{"id":"1"`, "END"},
		"trailing text":      {`{"id":"1","method":"ping"}x`, "END"},
		"bad UTF-8":          {"{\"id\":\"1\",\"method\":\"echo\",\"params\":\"\xff\"}", "END"},
		"too deep":           {`{"id":"1","method":"echo","params":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, "END"},
		"an empty object":    {`{}`, "END"},
		"an id alone":        {`{"id":"1"}`, "END"},
		"a result alone":     {`{"result":"ACK"}`, "END"},
		"an unknown ack":     {`{"id":"abc","result":"ACK"}`, ""},
		"a null ack":         {`{"id":"abc","result":null}`, ""},
		"a numbered ack":     {`{"id":1,"result":"ACK"}`, ""},

		// The methods.
		"authenticated again":  {`{"id":"2","method":"auth.jwt","params":{"token":7}}`, `{"id":"2","result":"ACK"}`},
		"and without params":   {`{"id":"2","method":"auth.jwt"}`, `{"id":"2","result":"ACK"}`},
		"an unknown method":    {`{"id":"1","method":"no.such","params":{}}`, `{"id":"1","error":{"code":-32601,"message":"there is no such method"}}`},
		"msg.recv":             {`{"id":"1","method":"msg.recv"}`, `{"id":"1","error":{"code":-32601,"message":"there is no such method"}}`},
		"msg.echo":             {`{"id":"1","method":"msg.echo","params":1}`, `{"id":"1","error":{"code":-32601,"message":"there is no such method"}}`},
		"echo of false":        {`{"id":"1","method":"echo","params":false}`, `{"id":"1","result":false}`},
		"echo of nothing":      {`{"id":"1","method":"echo","params":""}`, `{"id":"1","result":""}`},
		"echo of null":         {`{"id":"1","method":"echo","params":null}`, `{"id":"1","result":null}`},
		"echo without params":  {`{"id":"1","method":"echo"}`, `{"id":"1","error":{"code":-32602,"message":"params are missing"}} END`},
		"Google, later":        {`{"id":"1","method":"auth.google","params":{"token":"G"}}`, `show 2 G`},
		"a message":            {`{"id":"1","method":"msg.send","params":[{"from":"x","to":"Bob","time":"2016-02-23T10:11:12Z","message":"hi"}]}`, `send [bob] "hi"`},
		"a local time":         {`{"id":"1","method":"msg.send","params":[{"to":"b","time":"2016-02-23T10:11:12.5+02:00","message":"hi"}]}`, `send [b] "hi"`},
		"names of its members": {`{"id":"1","method":"msg.send","params":[{"TO":"b","Message":"hi","more":1}]}`, `send [b] "hi"`},
		"no text":              {`{"id":"1","method":"msg.send","params":[{"to":"b"}]}`, `send [b] ""`},
		"several": {
			`{"id":"1","method":"msg.send","params":[{"to":"a","message":"1"},{"to":"Echo","message":"2"},{"to":"c","message":"3","ttl":1.5}]}`,
			`send [a] "1" [] "2" {"from":"echo"} [c] "3" until 2026-01-02T03:04:06Z`,
		},
		"none":           {`{"id":"1","method":"msg.send","params":[]}`, `{"id":"1","result":"ACK"}`},
		"null messages":  {`{"id":"1","method":"msg.send","params":null}`, `{"id":"1","result":"ACK"}`},
		"no messages":    {`{"id":"1","method":"msg.send"}`, `{"id":"1","error":{"code":-32602,"message":"params are missing"}} END`},
		"one, no array":  {`{"id":"1","method":"msg.send","params":{"to":"2","message":"a"}}`, `{"id":"1","error":{"code":-32602,"message":"params: must be an array"}} END`},
		"a bad time":     {`{"id":"1","method":"msg.send","params":[{"to":"b","time":"now","message":"hi"}]}`, `{"id":"1","error":{"code":-32602,"message":"params/0/time: a value of another kind or range is needed"}} END`},
		"a number as to": {`{"id":"1","method":"msg.send","params":[{"to":"b"},{"to":2,"message":"hi"}]}`, `{"id":"1","error":{"code":-32602,"message":"params/1/to: a value of another kind or range is needed"}} END`},
		"too many":       {`{"id":"1","method":"msg.send","params":[{},{},{},{}]}`, `{"id":"1","error":{"code":-32602,"message":"params: too many entries, at most 3"}} END`},
		"to nobody":      {`{"id":"1","method":"msg.send","params":[{"message":"hi"}]}`, `{"id":"1","error":{"code":-32602,"message":"the user has no name"}}`},
		"to a path":      {`{"id":"1","method":"msg.send","params":[{"to":"a/b","message":"hi"}]}`, `{"id":"1","error":{"code":-32602,"message":"the user's name contains a slash, a comma, a space or a control character"}}`},
		"no time to live": {
			`{"id":"1","method":"msg.send","params":[{"to":"a","ttl":0}]}`,
			`{"id":"1","error":{"code":-32602,"message":"ttl must be seconds, above 0 and at most ten years"}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := titan.New(lines{}, terms(titan.Titan), false)
			if got := decode(t, c, claim); got != known {
				t.Fatalf("first: %s", got)
			}
			if got := decode(t, c, test.frame); got != test.want {
				t.Errorf("%s\ngot  %s\nwant %s", test.frame, got, test.want)
			}
			if strings.HasSuffix(test.want, "END") {
				if got := decode(t, c, `{"id":"9","method":"ping"}`, `{`); got != "" {
					t.Errorf("after the end: %s", got)
				}
			}
		})
	}
}

// Until somebody is known, a request has to be its own proof.
func TestTitanFirst(t *testing.T) {
	const refused = `,"error":{"code":-32001,"message":"authenticate first: a valid token is needed"}} END`
	for name, test := range map[string]struct{ frame, want string }{
		"auth.jwt":             {claim, known},
		"a token elsewhere":    {`{"id":"1","method":"echo","params":{"message":"hi","token":"T"}}`, `show 1 T; {"id":"1","result":{"message":"hi","token":"T"}}; inbox`},
		"an unknown method":    {`{"id":"1","method":"no.such","params":{"token":"T"}}`, `show 1 T; {"id":"1","error":{"code":-32601,"message":"there is no such method"}}; inbox`},
		"Google":               {`{"id":"1","method":"auth.google","params":{"token":"G"}}`, `show 2 G; inbox`},
		"Google, older":        {`{"id":"1","method":"auth.google","params":{"accessToken":"G"}}`, `show 2 G; inbox`},
		"Google without token": {`{"id":"1","method":"auth.google","params":{}}`, `{"id":"1","error":{"code":666,"message":"Failed to authenticated with the given Google oauth access token."}} END`},
		"no params":            {`{"id":"1","method":"auth.jwt"}`, `{"id":"1"` + refused},
		"null":                 {`{"id":1,"method":"auth.jwt","params":null}`, `{"id":1` + refused},
		"an array":             {`{"method":"msg.send","params":[{"to":"2","token":"T"}]}`, `{"id":""` + refused},
		"an empty token":       {`{"id":"1","method":"auth.jwt","params":{"token":""}}`, `{"id":"1"` + refused},
		"a number as token":    {`{"id":"1","method":"auth.jwt","params":{"token":1}}`, `{"id":"1"` + refused},
		"a response":           {`{"id":"1","result":"ACK"}`, "END"},
		"a batch":              {`[` + claim + `]`, "END"},
		"a long frame":         {claim + strings.Repeat(" ", 9000), "END"},
		"no JSON":              {`GET / HTTP/1.1`, "END"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := decode(t, titan.New(lines{}, terms(titan.Titan), false), test.frame); got != test.want {
				t.Errorf("%s\ngot  %s\nwant %s", test.frame, got, test.want)
			}
		})
	}
}

// The same for Devastator, whose clients have certificates.
func TestDevastator(t *testing.T) {
	for name, test := range map[string]struct{ frame, want string }{
		"msg.echo":           {`{"id":"1","method":"msg.echo","params":{"echo":"echo"}}`, `{"id":"1","result":{"echo":"echo"}}; inbox`},
		"without params":     {`{"id":"2","method":"msg.echo"}`, `{"id":"2","result":""}; inbox`},
		"msg.recv":           {`{"id":"r","method":"msg.recv"}`, `{"id":"r","result":"ACK"}; inbox`},
		"auth.cert":          {`{"id":"c","method":"auth.cert"}`, `{"id":"c","result":"ACK"}; inbox`},
		"a number as id":     {`{"id":1,"method":"auth.cert"}`, `{"id":1,"result":"ACK"}; inbox`},
		"msg.send":           {`{"id":"s","method":"msg.send","params":{"to":"2","message":"Hello"}}`, `send [2] "Hello"; await; inbox`},
		"to the bot":         {`{"id":"s","method":"msg.send","params":{"to":"ECHO","message":"Hello"}}`, `send [] "Hello" {"from":"echo"}; await; inbox`},
		"to a path":          {`{"id":"s","method":"msg.send","params":{"to":"/","message":"Hello"}}`, `{"id":"s","error":{"code":-32602,"message":"the user's name contains a slash, a comma, a space or a control character"}}; inbox`},
		"an array":           {`{"id":"s","method":"msg.send","params":[{"to":"2","message":"Hello"}]}`, `{"id":"s","error":{"code":-32602,"message":"params: must be an object"}} END`},
		"no message":         {`{"id":"s","method":"msg.send"}`, `{"id":"s","error":{"code":-32602,"message":"params are missing"}} END`},
		"an unknown request": {`{"id":"1","method":"echo","params":1}`, `{"id":"1","error":{"code":-32601,"message":"there is no such method"}}; inbox`},
		"a notification":     {`{"method":"ping"}`, `inbox`},
		"conn.close":         {`{"method":"conn.close"}`, `END`},
		"nothing":            {`{}`, `inbox; {"method":"invalidMessage"}`},
		"a result alone":     {`{"result":"ACK"}`, `inbox; {"method":"invalidMessage"}`},
		"an unknown ack":     {`{"id":"abc","result":"ACK"}`, `inbox`},
		"an id alone":        {`{"id":"abc"}`, `inbox`},
		"Google":             {`{"id":"g","method":"auth.google","params":{"accessToken":"G"}}`, `show 2 G`},
		"an empty frame":     {``, `END`},
		"no JSON":            {`xx`, `END`},
		"a batch": {
			`[{"id":"1","method":"auth.cert"},{"method":"ping"},{"id":"2","method":"msg.echo","params":1},{"id":"3","method":"x"},{"id":"abc","result":"ACK"}]`,
			`; inbox; ; [{"id":"1","result":"ACK"},{"id":"2","result":1},{"id":"3","error":{"code":-32601,"message":"there is no such method"}}]`,
		},
		"a batch of acks": {`[{"id":"abc","result":"ACK"}]`, `inbox`},
		"a batch with an end": {
			`[{"id":"1","method":"msg.echo"},{"id":"2","method":"msg.send"},{"id":"3","method":"ping"}]`,
			`; inbox; [{"id":"1","result":""},{"id":"2","error":{"code":-32602,"message":"params are missing"}}] END`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := decode(t, titan.New(lines{}, terms(titan.Devastator), true), test.frame); got != test.want {
				t.Errorf("%s\ngot  %s\nwant %s", test.frame, got, test.want)
			}
		})
	}
}

// Without a certificate there is only signing in.
func TestDevastatorWithout(t *testing.T) {
	const refused = `,"error":{"code":-32001,"message":"authenticate first: a client certificate is needed"}} END`
	for name, test := range map[string]struct{ frame, want string }{
		"Google":         {`{"id":"g","method":"auth.google","params":{"accessToken":"G"}}`, `show 2 G`},
		"auth.cert":      {`{"id":"c","method":"auth.cert"}`, `{"id":"c","error":{"code":666,"message":"Invalid client certificate."}} END`},
		"msg.echo":       {`{"id":"1","method":"msg.echo","params":1}`, `{"id":"1"` + refused},
		"a token":        {`{"id":"1","method":"msg.echo","params":{"token":"T"}}`, `{"id":"1"` + refused},
		"a notification": {`{"method":"ping"}`, `END`},
		"nothing":        {`{}`, `END`},
		"a response":     {`{"id":"1","result":"ACK"}`, `END`},
		"a batch":        {`[{"id":"g","method":"auth.google","params":{"accessToken":"G"}}]`, `END`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := decode(t, titan.New(lines{}, terms(titan.Devastator), false), test.frame); got != test.want {
				t.Errorf("%s\ngot  %s\nwant %s", test.frame, got, test.want)
			}
		})
	}
	c := titan.New(lines{}, terms(titan.Devastator), false)
	decode(t, c, `{"id":"g","method":"auth.google","params":{"accessToken":"G"}}`)
	if got, want := decode(t, c, `{"id":"r","method":"msg.recv"}`), `{"id":"r","result":"ACK"}; inbox`; got != want {
		t.Errorf("signed in: %s, want %s", got, want)
	}
}

// What the client is told of a proof.
func TestAuthenticated(t *testing.T) {
	login := &account.Login{
		Principal:   &account.Principal{Identity: parley.Identity{User: "ann"}},
		Profile:     &account.Profile{Name: "Ann A", Email: "ann@example.org", Picture: []byte("\x89PNGfake")},
		Token:       "eyJ",
		Certificate: []byte("-----BEGIN"), Key: []byte("KEY"),
	}
	google := `{"id":"g","method":"auth.google","params":{"token":"G"}}`
	for name, test := range map[string]struct {
		dialect     titan.Dialect
		ask         string
		want, fails string
	}{
		"auth.jwt": {titan.Titan, claim, `{"id":"j","result":"ACK"}`, `{"id":"j","error":{"code":-32001,"message":"authenticate first"}} END`},
		"implicit": {titan.Titan, `{"id":"1","method":"ping","params":{"token":"T"}}`, ``, `{"id":"1","error":{"code":-32001,"message":"authenticate first"}} END`},
		"Titan's Google": {
			titan.Titan, google, `{"id":"g","result":{"token":"eyJ","id":"ann","name":"Ann A","email":"ann@example.org","picture":"iVBOR2Zha2U="}}`,
			`{"id":"g","error":{"code":666,"message":"Failed to authenticated with the given Google oauth access token."}} END`,
		},
		"Devastator's Google": {
			titan.Devastator, google, `{"id":"g","result":{"Cert":"LS0tLS1CRUdJTg==","Key":"S0VZ"}}`,
			`{"id":"g","error":{"code":666,"message":"Failed to authenticated user with Google+ OAuth access token."}} END`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := titan.New(lines{}, terms(test.dialect), false)
			requests, _ := c.Decode(nil, wire.Frame{Payload: []byte(test.ask)})
			ref := requests[0].(*protocol.Authenticate).Ref
			if got := tell(c, &broker.Authenticated{Ref: ref, Login: login}); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if got := tell(c, &broker.Failed{Ref: ref, Err: account.ErrUnknown}); got != test.fails {
				t.Errorf("got  %s\nwant %s", got, test.fails)
			}
		})
	}
}

func TestDeliver(t *testing.T) {
	at := time.Date(2026, 11, 28, 10, 11, 12, 999_999_000, time.FixedZone("", 3600))
	messages := []*parley.Message{
		{Topic: "/$inbox/ann/bob", Seq: 7, Time: at, Sender: parley.Identity{User: "bob"}, Body: []byte("a \"b\"\n<é>\xff")},
		{Topic: "/$inbox/ann/ann", Seq: 8, Time: at, Sender: parley.Identity{User: "ann"}, Header: `{"from":"echo"}`, Body: []byte("m1")},
		{Topic: "/$inbox/ann/bob", Seq: 9, Time: at, Sender: parley.Identity{User: "bob"}, Header: `{"from":"echo"}`},
	}
	sub := &broker.Subscription{ID: 4, Topic: "/$inbox/ann"}
	deliveries := &broker.Deliveries{Sub: sub, Messages: messages}
	read := func(c *titan.Codec) ([]string, []string) {
		tell(c, &broker.Subscribed{Sub: sub})
		var ids, rest []string
		for line := range strings.SplitSeq(tell(c, deliveries), "\n") {
			id := line[len(`{"id":"`):][:22]
			ids, rest = append(ids, id), append(rest, strings.Replace(line, id, "ID", 1))
		}
		return ids, rest
	}

	c := titan.New(lines{}, terms(titan.Titan), false)
	decode(t, c, claim)
	ids, got := read(c)
	want := []string{
		`{"id":"ID","method":"msg.recv","params":[{"from":"bob","to":"ann","time":"2026-11-28T09:11:12Z","message":"a \"b\"\n<é>` + "\ufffd" + `"}]}`,
		`{"id":"ID","method":"msg.recv","params":[{"from":"echo","to":"ann","time":"2026-11-28T09:11:12Z","message":"m1"}]}`,
		`{"id":"ID","method":"msg.recv","params":[{"from":"bob","to":"ann","time":"2026-11-28T09:11:12Z","message":""}]}`,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if again, _ := read(titan.New(lines{}, terms(titan.Titan), false)); fmt.Sprint(again) != fmt.Sprint(ids) {
		t.Errorf("the ids of another connection are %v, not %v", again, ids)
	}
	for answer, want := range map[string]string{
		`"result":"ACK"`:               "ack 7",
		`"result":"NACK"`:              "nak 7 1m0s",
		`"result":null`:                "nak 7 1m0s",
		`"error":{"code":1}`:           "nak 7 1m0s",
		`"result":"ACK","error":null`:  "ack 7",
		`"Result":"ACK","jsonrpc":"2"`: "ack 7",
	} {
		if got := decode(t, c, `{"id":"`+ids[0]+`",`+answer+`}`); got != want {
			t.Errorf("%s: got %q, want %q", answer, got, want)
		}
	}
	other := titan.New(lines{}, terms(titan.Titan), false)
	decode(t, other, claim)
	tell(other, &broker.Subscribed{Sub: &broker.Subscription{ID: 1, Topic: "/$inbox/eve"}})
	for _, id := range []string{ids[0], ids[0][:21] + "B", ids[0] + "A", strings.Repeat("A", 22), "", "$", strings.Repeat("é", 11)} {
		if got := decode(t, other, `{"id":"`+id+`","result":"ACK"}`); got != "" && id != "" {
			t.Errorf("somebody else's id %q: %s", id, got)
		}
	}

	d := titan.New(lines{}, terms(titan.Devastator), true)
	if _, got := read(d); got[0] != `{"id":"ID","method":"msg.recv","params":{"from":"bob","message":"a \"b\"\n<é>`+"\ufffd"+`"}}` {
		t.Errorf("got %s", got[0])
	}
	decode(t, d, `[{"id":"1","result":"ACK"}]`)
	if got := tell(d, deliveries); !strings.HasPrefix(got, `[{"id":"`+ids[0]) || !strings.Contains(got, `},{"id":"`+ids[2]) || strings.Contains(got, "\n") {
		t.Errorf("for who has sent a batch: %s", got)
	}
}

// What the user has sent from elsewhere, and receipts, old clients know nothing
// of: they are left out, and count as acknowledged.
func TestSkipped(t *testing.T) {
	c := titan.New(lines{}, terms(titan.Titan), true)
	sub := &broker.Subscription{ID: 1, Topic: "/$inbox/ann"}
	tell(c, &broker.Subscribed{Sub: sub})
	e := &broker.Deliveries{Sub: sub, Messages: []*parley.Message{
		{Seq: 1, Topic: "/$inbox/ann/bob", Sender: parley.Identity{User: "ann", Device: "phone"}},
		{Seq: 2, Topic: "/$inbox/ann/bob", Sender: parley.Identity{User: "bob"}, Body: []byte("hi")},
		{Seq: 3, Topic: "/$inbox/ann/bob/$read", Sender: parley.Identity{User: "bob"}},
		{Seq: 4, Topic: "/$inbox/ann/ann", Sender: parley.Identity{User: "ann"}, Body: []byte("note")},
	}}
	if got := tell(c, e); strings.Count(got, "msg.recv") != 2 || !strings.Contains(got, `"hi"`) || !strings.Contains(got, `"note"`) {
		t.Errorf("told %s", got)
	}
	if got := c.Skipped(e); fmt.Sprint(got) != "[{1 1} {3 3}]" {
		t.Errorf("skipped %v", got)
	}
}

// FuzzDecode: whatever a stranger sends, the codec neither fails nor asks for
// more than it may, and what it answers is a whole frame.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		claim, `{"id":"1","method":"msg.send","params":[{"to":"b","message":"hi","ttl":3}]}`, `[{"id":1,"method":"echo","params":1}]`,
		`{"method":"conn.close"}`, `{"id":"AAAAAAAAAAAAAAAAAAAAAA","result":"ACK"}`, `{}`, `{"id":"s","method":"msg.send","params":{"to":"2"}}`,
	} {
		f.Add([]byte(seed), []byte(seed), true, true)
		f.Add([]byte(claim), []byte(seed), true, false)
		f.Add([]byte(seed), []byte(seed), false, true)
	}
	f.Fuzz(func(t *testing.T, first, second []byte, titans, certified bool) {
		d := titan.Titan
		if !titans {
			d = titan.Devastator
		}
		known := certified && !titans
		c := titan.New(lines{}, terms(d), known)
		tell(c, &broker.Subscribed{Sub: &broker.Subscription{ID: 1, Topic: "/$inbox/ann"}})
		shown := known
		for _, frame := range [][]byte{first, second} {
			requests, err := c.Decode(nil, wire.Frame{Payload: frame})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range requests {
				if _, ok := r.(*protocol.Authenticate); ok {
					shown = true
				}
				if s, ok := r.(*protocol.Send); ok && (len(s.Letters) == 0 || len(s.Letters) > 3) {
					t.Fatalf("%d letters", len(s.Letters))
				}
				_, bad := r.(*protocol.Bad)
				if !shown && !bad {
					t.Fatalf("%T of who has shown nothing", r)
				}
				describe(c, r)
			}
		}
	})
}
