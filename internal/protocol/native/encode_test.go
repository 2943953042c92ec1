package native_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol/native"
)

// payload encodes e, of which exactly one frame must come, and checks that the
// standard library can read it.
func payload(t *testing.T, c *native.Codec, e broker.Event) []byte {
	t.Helper()
	p, ok := bytes.CutSuffix(c.Encode([]byte("before"), e), []byte("\n"))
	if !ok || !bytes.HasPrefix(p, []byte("before")) {
		t.Fatalf("%T: got %q", e, p)
	}
	if p = p[len("before"):]; !json.Valid(p) {
		t.Fatalf("%T: %s is no JSON", e, p)
	}
	return p
}

// encode is e as the standard library reads it.
func encode(t *testing.T, e broker.Event) map[string]any {
	t.Helper()
	var members map[string]any
	if err := json.Unmarshal(payload(t, newCodec(), e), &members); err != nil {
		t.Fatal(err)
	}
	return members
}

func TestEncode(t *testing.T) {
	sub := &broker.Subscription{ID: 1, Topic: "/a"}
	other := &broker.Subscription{ID: 20, Topic: "/a/b"}
	third := &broker.Subscription{ID: 3, Topic: "/"}
	at := time.Date(2026, 11, 21, 9, 8, 7, 65000, time.FixedZone("", 3600))
	one := &parley.Message{Topic: "/a/b", Seq: 7, Time: at, Body: []byte("hi")}
	two := &parley.Message{
		Topic: "/a", Seq: 9, Time: at, ID: "m", Sender: parley.Identity{User: "ann", Device: "d"}, Header: `{"k":"v"}`,
		Expires: at.Add(time.Hour), Filters: map[string]string{"y": "2", "x": "1"}, Body: []byte{0xff},
	}
	const oneText = `{"topic":"/a/b","seq":7,"time":"2026-11-21T08:08:07.000065Z","text":"hi"}`
	const twoText = `{"topic":"/a","seq":9,"time":"2026-11-21T08:08:07.000065Z","id":"m","user":"ann","device":"d",` +
		`"headers":{"k":"v"},"expires":"2026-11-21T09:08:07.000065Z","filters":{"x":"1","y":"2"},"data":"/w=="}`
	limits := broker.Limits{MessageBytes: 1, BatchMessages: 2, Subscriptions: 3, HistoryMessages: 4, Recipients: 5, InFlight: 6, Unread: 7, DedupWindow: time.Hour}
	welcome := func(device string) string {
		return `{"jsonrpc":"2.0","id":1,"result":{"version":1,"server":"parley/0.1.0","time":"2026-11-21T08:08:07.000065Z","user":"ann"` + device +
			`,"limits":{"message_bytes":1,"batch_messages":2,"subscriptions":3,"history_messages":4,"frame_bytes":2097152,"recipients":5,"in_flight":6,"unread":7},` +
			`"promises":{"durable":true,"dedup_seconds":3600,"idle_seconds":60}}}`
	}
	tests := map[string]struct {
		event broker.Event
		want  string
	}{
		"welcome":           {&broker.Welcome{Ref: "1", Identity: parley.Identity{User: "ann"}, Time: at, Limits: limits}, welcome("")},
		"welcome, device":   {&broker.Welcome{Ref: "1", Identity: parley.Identity{User: "ann", Device: "d"}, Time: at, Limits: limits}, welcome(`,"device":"d"`)},
		"welcome, unasked":  {&broker.Welcome{Time: at}, ``},
		"subscribed":        {&broker.Subscribed{Ref: `"x"`, Sub: sub, Cursor: 5}, `{"jsonrpc":"2.0","id":"x","result":{"sub":1,"topic":"/a","cursor":5}}`},
		"subscribed, where": {&broker.Subscribed{Ref: "1", Sub: sub}, `{"jsonrpc":"2.0","id":1,"result":{"sub":1,"topic":"/a"}}`},
		"subscribed, quiet": {&broker.Subscribed{Sub: sub}, ``},
		"replay":            {&broker.ReplayStart{Sub: sub, Count: 2}, `{"jsonrpc":"2.0","method":"replay","params":{"sub":1,"count":2}}`},
		"messages": {
			&broker.Messages{Sub: sub, Batch: broker.NewBatch([]*parley.Message{one, two})},
			`{"jsonrpc":"2.0","method":"messages","params":{"sub":1,"messages":[` + oneText + `,` + twoText + `]}}`,
		},
		"messages for several": {
			&broker.Messages{Sub: sub, Also: []*broker.Subscription{other, third}, Batch: broker.NewBatch([]*parley.Message{one})},
			`{"jsonrpc":"2.0","method":"messages","params":{"sub":1,"also":[20,3],"messages":[` + oneText + `]}}`,
		},
		"replayed": {&broker.ReplayEnd{Sub: sub, Cursor: 9}, `{"jsonrpc":"2.0","method":"replayed","params":{"sub":1,"cursor":9}}`},
		"live":     {&broker.Live{Sub: other}, `{"jsonrpc":"2.0","method":"live","params":{"sub":20,"cursor":0}}`},
		"gap":      {&broker.Gap{Sub: sub, From: 1, To: 5}, `{"jsonrpc":"2.0","method":"gap","params":{"sub":1,"from":1,"to":5}}`},
		"reset":    {&broker.Reset{Sub: sub, From: 9, To: 5}, `{"jsonrpc":"2.0","method":"reset","params":{"sub":1,"from":9,"to":5}}`},

		"unsubscribed":        {&broker.Unsubscribed{Ref: "1", Sub: sub}, `{"jsonrpc":"2.0","id":1,"result":{"sub":1}}`},
		"unsubscribed, quiet": {&broker.Unsubscribed{Sub: sub}, ``},
		"history": {
			&broker.History{Ref: "1", Messages: []*parley.Message{two, one}, Next: 7, More: true, Floor: 3},
			`{"jsonrpc":"2.0","id":1,"result":{"messages":[` + twoText + `,` + oneText + `],"next":7,"more":true,"floor":3}}`,
		},
		"history, none":  {&broker.History{Ref: "1"}, `{"jsonrpc":"2.0","id":1,"result":{"messages":[],"next":0,"more":false,"floor":0}}`},
		"history, quiet": {&broker.History{}, ``},
		"counted":        {&broker.Counted{Ref: "1", Count: 2, First: 7, Last: 9}, `{"jsonrpc":"2.0","id":1,"result":{"count":2,"first":7,"last":9}}`},
		"counted, quiet": {&broker.Counted{}, ``},
		"pong":           {&broker.Pong{Ref: "1"}, `{"jsonrpc":"2.0","id":1,"result":{}}`},
		"pong, quiet":    {&broker.Pong{}, ``},
		"failed": {
			&broker.Failed{Ref: "1", Err: fmt.Errorf("a \"q\": %w", parley.ErrForbidden)},
			`{"jsonrpc":"2.0","id":1,"error":{"code":-32002,"message":"a \"q\"","data":{"kind":"forbidden"}}}`,
		},
		"failed, quiet": {&broker.Failed{Err: parley.ErrForbidden}, ``},

		"bye": {
			&broker.Bye{Code: broker.ByeShutdown, Reason: "restart", Retry: 1500 * time.Millisecond},
			`{"jsonrpc":"2.0","method":"bye","params":{"code":"shutdown","reason":"restart","retry_ms":1500}}`,
		},
		"bye, soon":    {&broker.Bye{Code: broker.ByeOverload, Retry: 1}, `{"jsonrpc":"2.0","method":"bye","params":{"code":"overload","reason":"","retry_ms":1}}`},
		"bye, forever": {&broker.Bye{Code: broker.ByeProtocol, Reason: "no"}, `{"jsonrpc":"2.0","method":"bye","params":{"code":"protocol","reason":"no"}}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.want == "" {
				if got := newCodec().Encode(nil, test.event); len(got) > 0 {
					t.Errorf("a notification is answered with %s", got)
				}
				return
			}
			if got := string(payload(t, newCodec(), test.event)); got != test.want {
				t.Errorf("\ngot  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestByeCodes(t *testing.T) {
	names := map[string]broker.ByeCode{
		"shutdown": broker.ByeShutdown, "slow": broker.ByeSlow, "idle": broker.ByeIdle, "protocol": broker.ByeProtocol,
		"too_big": broker.ByeTooBig, "overload": broker.ByeOverload, "internal": broker.ByeInternal, "unacceptable": broker.ByeUnacceptable,
		"expired": broker.ByeExpired, "revoked": broker.ByeRevoked, "replaced": broker.ByeReplaced, "unauthenticated": broker.ByeUnauthenticated,
	}
	for name, code := range names {
		params, _ := encode(t, &broker.Bye{Code: code})["params"].(map[string]any)
		if params["code"] != name {
			t.Errorf("%d is %v, want %s", code, params["code"], name)
		}
	}
}

func TestErrors(t *testing.T) {
	secret := &fs.PathError{Op: "write", Path: "/secret", Err: errors.New("disk")}
	tests := map[string]struct {
		err     error
		code    float64
		kind    string
		message string
		retry   any
	}{
		"invalid":         {fmt.Errorf("too long: %w", parley.ErrInvalid), -32602, "invalid", "too long", nil},
		"bare":            {parley.ErrInvalid, -32602, "invalid", "invalid", nil},
		"unauthenticated": {fmt.Errorf("who?: %w", parley.ErrUnauthenticated), -32001, "unauthenticated", "who?", nil},
		"forbidden":       {fmt.Errorf("no: %w", parley.ErrForbidden), -32002, "forbidden", "no", nil},
		"not found":       {fmt.Errorf("none: %w", parley.ErrNotFound), -32003, "not_found", "none", nil},
		"conflict":        {fmt.Errorf("used: %w", parley.ErrConflict), -32004, "conflict", "used", nil},
		"unavailable":     {fmt.Errorf("full: %w", parley.ErrUnavailable), -32005, "unavailable", "full", true},
		"internal":        {secret, -32603, "internal", "internal error", nil},
		"wrapped":         {fmt.Errorf("append: %w", secret), -32603, "internal", "internal error", nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			want := map[string]any{"code": test.code, "message": test.message, "data": map[string]any{"kind": test.kind}}
			if test.retry != nil {
				want["data"].(map[string]any)["retry"] = test.retry
			}
			if got := encode(t, &broker.Failed{Ref: "1", Err: test.err}); !reflect.DeepEqual(got["error"], want) {
				t.Errorf("got  %v\nwant %v", got["error"], want)
			}
		})
	}
}

func TestPublished(t *testing.T) {
	stored := func(topic parley.Topic, r backend.Result) broker.Publication {
		return broker.Publication{Message: parley.Message{Topic: topic, Seq: r.Seq}, Result: r}
	}
	conflict := fmt.Errorf("used: %w", parley.ErrConflict)
	e := &broker.Published{Publishes: []*broker.Publish{
		{Ref: "1", Messages: []broker.Publication{stored("/a", backend.Result{Seq: 5})}},
		{Messages: []broker.Publication{stored("/a", backend.Result{Seq: 6})}},
		{Ref: "2", Messages: []broker.Publication{stored("/a", backend.Result{Seq: 5, Duplicate: true})}},
		{Ref: "3", Messages: []broker.Publication{stored("/a", backend.Result{Err: conflict})}},
		{Ref: "4", Batch: true, Messages: []broker.Publication{
			stored(`/"`, backend.Result{Seq: 8}), stored("/a", backend.Result{Err: conflict}), stored("/a", backend.Result{Seq: 5, Duplicate: true}),
		}},
	}}
	const failed = `{"code":-32004,"message":"used","data":{"kind":"conflict"}}`
	want := `{"jsonrpc":"2.0","id":1,"result":{"topic":"/a","seq":5}}` + "\n" +
		`{"jsonrpc":"2.0","id":2,"result":{"topic":"/a","seq":5,"duplicate":true}}` + "\n" +
		`{"jsonrpc":"2.0","id":3,"error":` + failed + `}` + "\n" +
		`{"jsonrpc":"2.0","id":4,"result":{"results":[{"topic":"/\"","seq":8},{"error":` + failed + `},{"topic":"/a","seq":5,"duplicate":true}]}}` + "\n"
	if got := string(newCodec().Encode(nil, e)); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// delivered is a message as a client reads it.
type delivered struct {
	Topic      string            `json:"topic"`
	Seq        int64             `json:"seq"`
	Time       time.Time         `json:"time"`
	ID         string            `json:"id"`
	User       string            `json:"user"`
	Device     string            `json:"device"`
	Headers    map[string]string `json:"headers"`
	Header     *string           `json:"header"`
	HeaderData *string           `json:"header_data"`
	Expires    *time.Time        `json:"expires"`
	Filters    map[string]string `json:"filters"`
	Text       *string           `json:"text"`
	Data       *string           `json:"data"`
}

// deliver encodes m and reads it as a client would, strictly.
func deliver(t *testing.T, m *parley.Message) *delivered {
	t.Helper()
	sub := &broker.Subscription{ID: 1, Topic: m.Topic}
	p := payload(t, newCodec(), &broker.Messages{Sub: sub, Batch: broker.NewBatch([]*parley.Message{m})})
	var frame struct {
		Params struct {
			Messages []delivered `json:"messages"`
		} `json:"params"`
	}
	if err := json.Unmarshal(p, &frame); err != nil || len(frame.Params.Messages) != 1 {
		t.Fatalf("%s: %v", p, err)
	}
	d := &frame.Params.Messages[0]
	if (d.Text == nil) == (d.Data == nil) {
		t.Fatalf("%s has not one body", p)
	}
	return d
}

func TestHeader(t *testing.T) {
	for _, line := range []string{`{}`, `{"a":"b"}`, "{\t\"a\" : \"b\" } ", `{"a":"\ud83d\ude00"}`} {
		var want map[string]string
		if err := json.Unmarshal([]byte(line), &want); err != nil {
			t.Fatal(err)
		}
		if d := deliver(t, &parley.Message{Topic: "/a", Header: line}); !reflect.DeepEqual(d.Headers, want) || d.Header != nil || d.HeaderData != nil {
			t.Errorf("%s is delivered as %+v", line, d)
		}
	}
	for _, line := range []string{`x`, ` `, ` {}`, `{"a":1}`, `{"a":{}}`, `{"a":"b","a":"c"}`, `{"a":"b"`, `{"a":"b"},"text":"no"`, "\x00\"\\"} {
		if d := deliver(t, &parley.Message{Topic: "/a", Header: line}); d.Header == nil || *d.Header != line || d.Headers != nil {
			t.Errorf("%q is delivered as %+v", line, d)
		}
	}
	for _, line := range []string{"\xff", "{\"a\":\"\xff\"}"} {
		d := deliver(t, &parley.Message{Topic: "/a", Header: line})
		if d.HeaderData == nil || *d.HeaderData != base64.StdEncoding.EncodeToString([]byte(line)) || d.Headers != nil || d.Header != nil {
			t.Errorf("%q is delivered as %+v", line, d)
		}
	}
	if d := deliver(t, &parley.Message{Topic: "/a"}); d.Headers != nil || d.Header != nil || d.HeaderData != nil {
		t.Errorf("no header is delivered as %+v", d)
	}
}

// Random messages of bytes that are awkward in JSON come out as they went in.
func TestDeliverRandom(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	pieces := []string{"a", "\"", "\\", "\n", "\x00", "\x1f", "\x7f", "é", "\u2028", "😀", "\ufffd", "</script>", strings.Repeat("x", 300), "\xff", "\xed\xa0\x80"}
	text := func(n int) string { // of the first n pieces
		var b strings.Builder
		for range r.IntN(8) {
			b.WriteString(pieces[r.IntN(n)])
		}
		return b.String()
	}
	valid := len(pieces) - 2
	for range 2000 {
		m := &parley.Message{
			Topic: "/a", Seq: parley.Seq(r.Int64N(int64(parley.MaxSeq))), Time: time.UnixMicro(r.Int64N(1 << 55)), ID: text(valid),
			Sender: parley.Identity{User: text(valid), Device: text(valid)}, Body: []byte(text(len(pieces))),
			Filters: map[string]string{text(valid): text(valid), text(valid): text(valid)},
		}
		d := deliver(t, m)
		if d.body(t) != string(m.Body) || d.ID != m.ID || d.User != m.Sender.User || d.Device != m.Sender.Device ||
			!reflect.DeepEqual(d.Filters, m.Filters) || d.Seq != int64(m.Seq) || !d.Time.Equal(m.Time) {
			t.Fatalf("seed %d: %+v is delivered as %+v", seed, m, d)
		}
	}
}

// A batch is encoded once for all its subscribers, and sharing it does not mix
// their frames.
func TestMessagesShareTheirEncoding(t *testing.T) {
	b := batch(3)
	e := &broker.Messages{Sub: &broker.Subscription{ID: 1}, Batch: b}
	first := string(payload(t, newCodec(), e))
	b.Messages[0].Body = []byte("changed") // nobody may, so it shows who looks
	e.Sub = &broker.Subscription{ID: 2}
	second := string(payload(t, newCodec(), e))
	if want := strings.Replace(first, `"sub":1`, `"sub":2`, 1); second != want {
		t.Errorf("got  %s\nwant %s", second, want)
	}
}

func TestEncodeDoesNotAllocate(t *testing.T) {
	c := newCodec()
	e := &broker.Messages{Sub: &broker.Subscription{ID: 1}, Batch: batch(10)}
	dst := c.Encode(nil, e)
	if n := testing.AllocsPerRun(100, func() { dst = c.Encode(dst[:0], e) }); n > 0 {
		t.Errorf("%v allocations for a further subscriber", n)
	}
}
