package gobbler_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/gobbler"
)

// Whatever a client sends, it gets at most one request out of it, that request
// is within the broker's rules, and what the client is told about it can be
// read. The committed corpus is in testdata/fuzz.
func FuzzDecode(f *testing.F) {
	f.Fuzz(func(t *testing.T, frame string) {
		c := codec()
		requests := decode(t, c, true, frame)
		if again := decode(t, c, false, frame); !reflect.DeepEqual(again, requests) {
			t.Fatalf("the same frame is\n%+v and then\n%+v", requests, again)
		}
		if len(requests) > 1 {
			t.Fatalf("%d requests", len(requests))
		}
		for _, r := range requests {
			switch r := r.(type) {
			case *protocol.Publish:
				checkPublish(t, frame, &r.Publish)
			case *protocol.Subscribe:
				checkTopic(t, r.Topic)
				if r.Ref != string(r.Topic) || r.Max < 0 || r.Start.Last < 0 || r.Start.Seq >= parley.MaxSeq || r.ReplayOnly == r.Replace {
					t.Fatalf("%+v", r.Subscribe)
				}
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

// Whatever the request URI, the user that it names is a field of the meta line
// that leaves the others where they are, and comes back as it was sent. The
// committed corpus is in testdata/fuzz.
func FuzzUserID(f *testing.F) {
	f.Fuzz(func(t *testing.T, uri string) {
		user, err := gobbler.UserID(uri)
		if err != nil {
			if user != "" || !errors.Is(err, parley.ErrInvalid) {
				t.Fatalf("UserID is %q, %v", user, err)
			}
			return
		}
		before, _, named := strings.Cut(uri, "/user/")
		if named && uri != before+"/user/"+user || !named && user != "" {
			t.Fatalf("the user is %q", user)
		}
		m := &parley.Message{Topic: "/foo", Seq: 42, Sender: parley.Identity{User: user, Device: "device"}, Time: time.Unix(1420110000, 0)}
		told := encode(t, codec(), &broker.Messages{Batch: broker.NewBatch([]*parley.Message{m})})
		got, err := parse(told[0])
		want := received{Path: "/foo", ID: 42, User: user, Application: "device", Time: 1420110000}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q is read as %+v, %v", told[0], got, err)
		}
	})
}

func checkPublish(t *testing.T, frame string, p *broker.Publish) {
	m := &p.Messages[0].Message
	checkTopic(t, m.Topic)
	parts := append(strings.SplitN(frame, "\n", 3), "", "")
	if m.Header != parts[1] || string(m.Body) != parts[2] {
		t.Fatalf("header %q, body %q", m.Header, m.Body)
	}
	m.Seq, m.Time = 42, time.Unix(1420110000, 0)
	told := encode(t, codec(), &broker.Messages{Batch: broker.NewBatch([]*parley.Message{m})})
	got, err := parse(told[0])
	want := received{
		Path: string(m.Topic), ID: 42, User: m.Sender.User, Application: m.Sender.Device,
		Time: 1420110000, Header: parts[1], Body: parts[2],
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%q is read as %+v, %v", told[0], got, err)
	}
	p.Messages[0].Result = backend.Result{Seq: m.Seq}
	e := &broker.Published{Publishes: []*broker.Publish{p}}
	checkNotice(t, encode(t, codec(), e), "#send")
	p.Messages[0].Result = backend.Result{Err: parley.ErrUnavailable}
	checkNotice(t, encode(t, codec(), e), "!error-send")
}

func checkTopic(t *testing.T, topic parley.Topic) {
	if _, err := parley.ParseTopic(string(topic)); err != nil {
		t.Fatalf("%q: %v", topic, err)
	}
}

// checkNotice wants one notification whose second line, if any, is JSON.
func checkNotice(t *testing.T, frames []string, prefix string) {
	if len(frames) != 1 || !strings.HasPrefix(frames[0], prefix) || len(frames[0]) > 4096 {
		t.Fatalf("told %q, want one short %s", frames, prefix)
	}
	if _, rest, ok := strings.Cut(frames[0], "\n"); ok && !json.Valid([]byte(rest)) {
		t.Fatalf("%q is not JSON", rest)
	}
}
