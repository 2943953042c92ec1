package gobbler_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/gobbler"
	"github.com/parley-im/parley/internal/protocol/protocoltest"
)

// documented is a message as a client written from the old server's page
// understands it.
type documented struct {
	Path              string
	ID                int64
	User, Application string
	MessageID         string
	Time              int64
	Header, Body      string
}

// parseDocumented reads a frame by that page. It shares nothing with the codec.
func parseDocumented(frame string) (d documented, err error) {
	parts := strings.SplitN(frame, "\n", 3)
	if len(parts) != 3 {
		return d, fmt.Errorf("%d lines", len(parts))
	}
	fields := strings.Split(parts[0], ",")
	if len(fields) != 6 || !strings.HasPrefix(fields[0], "/") {
		return d, fmt.Errorf("the line %q", parts[0])
	}
	d = documented{
		Path: fields[0], User: fields[2], Application: fields[3], MessageID: fields[4],
		Header: parts[1], Body: parts[2],
	}
	d.ID, err = strconv.ParseInt(fields[1], 10, 64)
	if err == nil {
		d.Time, err = strconv.ParseInt(fields[5], 10, 64)
	}
	return d, err
}

func TestDocumentedMessages(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	words := []string{"", "a", "user01", "é世", `"q"`, "x y", "%20", "{}", `{"a":"b"}`, "#", "!"}
	word := func() string { return words[random.IntN(len(words))] }
	for range 2_000 {
		m := &parley.Message{
			Topic:  parley.Topic("/t" + strings.NewReplacer(" ", "", "/", "").Replace(word())),
			Seq:    parley.Seq(random.Uint64N(uint64(parley.MaxSeq))),
			Time:   time.UnixMicro(random.Int64N(1 << 52)),
			Sender: parley.Identity{User: word(), Device: word()},
			ID:     word(),
			Header: word(),
			Body:   []byte(word() + strings.Repeat("\n", random.IntN(3)) + word()),
			// Neither has a place in this dialect.
			Filters: map[string]string{"a,b": word(), "c": word()},
			Expires: time.UnixMicro(random.Int64N(1 << 52)),
		}
		want := documented{
			Path: string(m.Topic), ID: int64(m.Seq), User: m.Sender.User, Application: m.Sender.Device,
			MessageID: m.ID, Time: m.Time.Unix(), Header: m.Header, Body: string(m.Body),
		}
		frames := encode(t, codecOf(gobbler.Documented), &broker.Messages{Batch: broker.NewBatch([]*parley.Message{m})})
		if got, err := parseDocumented(frames[0]); err != nil || got != want {
			t.Fatalf("%q: %v\ngot  %+v\nwant %+v", frames[0], err, got, want)
		}
	}
}

func TestDocumentedFields(t *testing.T) {
	m := &parley.Message{Topic: "/foo", Seq: 16, ID: "a,b\nc", Sender: parley.Identity{User: "x,y", Device: "d\n"}, Time: time.Unix(1451236804, 0)}
	got := encode(t, codecOf(gobbler.Documented), &broker.Messages{Batch: broker.NewBatch([]*parley.Message{m})})
	if want := []string{"/foo,16,x%2Cy,d%0A,a%2Cb%0Ac,1451236804\n\n"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The dialects differ in their bytes, so that a batch must not give one those of
// the other.
func TestDialectsShareNoBytes(t *testing.T) {
	e := &broker.Messages{Batch: broker.NewBatch([]*parley.Message{{Topic: "/foo", Seq: 1, Time: time.Unix(1, 0)}})}
	for range 2 {
		if got := encode(t, codecOf(gobbler.Deployed), e)[0]; got != "/foo,1,,,,,1,0" {
			t.Errorf("deployed: %q", got)
		}
		if got := encode(t, codecOf(gobbler.Documented), e)[0]; got != "/foo,1,,,,1\n\n" {
			t.Errorf("documented: %q", got)
		}
	}
}

func TestDocumentedSend(t *testing.T) {
	many := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "n%d: v\n", i)
		}
		return b.String()
	}
	for _, tt := range []struct{ rest, id, header, body string }{
		{"", "", "", ""},
		{"\n", "", "", ""},
		{"\n\n", "", "", ""},
		{"\n\n\n", "", "", "\n"},
		{"\n\nHello World", "", "", "Hello World"},
		{" 42\n\nx", "42", "", "x"},
		{"\nKey: Value", "", `{"Key":"Value"}`, ""},
		{"\nKey: Value\n", "", `{"Key":"Value"}`, ""},
		{"\nKey: Value\n\n", "", `{"Key":"Value"}`, ""},
		{"\nKey: Value\n\nbody\n\nmore", "", `{"Key":"Value"}`, "body\n\nmore"},
		{"\nB: 1\nA:2\nb: \t3 \n\n\x00\xff", "", `{"B":"1","A":"2","b":"3"}`, "\x00\xff"},
		{"\nKey:\n\n", "", `{"Key":""}`, ""},
		{"\nKey: a:\"b\"\\\x01é\n\n", "", `{"Key":"a:\"b\"\\\u0001é"}`, ""},
		{"\nKey: {\"a\":1}\n\nx", "", `{"Key":"{\"a\":1}"}`, "x"},
		{"\n{\"a\": {\"b\":[1]}}\n\nx\ny", "", `{"a": {"b":[1]}}`, "x\ny"},
		{"\n{}", "", "{}", ""},
		{"\n{}\n", "", "{}", ""},
		{"\n{} \n\n{}\n", "", "{} ", "{}\n"},
	} {
		got := decode(t, codecOf(gobbler.Documented), true, "> /foo"+tt.rest)
		if want := []protocol.Request{publish("/foo", tt.id, tt.header, tt.body)}; !reflect.DeepEqual(got, want) {
			t.Errorf("%q:\ngot  %+v\nwant %+v", tt.rest, got[0], want[0])
		}
	}
	const field = "is neither empty nor a name, a colon and a value"
	long := strings.Repeat("v", parley.MaxHeaderBytes)
	for rest, want := range map[string]string{
		"\nHello World":           "header line 1 " + field,
		"\nKey: v\nbody":          "header line 2 " + field,
		"\n: v\n\n":               "header line 1 " + field,
		"\nMy Key: v\n\n":         "header line 1 " + field,
		"\n Key: v\n\n":           "header line 1 " + field,
		"\nKey : v\n\n":           "header line 1 " + field,
		"\nKéy: v\n\n":            "header line 1 " + field,
		"\nKey: v\r\n\r\nx":       "header line 2 " + field,
		"\nKey: v\n{\"a\":1}\n\n": "header line 2 " + field,
		"\nKey: v\nKey: w\n\n":    "header line 2 repeats a name",
		"\nKey: \xff\n\n":         "header line 1 is not valid UTF-8",
		"\n{\"a\":1":              "header line 1 begins like a JSON object and is none",
		"\n{\"a\":1,\"a\":2}\n\n": "header line 1 begins like a JSON object and is none",
		"\n{\"a\":1}\nbody":       "an empty line must follow a header that is a JSON object",
		"\n{\"a\":1}\nKey: v\n\n": "an empty line must follow a header that is a JSON object",
		"\n" + many(65):           "the header has more than 64 lines or 16384 bytes",
		"\nKey: " + long + "\n\n": "the header has more than 64 lines or 16384 bytes",
	} {
		c := codecOf(gobbler.Documented)
		bad, ok := decode(t, c, true, "> /foo 7"+rest)[0].(*protocol.Bad)
		if !ok || !errors.Is(bad.Err, parley.ErrInvalid) {
			t.Errorf("%.40q: want a Bad that wraps ErrInvalid", rest)
			continue
		}
		told := encode(t, c, &broker.Failed{Err: bad.Err})[0]
		want = "!error-send 7 " + want + ": invalid\n" + `{"sequenceId":"0","path":"/foo","publisherMessageId":"7","messagePublishingTime":"0"}`
		if told != want {
			t.Errorf("%.40q:\ngot  %q\nwant %q", rest, told, want)
		}
	}
	if r := decode(t, codecOf(gobbler.Documented), true, "> /foo\n"+many(64)); reflect.TypeOf(r[0]) != reflect.TypeFor[*protocol.Publish]() {
		t.Errorf("64 header lines are refused: %+v", r[0])
	}
}

func TestDocumentedNotifications(t *testing.T) {
	c := codecOf(gobbler.Documented)
	sub := &broker.Subscription{ID: 1, Topic: "/foo", Ref: "/foo"}
	stored := &broker.Published{Publishes: []*broker.Publish{{Messages: []broker.Publication{{
		Message: parley.Message{Topic: "/foo", ID: "id123", Seq: 42, Time: time.Unix(1420110000, 0)}, Result: backend.Result{Seq: 42},
	}}}}}
	for _, tt := range []struct {
		event broker.Event
		want  string
	}{
		{&broker.Welcome{Identity: parley.Identity{User: "user01", Device: "phone1"}, Time: time.Unix(1420110000, 999)}, "#connected You are connected to the server.\n" + `{"ApplicationId": "phone1", "UserId": "user01", "Time": "1420110000"}`},
		{stored, "#send id123\n" + `{"sequenceId":"42","path":"/foo","publisherMessageId":"id123","messagePublishingTime":"1420110000"}`},
		{&broker.ReplayStart{Sub: sub, Count: 1}, "#fetch-start /foo 1"},
		{&broker.ReplayEnd{Sub: sub}, "#fetch-done /foo"},
		{&broker.Live{Sub: sub}, "#subscribed-to /foo"},
		{&broker.Unsubscribed{Sub: sub}, "#canceled /foo"},
		{&broker.Failed{Ref: "/foo", Err: fmt.Errorf("not yours: %w", parley.ErrForbidden)}, "!error-bad-request cannot receive /foo: not yours: forbidden"},
		{&broker.Failed{Ref: "/foo", Err: errors.New("secret")}, "!error-server-internal internal error"},
	} {
		if got := encode(t, c, tt.event); !reflect.DeepEqual(got, []string{tt.want}) {
			t.Errorf("%T:\ngot  %q\nwant %q", tt.event, got, tt.want)
		}
	}
	unknown := decode(t, c, true, "sdcsd")[0].(*protocol.Bad)
	if got := encode(t, c, &broker.Failed{Err: unknown.Err})[0]; got != "!error-bad-request unknown command 'sdcsd'" {
		t.Errorf("an unknown command is answered with %q", got)
	}
}

func TestParseDialect(t *testing.T) {
	for s, want := range map[string]gobbler.Dialect{
		"deployed": gobbler.Deployed, "gobbler.deployed": gobbler.Deployed,
		"documented": gobbler.Documented, "gobbler.documented": gobbler.Documented,
	} {
		if got, ok := gobbler.ParseDialect(s); got != want || !ok {
			t.Errorf("%q is %v, %v", s, got, ok)
		}
	}
	for _, s := range []string{"", "gobbler", "gobbler.gobbler.deployed", "Deployed"} {
		if got, ok := gobbler.ParseDialect(s); ok {
			t.Errorf("%q is %v", s, got)
		}
	}
}

// What docs/protocol/gobbler-documented.md says, the server does.
func TestDocumentedTranscripts(t *testing.T) {
	protocoltest.Run(t, "../../../docs/protocol/gobbler-documented.md", protocoltest.Dialect{
		Name:   "gobbler.documented",
		Probe:  "are you there?",
		Answer: "!error-bad-request unknown command 'are'",
		Start: func(t *testing.T) protocoltest.Open {
			return start(t, broker.Config{}, gobbler.Documented)
		},
	})
}

// Whatever a client sends in the documented dialect, it gets at most one request
// out of it; a publish has a header that is empty or a JSON object, and a reader
// finds in it what was sent.
func FuzzDecodeDocumented(f *testing.F) {
	for _, frame := range []string{
		"", "> /foo", "> /foo 7\n\nbody", "> /foo\nKey: Value\n\nbody", "> /foo\n{\"a\":1}\n\nbody", "> /foo\nbody",
		"> /foo\nA: 1\nA: 2\n\n", "> /foo\n{\n\n", "+ /foo 0,20", "- /foo", "x",
	} {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, frame string) {
		c := codecOf(gobbler.Documented)
		requests := decode(t, c, true, frame)
		if len(requests) > 1 {
			t.Fatalf("%d requests", len(requests))
		}
		for _, r := range requests {
			switch r := r.(type) {
			case *protocol.Publish:
				checkDocumented(t, frame, &r.Messages[0].Message)
			case *protocol.Subscribe:
				checkTopic(t, r.Topic)
			case *protocol.Unsubscribe:
				checkTopic(t, r.Topic)
			case *protocol.Bad:
				checkNotice(t, encode(t, c, &broker.Failed{Ref: r.Ref, Err: r.Err}), "!error-")
			default:
				t.Fatalf("%T", r)
			}
		}
	})
}

func checkDocumented(t *testing.T, frame string, m *parley.Message) {
	checkTopic(t, m.Topic)
	if m.Header != "" && (!json.Valid([]byte(m.Header)) || strings.ContainsAny(m.Header, "\n")) {
		t.Fatalf("the header is %q", m.Header)
	}
	if !strings.HasSuffix(frame, string(m.Body)) {
		t.Fatalf("the body is %q", m.Body)
	}
	m.Seq, m.Time = 42, time.Unix(1420110000, 0)
	told := encode(t, codecOf(gobbler.Documented), &broker.Messages{Batch: broker.NewBatch([]*parley.Message{m})})
	got, err := parseDocumented(told[0])
	want := documented{
		Path: string(m.Topic), ID: 42, User: m.Sender.User, Application: m.Sender.Device,
		MessageID: strings.ReplaceAll(m.ID, ",", "%2C"), Time: 1420110000, Header: m.Header, Body: string(m.Body),
	}
	if err != nil || got != want {
		t.Fatalf("%q is read as %+v, %v", told[0], got, err)
	}
}
