package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// dialServer connects to a real server and closes the client when the test ends.
func dialServer(t *testing.T, url string) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), url, client.Options{Name: "test/1", Backoff: quick()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestServerStoresEveryPart(t *testing.T) {
	c := dialServer(t, servertest.Start(t).URL)
	for _, m := range []parley.Message{
		{Topic: "/a", Body: []byte("text \u2028 <&> \x00")},
		{Topic: "/a", Body: []byte{0xff, 0, 0xfe}},
		{Topic: "/a"},
		{
			Topic: "/a/b", ID: "mine", Body: []byte("x"), Header: `{"k":"v <1>"}`,
			Expires: time.Date(2100, 1, 2, 3, 4, 5, 6000, time.UTC),
		},
	} {
		receipt, err := c.Publish(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		page, err := c.History(t.Context(), client.HistoryQuery{Topic: "/a", After: receipt.Seq - 1})
		if err != nil || len(page.Messages) != 1 {
			t.Fatalf("History = %+v, %v; want the one just published", page, err)
		}
		got := page.Messages[0]
		if got.Seq != receipt.Seq || got.ID != receipt.ID || got.Topic != m.Topic || got.Header != m.Header ||
			string(got.Body) != string(m.Body) || !got.Expires.Equal(m.Expires) {
			t.Errorf("stored %+v, want %+v", got, m)
		}
	}
	if tally, err := c.Count(t.Context(), client.HistoryQuery{Topic: "/a"}); err != nil || tally.Count != 4 {
		t.Errorf("Count = %+v, %v; want 4", tally, err)
	}
	if _, err := c.Publish(t.Context(), parley.Message{Topic: "/a/b", ID: "mine", Body: []byte("y")}); !errors.Is(err, parley.ErrConflict) {
		t.Errorf("Publish of another message with the same id = %v, want %v", err, parley.ErrConflict)
	}
	if _, err := c.Publish(t.Context(), parley.Message{Topic: "/$inbox/ann"}); !errors.Is(err, parley.ErrForbidden) {
		t.Errorf("Publish to a reserved topic = %v, want %v", err, parley.ErrForbidden)
	}
	for _, err := range c.Subscribe(t.Context(), "/$inbox/ann") {
		if !errors.Is(err, parley.ErrForbidden) {
			t.Errorf("Subscribe to a reserved topic = %v, want %v", err, parley.ErrForbidden)
		}
	}
}

func TestServerReplaysFromEveryPlace(t *testing.T) {
	c := dialServer(t, servertest.Start(t).URL)
	var batch []parley.Message
	for _, n := range numbers(1, 30) {
		batch = append(batch, parley.Message{Topic: "/a/" + parley.Topic(n), Body: []byte(n)})
	}
	receipts, err := c.PublishAll(t.Context(), batch[:15])
	if err != nil {
		t.Fatal(err)
	}
	more, err := c.PublishAll(t.Context(), batch[15:]) // at least a microsecond later
	if err != nil {
		t.Fatal(err)
	}
	receipts = append(receipts, more...)
	page, err := c.History(t.Context(), client.HistoryQuery{Topic: "/a/16"})
	if err != nil || len(page.Messages) != 1 {
		t.Fatalf("History = %+v, %v; want message 16", page, err)
	}
	middle := page.Messages[0].Time
	for name, test := range map[string]struct {
		topic parley.Topic
		start client.SubscribeOption
		max   int
		want  []string
	}{
		"all":       {"/a", client.After(0), 0, numbers(1, 30)},
		"after":     {"/a", client.After(receipts[9].Seq), 0, numbers(11, 30)},
		"since":     {"/a", client.Since(middle), 0, numbers(16, 30)},
		"last":      {"/a", client.Last(7), 0, numbers(24, 30)},
		"max":       {"/a", client.After(receipts[9].Seq), 5, numbers(11, 15)},
		"last, max": {"/a", client.Last(7), 2, numbers(24, 25)},
		"subtopic":  {"/a/7", client.After(0), 0, numbers(7, 7)},
	} {
		got := texts(t, c.Subscribe(t.Context(), test.topic, test.start, client.Max(test.max), client.ReplayOnly()), 0)
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// Subscriptions that overlap, and begin at any time, each get all of theirs in
// order, although the connection carries a message only once.
func TestServerSharesMessagesBetweenLoops(t *testing.T) {
	c := dialServer(t, servertest.Start(t).URL)
	const rounds = 50
	for round := range rounds {
		root := parley.Topic(fmt.Sprintf("/share-%d", round))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		var loops sync.WaitGroup
		for topic, want := range map[parley.Topic][]string{
			root:        numbers(1, 40),
			root + "/x": slices.DeleteFunc(numbers(1, 40), func(n string) bool { return len(n) == 2 && n[1] == '0' }),
			root + "/y": {"10", "20", "30", "40"},
		} {
			for range 2 {
				loops.Go(func() {
					got := texts(t, c.Subscribe(ctx, topic, client.After(0), client.Max(len(want))), 0)
					if !slices.Equal(got, want) {
						t.Errorf("round %d, %s: got %q, want %q", round, topic, got, want)
					}
				})
			}
		}
		var batch []parley.Message
		for _, n := range numbers(1, 40) {
			topic := root + "/x"
			if len(n) == 2 && n[1] == '0' {
				topic = root + "/y"
			}
			batch = append(batch, parley.Message{Topic: topic, Body: []byte(n)})
		}
		for some := range slices.Chunk(batch, 1+round%7) {
			if _, err := c.PublishAll(ctx, some); err != nil {
				t.Error(err)
			}
		}
		loops.Wait()
		cancel()
		if t.Failed() {
			break
		}
	}
}

func TestServerLosesAndRepeatsNothingWhereverItIsCut(t *testing.T) {
	cutEverywhere(t, client.DialWebSocket, servertest.Start(t).RPC)
}

func TestServerLosesAndRepeatsNothingHoweverOftenItIsCut(t *testing.T) {
	cutAtRandom(t, client.DialWebSocket, servertest.Start(t).RPC)
}

// A restart of the server is a pause to those who publish and those who read.
func TestServerRestartIsAPause(t *testing.T) {
	dir := t.TempDir()
	s := servertest.Start(t, servertest.Dir(dir))
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	again := func(c *server.Config) { c.HTTP.Listen = u.Host }
	c := dialServer(t, s.URL)
	const n = 100
	var tasks sync.WaitGroup
	tasks.Go(func() {
		got := texts(t, c.Subscribe(t.Context(), "/a", client.After(0), client.Max(n)), 0)
		if !slices.Equal(got, numbers(1, n)) {
			t.Errorf("received %q, want 1 to %d", got, n)
		}
	})
	restart := make(chan struct{})
	tasks.Go(func() {
		for i := range n {
			if _, err := c.Publish(t.Context(), parley.Message{Topic: "/a", Body: []byte(fmt.Sprint(i + 1))}); err != nil {
				t.Errorf("message %d: %v", i+1, err)
			}
			if i == n/2 {
				restart <- struct{}{}
			}
		}
		close(restart)
	})
	for range restart {
		s.Stop()
		s = servertest.Start(t, servertest.Dir(dir), again)
	}
	tasks.Wait()
}

// Publishing in a loop that is far slower than the server works, and others
// who use the connection do not wait for it.
func TestServerAndASlowLoop(t *testing.T) {
	c := dialServer(t, servertest.Start(t).URL)
	const n = 400
	var batch []parley.Message
	for range n {
		batch = append(batch, parley.Message{Topic: "/a", Body: []byte(strings.Repeat("x", 16<<10))})
	}
	receipts, err := c.PublishAll(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	i := 0
	for m, err := range c.Subscribe(t.Context(), "/a", client.After(0), client.Max(n)) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Seq != receipts[i].Seq {
			t.Fatalf("got seq %d as number %d, want %d", m.Seq, i, receipts[i].Seq)
		}
		i++
		if _, err := c.Publish(t.Context(), parley.Message{Topic: "/done", Body: m.Body[:1]}); err != nil {
			t.Fatal(err)
		}
	}
	if tally, err := c.Count(t.Context(), client.HistoryQuery{Topic: "/done"}); err != nil || tally.Count != n {
		t.Errorf("Count = %+v, %v; want %d", tally, err, n)
	}
}
