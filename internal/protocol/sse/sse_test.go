package sse_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/sse"
	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/test/eventsource"
)

// plain is a framing without frames.
type plain struct{ wire.Conn }

func (plain) AppendFrame(dst []byte, _ bool, payload []byte) []byte { return append(dst, payload...) }

// codec is one of a conversation.
func codec(t testing.TB) protocol.Codec {
	t.Helper()
	return sse.Conversation(plain{}, nil, broker.Subscribe{}).Codec
}

func message(seq parley.Seq, header, body string) *parley.Message {
	return &parley.Message{Topic: "/a", Seq: seq, Time: time.Unix(1, 0), Header: header, Body: []byte(body)}
}

// The bytes are those of docs/protocol/events.md.
func TestEncode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		event broker.Event
		want  string // a pattern
	}{
		{&broker.Subscribed{}, `^retry: [1-4]\d{3}\n\n$`},
		{&broker.ReplayStart{Count: 3}, `^event: replay\ndata: {"count":3}\n\n$`},
		{
			&broker.Messages{Batch: broker.NewBatch([]*parley.Message{message(7, "", "x"), message(9, "", "a\r\nb\u2028\xff")})},
			`^id: 7\ndata: {"topic":"/a","seq":7,"time":"1970-01-01T00:00:01.000000Z","text":"x"}\n\n` +
				`id: 9\ndata: {"topic":"/a","seq":9,"time":"1970-01-01T00:00:01.000000Z","data":"YQ0KYuKAqP8="}\n\n$`,
		},
		{&broker.Messages{Batch: broker.NewBatch([]*parley.Message{message(7, "{\"k\":\r\"v\\n\"}\r", "a\r\nb")})}, `"headers":{"k": "v\\n"} ,"text":"a\\r\\nb"}\n\n$`},
		{&broker.ReplayEnd{Cursor: 9}, `^id: 9\nevent: replayed\ndata: {"cursor":9}\n\n$`},
		{&broker.Live{Cursor: 9}, `^id: 9\nevent: live\ndata: {"cursor":9}\n\n$`},
		{&broker.Gap{From: 1, To: 9}, `^id: 9\nevent: gap\ndata: {"from":1,"to":9}\n\n$`},
		{&broker.Reset{From: 9, To: 1}, `^id: 1\nevent: reset\ndata: {"from":9,"to":1}\n\n$`},
		{
			&broker.Ended{Err: fmt.Errorf("the \"log\"\r\nis closed: %w", parley.ErrUnavailable)},
			`^event: ended\ndata: {"kind":"unavailable","code":"unavailable","detail":"the \\"log\\"\\r\\nis closed"}\n\n$`,
		},
		{&broker.Failed{Err: errors.New("secret")}, `^event: ended\ndata: {"kind":"internal","code":"internal","detail":"internal error"}\n\n$`},
		{
			&broker.Bye{Code: broker.ByeShutdown, Reason: "stopping", Retry: 1234567 * time.Microsecond},
			`^retry: 1234\nevent: bye\ndata: {"code":"shutdown","reason":"stopping"}\n\n$`,
		},
		{&broker.Bye{Code: broker.ByeShutdown}, `^event: bye\ndata: {"code":"shutdown","reason":""}\n\n$`},
		{&broker.Pong{}, `^$`},
	} {
		if got := string(codec(t).Encode(nil, c.event)); !regexp.MustCompile(c.want).MatchString(got) {
			t.Errorf("%T is %q, want %s", c.event, got, c.want)
		}
	}
}

// All subscribers of a batch get the same bytes, encoded once.
func TestEncodingIsShared(t *testing.T) {
	t.Parallel()
	b := broker.NewBatch([]*parley.Message{message(7, "", "x")})
	first := codec(t).Encode(nil, &broker.Messages{Sub: &broker.Subscription{ID: 1}, Batch: b})
	b.Messages[0].Seq = 8 // encoded again, it would show
	if second := codec(t).Encode(nil, &broker.Messages{Sub: &broker.Subscription{ID: 2}, Batch: b}); string(second) != string(first) {
		t.Errorf("one gets %q, the other %q", first, second)
	}
}

// The conversation is over after the events that nothing follows.
func TestLast(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		event            broker.Event
		live, replayOnly bool
	}{
		{&broker.Ended{}, true, true},
		{&broker.Failed{}, true, true},
		{&broker.ReplayEnd{}, false, true},
		{&broker.Live{}, false, false},
		{&broker.Messages{}, false, false},
	} {
		live, replayOnly := sse.Conversation(nil, nil, broker.Subscribe{}), sse.Conversation(nil, nil, broker.Subscribe{ReplayOnly: true})
		if live.Last(c.event) != c.live || replayOnly.Last(c.event) != c.replayOnly {
			t.Errorf("%T: live %v, replay only %v", c.event, !c.live, !c.replayOnly)
		}
	}
	if _, err := codec(t).Decode(nil, wire.Frame{}); err == nil {
		t.Error("a frame is a request")
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	after := func(s parley.Seq) broker.Start { return broker.Start{Kind: broker.AfterSeq, Seq: s} }
	since := func(t time.Time) broker.Start { return broker.Start{Kind: broker.SinceTime, Time: t} }
	for _, c := range []struct {
		query, id string
		want      broker.Subscribe
	}{
		{"", "", broker.Subscribe{}},
		{"after=0", "", broker.Subscribe{Start: after(0)}},
		{"after=9007199254740992", "", broker.Subscribe{Start: after(1 << 53)}},
		{"since=2026-01-31T11:00:00%2B01:00", "", broker.Subscribe{Start: since(now.Add(-2 * time.Hour))}},
		{"since=90s", "", broker.Subscribe{Start: since(now.Add(-90 * time.Second))}},
		{"since=7d", "", broker.Subscribe{Start: since(now.AddDate(0, 0, -7))}},
		{"since=4000000000d", "", broker.Subscribe{}},
		{"last=5", "", broker.Subscribe{Start: broker.Start{Kind: broker.NewestN, Last: 5}}},
		{"last=5&replay_only=true&max=3", "", broker.Subscribe{Start: broker.Start{Kind: broker.NewestN, Last: 5}, ReplayOnly: true, Max: 3}},
		{"last=5&replay_only=false", "", broker.Subscribe{Start: broker.Start{Kind: broker.NewestN, Last: 5}}},
		// Where a client left off wins over where it once began.
		{"last=5", "7", broker.Subscribe{Start: after(7)}},
		{"last=5&lastEventId=7", "", broker.Subscribe{Start: after(7)}},
		{"lastEventId=7", "8", broker.Subscribe{Start: after(8)}},
		{"last=5&lastEventId=", "", broker.Subscribe{Start: broker.Start{Kind: broker.NewestN, Last: 5}}},
		{"replay_only=true", "7", broker.Subscribe{Start: after(7), ReplayOnly: true}},
	} {
		got, err := sse.Parse("/a/b", c.query, c.id, now)
		if c.want.Topic = "/a/b"; strings.HasPrefix(c.query, "since=4") {
			if !errors.Is(err, parley.ErrInvalid) {
				t.Errorf("%q: %+v, %v", c.query, got, err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%q with %q: %+v, %v, want %+v", c.query, c.id, got, err, c.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, query := range []string{
		"x=1", "After=1", "after=1&after=1", "after=", "after=-1", "after=+1", "after=1.0", "after=0x1", "after=9007199254740993", "after=%31%00",
		"since=", "since=-1s", "since=yesterday", "since=2026-01-31", "since=-1d", "since=d", "last=0", "last=-1", "last=2147483648", "last=1e3",
		"after=1&last=1", "since=1s&last=1", "replay_only=true", "replay_only=1&last=1", "replay_only=&last=1", "max=1&last=1",
		"max=0&last=1&replay_only=true", "lastEventId=x", "a;b", "%zz", "lastEventId=1&lastEventId=1", "last=1&max=1&replay_only=false",
	} {
		if r, err := sse.Parse("/a", query, "", time.Now()); !errors.Is(err, parley.ErrInvalid) {
			t.Errorf("%q: %+v, %v", query, r, err)
		}
	}
	for _, id := range []string{"x", "-1", " 1", "1 ", "1,2", "9007199254740993"} {
		if r, err := sse.Parse("/a", "", id, time.Now()); !errors.Is(err, parley.ErrInvalid) || !strings.Contains(err.Error(), "Last-Event-ID") {
			t.Errorf("Last-Event-ID %q: %+v, %v", id, r, err)
		}
	}
	for topic, want := range map[string]error{
		"": parley.ErrInvalid, "//": parley.ErrInvalid, "/a/": parley.ErrInvalid, "/a b": parley.ErrInvalid, "/a/../b": parley.ErrInvalid,
		"/\xff": parley.ErrInvalid, "/$inbox/ann": nil,
	} {
		if r, err := sse.Parse(topic, "", "", time.Now()); !errors.Is(err, want) {
			t.Errorf("topic %q: %+v, %v", topic, r, err)
		}
	}
}

// Whatever the request, what comes of it is within the broker's rules.
func FuzzParse(f *testing.F) {
	for _, query := range []string{"", "after=1", "since=1h", "since=7d", "since=2026-01-31T12:00:00Z", "last=5&replay_only=true&max=3", "lastEventId=7", "a;b", "after=1&after=2"} {
		f.Add("/a/b", query, "")
		f.Add("/$inbox", query, "7")
	}
	f.Fuzz(func(t *testing.T, topic, query, id string) {
		r, err := sse.Parse(topic, query, id, time.Now())
		if err != nil {
			if !errors.Is(err, parley.ErrInvalid) && !errors.Is(err, parley.ErrForbidden) {
				t.Fatal(err)
			}
			return
		}
		if got, err := parley.ParseTopic(topic); err != nil || r.Topic != got {
			t.Fatalf("topic %q is %q", topic, r.Topic)
		}
		if r.Start.Seq > parley.MaxSeq || r.Start.Last < 0 || r.Max < 0 || r.Max > 0 && !r.ReplayOnly ||
			r.ReplayOnly && r.Start.Kind == broker.FromNow || id != "" && r.Start.Kind != broker.AfterSeq {
			t.Fatalf("%+v", r)
		}
	})
}

// Whatever a message holds, a browser reads one event out of it, with the
// message's seq as its id and JSON as its data.
func FuzzEncode(f *testing.F) {
	for _, header := range []string{"", "{}", "{\"k\":\r\"v\"}", "x\r\ny", "\xff"} {
		f.Add(header, "a\r\n\r\ndata: b\n\n")
		f.Add(header, "\xff")
	}
	f.Fuzz(func(t *testing.T, header, body string) {
		if strings.Contains(header, "\n") {
			return // no message has that
		}
		b := broker.NewBatch([]*parley.Message{message(7, header, body), message(8, "", "")})
		r := eventsource.NewReader(strings.NewReader(string(codec(t).Encode(nil, &broker.Messages{Batch: b}))))
		for _, want := range []string{"7", "8"} {
			e, err := r.Next()
			if err != nil || e.Type != "message" || e.LastID != want || !json.Valid([]byte(e.Data)) {
				t.Fatalf("%+v, %v", e, err)
			}
		}
		if e, err := r.Next(); err == nil {
			t.Fatalf("one more event: %+v", e)
		}
	})
}
