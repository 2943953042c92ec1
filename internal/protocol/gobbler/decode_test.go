package gobbler_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
)

func publish(topic, id, header, body string) *protocol.Publish {
	m := parley.Message{
		Topic: parley.Topic(topic), ID: id, Header: header,
		Sender: parley.Identity{User: "marvin", Device: "dc0kehb8di16nl0vcjfg"},
	}
	if body != "" {
		m.Body = []byte(body)
	}
	return &protocol.Publish{Publish: broker.Publish{Messages: []broker.Publication{{Message: m}}}}
}

func TestDecodeSend(t *testing.T) {
	big := strings.Repeat("big ", 10_000)
	for _, tt := range []struct {
		frame string
		want  *protocol.Publish
	}{
		{"> /foo", publish("/foo", "", "", "")},
		{"> /foo\n", publish("/foo", "", "", "")},
		{"> /foo\n\n", publish("/foo", "", "", "")},
		{"> /foo ", publish("/foo", "", "", "")},
		{"> /foo\n\nHello World", publish("/foo", "", "", "Hello World")},
		{"> /foo\n{\"a\":1}", publish("/foo", "", `{"a":1}`, "")},
		{"> /foo\n{\"a\":1}\n", publish("/foo", "", `{"a":1}`, "")},
		{"> /foo\n{\"a\":1}\nHello", publish("/foo", "", `{"a":1}`, "Hello")},
		{"> /foo\nnot json\nline 1\nline 2\n", publish("/foo", "", "not json", "line 1\nline 2\n")},
		{"> /foo\n\n\n\n", publish("/foo", "", "", "\n\n")},
		{"> /foo\n\n\x00\xff\xfe", publish("/foo", "", "", "\x00\xff\xfe")},
		{"> /foo\n\n" + big, publish("/foo", "", "", big)},
		{"> /foo 42\n\nx", publish("/foo", "42", "", "x")},
		{"> /foo 42\nh\nx", publish("/foo", "42", "h", "x")},
		{"> /foo  my id \nh", publish("/foo", " my id ", "h", "")},
		{"> /", publish("/", "", "", "")},
		{"> /a/b/c\r1", nil}, // a control character in the path
	} {
		for _, text := range []bool{true, false} {
			got := decode(t, codec(), text, tt.frame)
			if len(got) != 1 {
				t.Fatalf("%.40q: %d requests", tt.frame, len(got))
			}
			if tt.want == nil {
				if _, ok := got[0].(*protocol.Bad); !ok {
					t.Errorf("%.40q: got %+v, want a Bad", tt.frame, got[0])
				}
			} else if !reflect.DeepEqual(got[0], protocol.Request(tt.want)) {
				t.Errorf("%.40q:\ngot  %+v\nwant %+v", tt.frame, got[0], tt.want)
			}
		}
	}
}

// The publishes of one connection share memory; none may see another's.
func TestDecodeSendKeepsBodiesApart(t *testing.T) {
	c := codec()
	var kept []*protocol.Publish
	var want [][]byte
	for i := range 2_000 {
		body := bytes.Repeat([]byte{byte(i)}, i%1_500)
		topic := fmt.Sprintf("/t/%d", i%7)
		r := decode(t, c, false, fmt.Sprintf("> %s %d\nh%d\n%s", topic, i, i, body))
		kept, want = append(kept, r[0].(*protocol.Publish)), append(want, body)
	}
	for i, r := range kept {
		m := &r.Messages[0].Message
		if !bytes.Equal(m.Body, want[i]) {
			t.Fatalf("body %d has changed", i)
		}
		if cap(m.Body) != len(m.Body) {
			t.Fatalf("body %d of %d bytes has capacity %d: appending to it would write into another", i, len(m.Body), cap(m.Body))
		}
		if m.ID != fmt.Sprint(i) || m.Header != fmt.Sprint("h", i) || string(m.Topic) != fmt.Sprintf("/t/%d", i%7) {
			t.Fatalf("message %d: id %q, header %q, topic %q", i, m.ID, m.Header, m.Topic)
		}
		if cap(r.Messages) != 1 {
			t.Fatalf("request %d has room for %d messages", i, cap(r.Messages))
		}
	}
}

func TestDecodeReceive(t *testing.T) {
	after := func(n parley.Seq) broker.Start { return broker.Start{Kind: broker.AfterSeq, Seq: n} }
	newest := func(n int) broker.Start { return broker.Start{Kind: broker.NewestN, Last: n} }
	live := func(s broker.Start) broker.Subscribe { return broker.Subscribe{Start: s, Replace: true} }
	fetch := func(s broker.Start, n int) broker.Subscribe {
		return broker.Subscribe{Start: s, ReplayOnly: true, Max: n}
	}
	const beyond = parley.MaxSeq - 1
	for _, tt := range []struct {
		numbers string
		want    broker.Subscribe
	}{
		{"", live(broker.Start{Kind: broker.FromNow})},
		{" 0", live(after(0))},
		{" -0", live(after(0))},
		{" 1", live(after(0))},
		{" 42", live(after(41))},
		{" +42", live(after(41))},
		{" -00", live(after(0))},
		{" 9007199254740991", live(after(beyond - 1))},
		{" 9007199254740992", live(after(beyond))},
		{" 9007199254740993", live(after(beyond))},
		{" 9223372036854775807", live(after(beyond))},
		{" 9223372036854775808", live(after(beyond))},
		{" 18350605169398218752", live(after(beyond))},
		{" 18446744073709551615", live(after(beyond))},
		{" -1", live(newest(1))},
		{" -20", live(newest(20))},
		{" -9223372036854775807", live(newest(math.MaxInt64))},
		{" -9223372036854775808", live(newest(math.MaxInt64))},
		{" 0 20", fetch(after(0), 20)},
		{" 0,20", fetch(after(0), 20)},
		{" 42 1", fetch(after(41), 1)},
		{" 42,1", fetch(after(41), 1)},
		{" 42 0", fetch(after(41), 0)},
		{" 42 -1", fetch(newest(0), 0)},
		{" -20 20", fetch(newest(20), 0)},
		{" -3 2", fetch(newest(2), 0)},
		{" -1 4", fetch(newest(4), 0)},
		{" -2 0", fetch(newest(2), 0)},
		{" -2,0", fetch(newest(2), 0)},
		{" -3 -2", fetch(newest(0), 0)},
		{" 0\nignored\nignored", live(after(0))},
		{"\n", live(broker.Start{})},
	} {
		tt.want.Ref, tt.want.Topic = "/foo/bar", "/foo/bar"
		got := decode(t, codec(), true, "+ /foo/bar"+tt.numbers)
		if want := []protocol.Request{&protocol.Subscribe{Subscribe: tt.want}}; !reflect.DeepEqual(got, want) {
			t.Errorf("%q:\ngot  %+v\nwant %+v", tt.numbers, got[0], tt.want)
		}
	}
}

func TestDecodeCancel(t *testing.T) {
	for _, frame := range []string{"- /foo", "- /foo\n", "- /foo\nmore\nmore"} {
		want := []protocol.Request{&protocol.Unsubscribe{Topic: "/foo", Quiet: true}}
		if got := decode(t, codec(), true, frame); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v", frame, got)
		}
	}
	for _, frame := range []string{"- foo", "- /foo ", "- /foo /bar", "- /foo/", "- \r", "-  "} {
		if got := decode(t, codec(), true, frame); len(got) != 0 {
			t.Errorf("%q: got %+v, want silence about what cannot be subscribed to", frame, got)
		}
	}
}

func TestDecodeMalformed(t *testing.T) {
	const (
		request = "!error-bad-request "
		noPath  = request + "command requires at least a path argument, but non given"
		send    = request + "send command requires a path argument, but none given"
		number  = "9999999999999999999999"
	)
	startid := func(s, fault string) string {
		return fmt.Sprintf("%sstartid has to be empty or int, but was %q: strconv.ParseInt: parsing %q: %s", request, s, s, fault)
	}
	maxCount := func(start, s, fault string) string {
		return fmt.Sprintf("%smaxCount has to be empty or int, but was %q: strconv.Atoi: parsing %q: %s", request, start, s, fault)
	}
	notSent := func(id, text, path string) string {
		arg := ""
		if id != "" {
			arg = " " + id
		}
		return fmt.Sprintf("!error-send%s %s: invalid\n"+`{"sequenceId":"0","path":%q,"publisherMessageId":%q,"messagePublishingTime":"0"}`, arg, text, path, id)
	}
	for _, tt := range []struct{ frame, want string }{
		{"", request + "error parsing command. empty command"},
		{"XXXX", request + "unknown command XXXX"},
		{"send /foo", request + "unknown command send"},
		{" ", request + "unknown command "},
		{"\n", request + "unknown command "},
		{" > /foo", request + "unknown command "},
		{"# hello", request + "unknown command #"},
		{">/foo", request + "unknown command >/foo"},
		{"+/foo", request + "unknown command +/foo"},
		{"-/foo", request + "unknown command -/foo"},
		{"\xff\x00", request + "unknown command \xff\x00"},
		{strings.Repeat("x", 257), request + "unknown command " + strings.Repeat("x", 256)},
		{">", send},
		{"> ", send},
		{">\nheader\nbody", send},
		{"> \nheader\nbody", send},
		{">  /foo", notSent("/foo", "topic must begin with a slash", "")},
		{"> foo\n\nbody", notSent("", "topic must begin with a slash", "foo")},
		{"> /foo/ 7\n\nbody", notSent("7", "topic has an empty segment", "/foo/")},
		{"> /../escaped", notSent("", `topic has a segment ".."`, "/../escaped")},
		{"> /a,b 7", notSent("7", "topic contains a space, a comma or a control character", "/a,b")},
		{"> /foo " + strings.Repeat("i", 300), notSent(strings.Repeat("i", 256), "message id is longer than 255 bytes", "/foo")},
		{"> /foo \xff", "!error-send \xff message id is not valid UTF-8: invalid\n" +
			`{"sequenceId":"0","path":"/foo","publisherMessageId":"` + "\ufffd" + `","messagePublishingTime":"0"}`},
		{"+", noPath},
		{"+ ", noPath},
		{"+ foo", noPath},
		{"+ foo a", noPath},
		{"+  /foo", noPath},
		{"+\n/foo", noPath},
		{"+ /foo/", request + "topic has an empty segment: invalid"},
		{"+ /foo\r\n", request + "topic contains a space, a comma or a control character: invalid"},
		{"+ /foo,0", request + "topic contains a space, a comma or a control character: invalid"},
		{"+ /foo a", startid("a", "invalid syntax")},
		{"+ /foo ", startid("", "invalid syntax")},
		{"+ /foo  0", startid("", "invalid syntax")},
		{"+ /foo ,1", startid("", "invalid syntax")},
		{"+ /foo 1.5", startid("1.5", "invalid syntax")},
		{"+ /foo 0x1f", startid("0x1f", "invalid syntax")},
		{"+ /foo a\"\r", startid("a\"\r", "invalid syntax")},
		{"+ /foo " + number, startid(number, "value out of range")},
		{"+ /foo -" + number, startid("-"+number, "value out of range")},
		{"+ /foo 18446744073709551616", startid("18446744073709551616", "value out of range")},
		{"+ /foo ++5", startid("++5", "invalid syntax")},
		{"+ /foo +-5", startid("+-5", "invalid syntax")},
		{"+ /foo 0,20 5", startid("0,20", "invalid syntax")},
		{"+ /foo 0 b", maxCount("0", "b", "invalid syntax")},
		{"+ /foo 0,b", maxCount("0", "b", "invalid syntax")},
		{"+ /foo 0 ", maxCount("0", "", "invalid syntax")},
		{"+ /foo 0,", maxCount("0", "", "invalid syntax")},
		{"+ /foo 0 20 20", maxCount("0", "20 20", "invalid syntax")},
		{"+ /foo 0 " + number, maxCount("0", number, "value out of range")},
		{"-", request + "- command requires a path argument, but none given"},
		{"- ", request + "- command requires a path argument, but none given"},
		{"-\n/foo", request + "- command requires a path argument, but none given"},
	} {
		c := codec()
		got := decode(t, c, false, tt.frame)
		if len(got) != 1 {
			t.Fatalf("%q: got %d requests", tt.frame, len(got))
		}
		bad, ok := got[0].(*protocol.Bad)
		if !ok {
			t.Errorf("%q: got %T", tt.frame, got[0])
			continue
		}
		if !errors.Is(bad.Err, parley.ErrInvalid) || !strings.Contains(tt.want, bad.Err.Error()) {
			t.Errorf("%q: the error %q does not wrap ErrInvalid, or the client is told another", tt.frame, bad.Err)
		}
		if told := encode(t, c, &broker.Failed{Ref: bad.Ref, Err: bad.Err}); !reflect.DeepEqual(told, []string{tt.want}) {
			t.Errorf("%q:\ngot  %q\nwant %q", tt.frame, told, tt.want)
		}
	}
}
