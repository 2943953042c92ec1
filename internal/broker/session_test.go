package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
)

// What is purged is not delivered either, and a reader that had it before it is
// told of the gap.
func TestTrimReachesLiveReaders(t *testing.T) {
	b := start(t, openLog(t), broker.Config{})
	c := connect(t, b, broker.SessionConfig{})
	c.Subscribe(t.Context(), broker.Subscribe{Topic: "/a"})
	expect[*broker.Subscribed](c)
	expect[*broker.Live](c)
	seqs := publishN(t, b, "/a", 5)
	if _, err := b.Trim(t.Context(), "a", backend.Retention{Through: seqs[4]}); err != nil {
		t.Fatal(err)
	}
	if g := expect[*broker.Gap](c); g.To != seqs[4] {
		t.Errorf("gap to %d, want %d", g.To, seqs[4])
	}
	expect[*broker.Live](c)
	publish(t, b, text("/a", "after"))
	if got := c.texts(1); got[0] != "after" {
		t.Errorf("got %v", got)
	}
}

// Memory for a topic is given back when its last reader leaves.
func TestTailIsGivenBack(t *testing.T) {
	b := start(t, openLog(t), broker.Config{})
	c := connect(t, b, broker.SessionConfig{})
	c.Subscribe(t.Context(), broker.Subscribe{Topic: "/a"})
	expect[*broker.Subscribed](c)
	expect[*broker.Live](c)
	publishN(t, b, "/a", 100)
	c.texts(100)
	if n := b.Stats().TailBytes; n < 100*256 {
		t.Fatalf("the tail holds %d bytes", n)
	}
	c.Unsubscribe("", 1, "", false)
	if n := b.Stats().TailBytes; n != 0 {
		t.Errorf("the tail holds %d bytes for nobody", n)
	}
}

// A message may be larger than what a page or the tail holds.
func TestLargeMessages(t *testing.T) {
	b := start(t, openLog(t), broker.Config{TailBytes: 1000})
	c := connect(t, b, broker.SessionConfig{})
	c.Subscribe(t.Context(), broker.Subscribe{Topic: "/a", Start: broker.Start{Kind: broker.AfterSeq}})
	for range 3 {
		publish(t, b, text("/a", strings.Repeat("x", 1<<20)))
	}
	for n := 0; n < 3; {
		if e, ok := c.next().(*broker.Messages); ok {
			n += len(e.Batch.Messages)
		}
	}
}

// What a client publishes right after it subscribed is delivered to it, also by
// a server that has stored nothing yet.
func TestPublishRightAfterSubscribe(t *testing.T) {
	for range 100 {
		b := start(t, openLog(t), broker.Config{})
		c := connect(t, b, broker.SessionConfig{})
		c.Subscribe(t.Context(), broker.Subscribe{Topic: "/a"})
		c.Publish([]*broker.Publish{{Messages: []broker.Publication{{Message: text("/a", "x")}}}})
		for delivered := false; !delivered; {
			_, delivered = c.next().(*broker.Messages)
		}
	}
}

// Every request is answered, in order, however fast they follow each other.
func TestSubscribeAndUnsubscribeAtOnce(t *testing.T) {
	b := start(t, openLog(t), broker.Config{})
	c := connect(t, b, broker.SessionConfig{})
	c.Subscribe(t.Context(), broker.Subscribe{Ref: "s", Topic: "/a"})
	c.Subscribe(t.Context(), broker.Subscribe{Ref: "r", Topic: "/a", Replace: true})
	c.Unsubscribe("u", 0, "/a", false)
	var got []string
	for len(got) < 5 {
		switch e := c.next().(type) {
		case *broker.Subscribed:
			got = append(got, "subscribed "+e.Ref)
		case *broker.Live:
			got = append(got, "live "+e.Sub.Ref)
		case *broker.Unsubscribed:
			got = append(got, "unsubscribed "+e.Ref)
		default:
			t.Fatalf("unexpected %#v", e)
		}
	}
	if want := []string{"subscribed s", "live s", "subscribed r", "live r", "unsubscribed u"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Subscriptions come and go while another one of the session falls behind again
// and again.
func TestSubscribeWhileFallingBehind(t *testing.T) {
	b := start(t, openLog(t), broker.Config{TailBytes: 1})
	c := connect(t, b, broker.SessionConfig{})
	c.Subscribe(t.Context(), broker.Subscribe{Topic: "/a"})
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		for i := range 300 {
			topic := parley.Topic(fmt.Sprintf("/a/%d", i%3))
			c.Subscribe(t.Context(), broker.Subscribe{Topic: topic})
			c.Publish([]*broker.Publish{{Messages: []broker.Publication{{Message: text(string(topic), "x")}}}})
			c.Unsubscribe("", 0, topic, false)
		}
	}()
	subscribed, unsubscribed, delivered := 0, 0, 0
	for subscribed < 301 || unsubscribed < 300 || delivered < 300 {
		switch e := c.next().(type) {
		case *broker.Subscribed:
			subscribed++
		case *broker.Unsubscribed:
			unsubscribed++
		case *broker.Messages:
			if e.Sub.ID == 1 {
				delivered += len(e.Batch.Messages)
			}
		case *broker.Failed:
			t.Fatal(e.Err)
		case *broker.Published, *broker.Live, *broker.ReplayStart, *broker.ReplayEnd:
		default:
			t.Fatalf("unexpected %#v", e)
		}
	}
	<-asked
}
