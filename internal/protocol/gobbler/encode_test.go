package gobbler_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
)

func TestEncodeNotifications(t *testing.T) {
	now := time.Date(2026, 11, 21, 8, 24, 53, 999, time.FixedZone("", 3600))
	sub := &broker.Subscription{ID: 1, Topic: "/%d/é", Ref: "/%d/é"}
	for _, tt := range []struct {
		event broker.Event
		want  []string
	}{
		{
			&broker.Welcome{Identity: parley.Identity{User: "marvin", Device: "xid"}, Time: now},
			[]string{"#connected You are connected to the server.\n" + `{"ApplicationId": "xid", "UserId": "marvin", "Time": "2026-11-21T07:24:53Z"}`},
		},
		{
			&broker.Welcome{Identity: parley.Identity{User: "a%20\"\\\x01é\xff<"}, Time: now},
			[]string{"#connected You are connected to the server.\n" + `{"ApplicationId": "", "UserId": "a%20\"\\\u0001é` + "\ufffd" + `<", "Time": "2026-11-21T07:24:53Z"}`},
		},
		{&broker.Subscribed{Sub: sub}, nil},
		{&broker.ReplayStart{Sub: sub, Count: 139}, []string{"#fetch-start /%d/é 139"}},
		{&broker.ReplayEnd{Sub: sub, Cursor: 5}, []string{"#fetch-end /%d/é"}},
		{&broker.Live{Sub: sub, Cursor: 5}, []string{"#subscribed-to /%d/é"}},
		{&broker.Unsubscribed{Sub: sub}, []string{"#canceled /%d/é"}},
		{&broker.Gap{Sub: sub, From: 5, To: 1 << 52}, []string{"#gap /%d/é\n" + `{"from":"5","to":"4503599627370496"}`}},
		{&broker.Reset{Sub: sub, From: 9, To: 0}, []string{"#reset /%d/é\n" + `{"from":"9","to":"0"}`}},
		{&broker.History{}, nil},
		{&broker.Counted{}, nil},
		{&broker.Pong{}, nil},
		{&broker.Bye{Code: broker.ByeShutdown, Reason: "stop"}, nil},
	} {
		if got := encode(t, codec(), tt.event); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%T:\ngot  %q\nwant %q", tt.event, got, tt.want)
		}
	}
}

func TestEncodePublished(t *testing.T) {
	stored := func(topic parley.Topic, id string, seq parley.Seq) *broker.Publish {
		return &broker.Publish{Messages: []broker.Publication{{
			Message: parley.Message{Topic: topic, ID: id, Seq: seq, Time: time.Unix(1795245935, 999_999_000)},
			Result:  backend.Result{Seq: seq},
		}}}
	}
	failed := stored("/foo", "42", 0)
	failed.Messages[0].Result.Err = fmt.Errorf("queue is\nfull: %w", parley.ErrUnavailable)
	nameless := stored("/foo", "", 0)
	nameless.Messages[0].Result.Err = fmt.Errorf("message is longer than 9 bytes: %w", parley.ErrInvalid)
	secret := stored("/foo", "43", 0)
	secret.Messages[0].Result.Err = errors.New("open /var/lib/parley: no such file")
	got := encode(t, codec(), &broker.Published{Publishes: []*broker.Publish{
		stored("/foo", "", 1795245935123456), stored(`/"é`, `a "b"`, 2), failed, nameless, secret,
	}})
	want := []string{
		"#send\n" + `{"sequenceId":"1795245935123456","path":"/foo","publisherMessageId":"","messagePublishingTime":"1795245935"}`,
		`#send a "b"` + "\n" + `{"sequenceId":"2","path":"/\"é","publisherMessageId":"a \"b\"","messagePublishingTime":"1795245935"}`,
		"!error-send 42 queue is full: unavailable\n" + `{"sequenceId":"0","path":"/foo","publisherMessageId":"42","messagePublishingTime":"0"}`,
		"!error-send message is longer than 9 bytes: invalid\n" + `{"sequenceId":"0","path":"/foo","publisherMessageId":"","messagePublishingTime":"0"}`,
		"!error-send 43 internal error\n" + `{"sequenceId":"0","path":"/foo","publisherMessageId":"43","messagePublishingTime":"0"}`,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("\ngot  %q\nwant %q", got, want)
	}
}

func TestEncodeFailed(t *testing.T) {
	for _, tt := range []struct {
		ref  string
		err  error
		want string
	}{
		{"/foo", fmt.Errorf("too many subscriptions: %w", parley.ErrInvalid), "!error-subscribed-to /foo too many subscriptions: invalid"},
		{"/$inbox/ann", parley.ErrForbidden, "!error-subscribed-to /$inbox/ann forbidden"},
		{"/foo", parley.ErrUnavailable, "!error-server-internal unavailable"},
		{"/foo", errors.New("secret"), "!error-server-internal internal error"},
		{"", errors.New("secret"), "!error-server-internal internal error"},
		{"", fmt.Errorf("no: %w", parley.ErrConflict), "!error-bad-request no: conflict"},
	} {
		if got := encode(t, codec(), &broker.Failed{Ref: tt.ref, Err: tt.err}); !reflect.DeepEqual(got, []string{tt.want}) {
			t.Errorf("%q, %v:\ngot  %q\nwant %q", tt.ref, tt.err, got, tt.want)
		}
	}
}

func TestEncodeMessages(t *testing.T) {
	base := parley.Message{
		Topic: "/foo/bar", Seq: 42, Sender: parley.Identity{User: "user01", Device: "phone01"},
		Time: time.Unix(1420110000, 999_999_000),
	}
	with := func(change func(*parley.Message)) *parley.Message {
		m := base
		change(&m)
		return &m
	}
	const meta = "/foo/bar,42,user01,phone01,,,1420110000,0"
	big := strings.Repeat("big ", 100_000)
	for _, tt := range []struct {
		name    string
		message *parley.Message
		want    string
	}{
		{"bare", &base, meta},
		{"body", with(func(m *parley.Message) { m.Body = []byte("Hello\nWorld") }), meta + "\n\nHello\nWorld"},
		{"header", with(func(m *parley.Message) { m.Header = "{}" }), meta + "\n{}"},
		{"header and empty body", with(func(m *parley.Message) { m.Header, m.Body = "{}", []byte{} }), meta + "\n{}"},
		{"both", with(func(m *parley.Message) { m.Header, m.Body = "{}", []byte("\n\x00\xff") }), meta + "\n{}\n\n\x00\xff"},
		{"big", with(func(m *parley.Message) { m.Body = []byte(big) }), meta + "\n\n" + big},
		{"nobody", with(func(m *parley.Message) { m.Sender = parley.Identity{} }), "/foo/bar,42,,,,,1420110000,0"},
		{"largest", with(func(m *parley.Message) { m.Seq = parley.MaxSeq - 1 }), "/foo/bar,9007199254740991,user01,phone01,,,1420110000,0"},
		{
			"names of other protocols",
			with(func(m *parley.Message) { m.Sender = parley.Identity{User: "a,b%", Device: "c\nd"} }),
			"/foo/bar,42,a%2Cb%,c%0Ad,,,1420110000,0",
		},
		{
			"expires",
			with(func(m *parley.Message) {
				m.Expires = time.Date(2026, 11, 21, 8, 0, 0, 0, time.FixedZone("", 3600))
			}),
			"/foo/bar,42,user01,phone01,,2026-11-21T07:00:00Z,1420110000,0",
		},
		{
			"expires within a second",
			with(func(m *parley.Message) { m.Expires = time.Date(2026, 11, 21, 7, 0, 0, 1000, time.UTC) }),
			"/foo/bar,42,user01,phone01,,2026-11-21T07:00:00.000001Z,1420110000,0",
		},
		{
			"a filter",
			with(func(m *parley.Message) { m.Filters = map[string]string{"user_id": `user"01`} }),
			`/foo/bar,42,user01,phone01,{"user_id":"user\"01"},,1420110000,0`,
		},
		{
			"a filter of two lines",
			with(func(m *parley.Message) { m.Filters = map[string]string{"user_id": "a\nb"} }),
			`/foo/bar,42,user01,phone01,{"user_id":"a\u000ab"},,1420110000,0`,
		},
		{"no filters", with(func(m *parley.Message) { m.Filters = map[string]string{} }), meta},
		{"a filter with a comma", with(func(m *parley.Message) { m.Filters = map[string]string{"user_id": "a,b"} }), meta},
		{"a filter's key with a comma", with(func(m *parley.Message) { m.Filters = map[string]string{"a,b": "c"} }), meta},
		{"filters", with(func(m *parley.Message) { m.Filters = map[string]string{"a": "b", "c": "d"} }), meta},
	} {
		t.Run(tt.name, func(t *testing.T) {
			batch := broker.NewBatch([]*parley.Message{tt.message, &base})
			got := encode(t, codec(), &broker.Messages{Batch: batch})
			if want := []string{tt.want, meta}; !reflect.DeepEqual(got, want) {
				t.Errorf("\ngot  %.200q\nwant %.200q", got, want)
			}
		})
	}
}

// Two sessions of one framing share a batch's bytes; another framing does not.
func TestEncodeMessagesOnce(t *testing.T) {
	batch := broker.NewBatch([]*parley.Message{{Topic: "/foo", Seq: 1, Time: time.Unix(1, 0)}})
	e := &broker.Messages{Batch: batch}
	first := codec().Encode(nil, e)
	batch.Messages[0].Topic = "/changed" // only to see who encodes again
	if second := codec().Encode(nil, e); string(second) != string(first) {
		t.Errorf("a second session got %q, not the shared %q", second, first)
	}
	missing := func([]*parley.Message) []byte { return []byte("missing") }
	if got := batch.Encoded("gobbler.deployed/counted", missing); string(got) != string(first) {
		t.Errorf("the batch keeps %q under the framing's name, want %q", got, first)
	}
	if got := batch.Encoded("gobbler.deployed/other", missing); string(got) != "missing" {
		t.Errorf("another framing was given %q", got)
	}
}
