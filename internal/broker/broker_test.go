package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
)

func TestLive(t *testing.T) {
	b := start(t, openLog(t), broker.Config{})
	c := connect(t, b, broker.SessionConfig{})
	c.Subscribe(t.Context(), broker.Subscribe{Ref: "r", Topic: "/a"})
	if s := expect[*broker.Subscribed](c); s.Ref != "r" || s.Sub.ID != 1 {
		t.Errorf("got %+v", s)
	}
	expect[*broker.Live](c)
	for _, topic := range []string{"/ab", "/a", "/b/a", "/a/b", "/a/b/c"} {
		publish(t, b, text(topic, topic))
	}
	if got, want := c.texts(3), []string{"/a", "/a/b", "/a/b/c"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestPublishAnswersInOrder(t *testing.T) {
	b := start(t, openLog(t), broker.Config{})
	c := connect(t, b, broker.SessionConfig{})
	var requests []*broker.Publish
	for i := range 100 {
		requests = append(requests, &broker.Publish{Ref: fmt.Sprint(i), Messages: []broker.Publication{{Message: text("/a", "x")}}})
	}
	c.Publish(requests[:50])
	c.Publish(requests[50:])
	var refs []string
	var last parley.Seq
	for len(refs) < 100 {
		for _, p := range expect[*broker.Published](c).Publishes {
			refs = append(refs, p.Ref)
			if p.Messages[0].Result.Seq <= last {
				t.Errorf("seq %d after %d", p.Messages[0].Result.Seq, last)
			}
			last = p.Messages[0].Result.Seq
		}
	}
	for i, ref := range refs {
		if ref != fmt.Sprint(i) {
			t.Fatalf("answer %d is for %s", i, ref)
		}
	}
}

func TestStarts(t *testing.T) {
	b := start(t, openLog(t), broker.Config{})
	seqs := publishN(t, b, "/a/x", 10)
	publish(t, b, text("/a/y", "other"))
	for _, test := range []struct {
		name  string
		start broker.Start
		max   int
		want  string
	}{
		{"all", broker.Start{Kind: broker.AfterSeq}, 0, "0 1 2 3 4 5 6 7 8 9"},
		{"after", broker.Start{Kind: broker.AfterSeq, Seq: seqs[6]}, 0, "7 8 9"},
		{"between", broker.Start{Kind: broker.AfterSeq, Seq: seqs[6] - 1}, 2, "6 7"},
		{"first three", broker.Start{Kind: broker.AfterSeq}, 3, "0 1 2"},
		{"newest three", broker.Start{Kind: broker.NewestN, Last: 3}, 0, "7 8 9"},
		{"newest, more than there are", broker.Start{Kind: broker.NewestN, Last: 300}, 0, "0 1 2 3 4 5 6 7 8 9"},
		{"newest none", broker.Start{Kind: broker.NewestN}, 0, ""},
		{"since the sixth", broker.Start{Kind: broker.SinceTime, Time: time.UnixMicro(int64(seqs[5]))}, 0, "5 6 7 8 9"},
		{"since tomorrow", broker.Start{Kind: broker.SinceTime, Time: time.Now().Add(24 * time.Hour)}, 0, ""},
	} {
		for _, only := range []bool{true, false} {
			if !only && test.max != 0 {
				continue
			}
			t.Run(fmt.Sprintf("%s/only=%v", test.name, only), func(t *testing.T) {
				c := connect(t, b, broker.SessionConfig{})
				c.Subscribe(t.Context(), broker.Subscribe{Topic: "/a/x", Start: test.start, ReplayOnly: only, Max: test.max})
				expect[*broker.Subscribed](c)
				want := strings.Fields(test.want)
				if got := expect[*broker.ReplayStart](c); got.Count != len(want) {
					t.Errorf("announced %d, want %d", got.Count, len(want))
				}
				if got := c.texts(len(want)); !slices.Equal(got, want) {
					t.Errorf("got %v, want %v", got, want)
				}
				told := expect[*broker.ReplayEnd](c).Cursor
				if !only {
					expect[*broker.Live](c)
				}
				if !c.idle() {
					t.Errorf("unexpected %#v", c.next())
				}
				// Who comes back gets what a maximum left, and nothing again.
				rest := 0
				if test.max != 0 {
					last, _ := strconv.Atoi(want[len(want)-1])
					rest = len(seqs) - 1 - last
				}
				again := connect(t, b, broker.SessionConfig{})
				again.Subscribe(t.Context(), broker.Subscribe{Topic: "/a/x", Start: broker.Start{Kind: broker.AfterSeq, Seq: told}, ReplayOnly: true})
				expect[*broker.Subscribed](again)
				if got := expect[*broker.ReplayStart](again).Count; got != rest {
					t.Errorf("%d messages follow cursor %d, want %d", got, told, rest)
				}
			})
		}
	}
}

func TestOverlapIsDeliveredOnce(t *testing.T) {
	b := start(t, openLog(t), broker.Config{})
	c := connect(t, b, broker.SessionConfig{})
	for _, topic := range []parley.Topic{"/foo", "/foo/bar", "/foo/bar", "/other"} {
		c.Subscribe(t.Context(), broker.Subscribe{Topic: topic})
		expect[*broker.Subscribed](c)
		expect[*broker.Live](c)
	}
	publish(t, b, text("/foo/bar/baz", "both"))
	publish(t, b, text("/foo", "one"))
	publish(t, b, text("/foo/bar", "again"))
	publish(t, b, text("/other", "end"))
	named := map[string][]uint64{}
	for len(named) < 4 {
		e := expect[*broker.Messages](c)
		for _, m := range e.Batch.Messages {
			body := string(m.Body)
			if named[body] != nil {
				t.Errorf("%q was delivered twice", body)
			}
			named[body] = []uint64{e.Sub.ID}
			for _, also := range e.Also {
				named[body] = append(named[body], also.ID)
			}
			slices.Sort(named[body])
		}
	}
	for body, want := range map[string][]uint64{"both": {1, 2, 3}, "one": {1}, "again": {1, 2, 3}, "end": {4}} {
		if !slices.Equal(named[body], want) {
			t.Errorf("%q named %v, want %v", body, named[body], want)
		}
	}
	if !c.idle() {
		t.Errorf("unexpected %#v", c.next())
	}
}

func TestReplaceAndUnsubscribe(t *testing.T) {
	b := start(t, openLog(t), broker.Config{})
	c := connect(t, b, broker.SessionConfig{})
	for range 2 {
		c.Subscribe(t.Context(), broker.Subscribe{Topic: "/a", Replace: true})
		expect[*broker.Subscribed](c)
		expect[*broker.Live](c)
	}
	publish(t, b, text("/a", "once"))
	c.texts(1)
	c.Unsubscribe("u", 0, "/a", true)
	if e := expect[*broker.Unsubscribed](c); e.Ref != "u" || e.Sub.ID != 2 {
		t.Errorf("got %+v", e)
	}
	publish(t, b, text("/a", "unheard"))
	c.Unsubscribe("quiet", 0, "/a", true)
	c.Unsubscribe("loud", 0, "/a", false)
	if e := expect[*broker.Failed](c); e.Ref != "loud" || !errors.Is(e.Err, parley.ErrNotFound) {
		t.Errorf("got %+v", e)
	}
	if n := b.Stats().Subscriptions; n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
}

func TestReplayOnlyIsNotFoundByTopic(t *testing.T) {
	b := start(t, openLog(t), broker.Config{})
	c := connect(t, b, broker.SessionConfig{})
	c.Subscribe(t.Context(), broker.Subscribe{Topic: "/l"})
	expect[*broker.Subscribed](c)
	expect[*broker.Live](c)
	c.Subscribe(t.Context(), broker.Subscribe{Topic: "/l", ReplayOnly: true, Replace: true, Start: broker.Start{Kind: broker.AfterSeq}, Max: 1})
	c.Unsubscribe("u", 0, "/l", true)
	for {
		if e, ok := c.next().(*broker.Unsubscribed); ok {
			if e.Sub.ID != 1 {
				t.Errorf("unsubscribed %d", e.Sub.ID)
			}
			return
		}
	}
}

func TestGapAndReset(t *testing.T) {
	db := openLog(t)
	b := start(t, db, broker.Config{})
	seqs := publishN(t, b, "/a", 10)
	floor, err := db.Trim(t.Context(), "a", backend.Retention{Through: seqs[4]})
	if err != nil || floor != seqs[4] {
		t.Fatal(floor, err)
	}
	c := connect(t, b, broker.SessionConfig{})
	c.Subscribe(t.Context(), broker.Subscribe{Topic: "/a", Start: broker.Start{Kind: broker.AfterSeq, Seq: seqs[1]}})
	expect[*broker.Subscribed](c)
	if g := expect[*broker.Gap](c); g.From != seqs[1] || g.To != seqs[4] {
		t.Errorf("gap %d to %d, want %d to %d", g.From, g.To, seqs[1], seqs[4])
	}
	expect[*broker.ReplayStart](c)
	if got := c.texts(5); got[0] != "5" {
		t.Errorf("replay begins with %s", got[0])
	}
	expect[*broker.ReplayEnd](c)
	live := expect[*broker.Live](c)

	beyond := connect(t, b, broker.SessionConfig{})
	beyond.Subscribe(t.Context(), broker.Subscribe{Topic: "/a", Start: broker.Start{Kind: broker.AfterSeq, Seq: live.Cursor + 1e9}})
	expect[*broker.Subscribed](beyond)
	if r := expect[*broker.Reset](beyond); r.From != live.Cursor+1e9 || r.To != live.Cursor {
		t.Errorf("reset from %d to %d, want to %d", r.From, r.To, live.Cursor)
	}
	expect[*broker.ReplayStart](beyond)
	expect[*broker.ReplayEnd](beyond)
	expect[*broker.Live](beyond)
	publish(t, b, text("/a", "next"))
	if got := beyond.texts(1); got[0] != "next" {
		t.Errorf("got %v", got)
	}
}

// A cursor that the server told is never beyond the end, not even for a stream
// that is quieter than others, and not after a restart.
func TestToldCursorsAreNotReset(t *testing.T) {
	db := openLog(t)
	b := start(t, db, broker.Config{})
	publish(t, b, text("/quiet", "x"))
	publishN(t, b, "/loud", 5)
	c := connect(t, b, broker.SessionConfig{})
	c.Subscribe(t.Context(), broker.Subscribe{Topic: "/quiet"})
	cursor := expect[*broker.Subscribed](c).Cursor
	for range 2 {
		b = start(t, db, broker.Config{})
		c := connect(t, b, broker.SessionConfig{})
		c.Subscribe(t.Context(), broker.Subscribe{Topic: "/quiet", Start: broker.Start{Kind: broker.AfterSeq, Seq: cursor}})
		expect[*broker.Subscribed](c)
		expect[*broker.ReplayStart](c)
		expect[*broker.ReplayEnd](c)
		cursor = expect[*broker.Live](c).Cursor
	}
}

func TestFilters(t *testing.T) {
	b := start(t, openLog(t), broker.Config{})
	ann := connect(t, b, broker.SessionConfig{Identity: parley.Identity{User: "ann"}})
	bob := connect(t, b, broker.SessionConfig{Identity: parley.Identity{User: "bob"}})
	for _, c := range []*client{ann, bob} {
		c.Subscribe(t.Context(), broker.Subscribe{Topic: "/a"})
		expect[*broker.Subscribed](c)
		expect[*broker.Live](c)
	}
	m := text("/a", "private")
	m.Filters = map[string]string{"user_id": "ann", "device_token": ""}
	publish(t, b, m)
	publish(t, b, text("/a", "public"))
	if got := ann.texts(2); got[0] != "private" {
		t.Errorf("ann got %v", got)
	}
	if got := bob.texts(1); got[0] != "public" {
		t.Errorf("bob got %v", got)
	}
	bob.Subscribe(t.Context(), broker.Subscribe{Topic: "/a", ReplayOnly: true, Start: broker.Start{Kind: broker.AfterSeq}})
	expect[*broker.Subscribed](bob)
	if n := expect[*broker.ReplayStart](bob).Count; n != 1 {
		t.Errorf("bob's replay announces %d messages, want 1", n)
	}
	if got := bob.texts(1); got[0] != "public" {
		t.Errorf("bob's replay brought %v", got)
	}
}

func TestExpiredIsNotDelivered(t *testing.T) {
	b := start(t, openLog(t), broker.Config{})
	m := text("/a", "late")
	m.Expires = time.Now().Add(-time.Second)
	publish(t, b, m)
	m = text("/a", "fresh")
	m.Expires = time.Now().Add(time.Hour)
	publish(t, b, m)
	c := connect(t, b, broker.SessionConfig{})
	c.Subscribe(t.Context(), broker.Subscribe{Topic: "/a", Start: broker.Start{Kind: broker.AfterSeq}})
	expect[*broker.Subscribed](c)
	if n := expect[*broker.ReplayStart](c).Count; n != 1 {
		t.Errorf("announced %d, want 1", n)
	}
	if got := c.texts(1); got[0] != "fresh" {
		t.Errorf("got %v", got)
	}
}

func TestPublishRules(t *testing.T) {
	b := start(t, openLog(t), broker.Config{Limits: broker.Limits{MessageBytes: 10}})
	for _, test := range []struct {
		m    parley.Message
		want error
	}{
		{text("/$inbox/ann", "x"), parley.ErrForbidden},
		{text("/a", "12345678901"), parley.ErrInvalid},
		{parley.Message{Topic: "/a", Header: strings.Repeat("h", parley.MaxHeaderBytes+1)}, parley.ErrInvalid},
		{parley.Message{Topic: "/a", ID: strings.Repeat("i", parley.MaxIDBytes+1)}, parley.ErrInvalid},
		{text("/a", "1234567890"), nil},
	} {
		p := &broker.Publish{Messages: []broker.Publication{{Message: test.m}}}
		if err := b.Publish(t.Context(), account.Anyone(parley.Identity{}), p); err != nil {
			t.Fatal(err)
		}
		if err := p.Messages[0].Result.Err; !errors.Is(err, test.want) {
			t.Errorf("%.20v: got %v, want %v", test.m, err, test.want)
		}
	}
	c := connect(t, b, broker.SessionConfig{})
	c.Subscribe(t.Context(), broker.Subscribe{Topic: "/$presence/ann"})
	if e := expect[*broker.Failed](c); !errors.Is(e.Err, parley.ErrForbidden) {
		t.Errorf("got %v", e.Err)
	}
}

// gate holds the log's appends back until it is opened.
type gate struct {
	backend.Log
	open chan struct{}
}

func (g gate) Append(ctx context.Context, entries []backend.Entry) ([]backend.Result, error) {
	<-g.open
	return g.Log.Append(ctx, entries)
}

func TestFullQueueRefusesAndRecovers(t *testing.T) {
	g := gate{openLog(t), make(chan struct{})}
	b := start(t, g, broker.Config{QueueBytes: 10_000, SessionBytes: 1 << 20})
	c := connect(t, b, broker.SessionConfig{})
	const n = 200
	for i := range n {
		c.Publish([]*broker.Publish{{Ref: fmt.Sprint(i), Messages: []broker.Publication{{Message: text("/a", "x")}}}})
	}
	if used := b.Stats().QueueBytes; used > 10_000 {
		t.Errorf("the queue holds %d bytes", used)
	}
	refused := 0
	if b.Stats().Refused == 0 {
		t.Fatal("nothing was refused")
	}
	close(g.open)
	stored := 0
	for refused+stored < n {
		for _, p := range expect[*broker.Published](c).Publishes {
			switch err := p.Messages[0].Result.Err; {
			case err == nil:
				stored++
			case errors.Is(err, broker.ErrOverloaded) && errors.Is(err, parley.ErrUnavailable):
				refused++
			default:
				t.Fatal(err)
			}
		}
	}
	if stored == 0 || refused == 0 {
		t.Errorf("%d stored, %d refused", stored, refused)
	}
	span, err := held(t, b, "a")
	if err != nil || span != stored {
		t.Errorf("%d are in the log, %d were acknowledged (%v)", span, stored, err)
	}
	publish(t, b, text("/a", "after"))
}

// A session's own requests wait for room, and stop waiting when it stops.
func TestUnansweredSessionWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, openLog(t), broker.Config{SessionBytes: 1000})
		c := connect(t, b, broker.SessionConfig{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range 100 {
				c.Publish([]*broker.Publish{{Ref: fmt.Sprint(i), Messages: []broker.Publication{{Message: text("/a", "x")}}}})
			}
		}()
		synctest.Wait()
		if n := b.Stats().Published; n > 10 {
			t.Errorf("%d messages were taken from a client that reads no answers", n)
		}
		c.Stop()
		<-done
	})
}

func TestByeIsLast(t *testing.T) {
	b := start(t, openLog(t), broker.Config{})
	c := connect(t, b, broker.SessionConfig{})
	for i := range 10 {
		c.Publish([]*broker.Publish{{Ref: fmt.Sprint(i), Messages: []broker.Publication{{Message: text("/a", "x")}}}})
	}
	b.Goodbye(func() *broker.Bye { return &broker.Bye{Code: broker.ByeShutdown, Retry: time.Second} })
	answered := 0
	for {
		switch e := c.next().(type) {
		case *broker.Published:
			answered += len(e.Publishes)
		case *broker.Bye:
			if answered != 10 || e.Code != broker.ByeShutdown {
				t.Errorf("goodbye %v after %d answers", e, answered)
			}
			return
		default:
			t.Fatalf("unexpected %#v", e)
		}
	}
}

func TestRetention(t *testing.T) {
	b := start(t, openLog(t), broker.Config{Retention: []broker.Rule{{Stream: "keep"}, {Stream: "*", Messages: 3}}})
	publishN(t, b, "/keep", 10)
	publishN(t, b, "/a/b", 10)
	if err := b.Retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	for stream, want := range map[parley.Stream]int{"keep": 10, "a": 3} {
		if n, err := held(t, b, stream); err != nil || n != want {
			t.Errorf("%s keeps %d, want %d (%v)", stream, n, want, err)
		}
	}
	b.SetRetention([]broker.Rule{{Stream: "keep", Messages: 4}})
	publishN(t, b, "/a/b", 10)
	if err := b.Retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	for stream, want := range map[parley.Stream]int{"keep": 4, "a": 13} {
		if n, err := held(t, b, stream); err != nil || n != want {
			t.Errorf("with other rules %s keeps %d, want %d (%v)", stream, n, want, err)
		}
	}
}

// held is how many messages of a stream anybody may read.
func held(t *testing.T, b *broker.Broker, s parley.Stream) (int, error) {
	t.Helper()
	span, err := b.Count(t.Context(), account.Anyone(parley.Identity{}), backend.Query{Topic: s.Topic()})
	return span.Count, err
}
