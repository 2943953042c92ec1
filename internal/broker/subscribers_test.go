package broker_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
)

// users are those of subscribers, in order, with their topics.
func users(subscribers []broker.Subscriber) []string {
	var all []string
	for _, s := range subscribers {
		all = append(all, string(s.Topic)+" "+s.Identity.User)
	}
	return all
}

func TestSubscribers(t *testing.T) {
	b := start(t, openLog(t), broker.Config{})
	var clients []*client
	for i := range 5 {
		c := connect(t, b, broker.SessionConfig{Identity: parley.Identity{User: fmt.Sprint("u", i)}})
		c.Subscribe(t.Context(), broker.Subscribe{Topic: "/foo"})
		expect[*broker.Subscribed](c)
		expect[*broker.Live](c)
		clients = append(clients, c)
	}
	clients[3].Subscribe(t.Context(), broker.Subscribe{Topic: "/bar/baz"})
	clients[2].Subscribe(t.Context(), broker.Subscribe{Topic: "/foo", ReplayOnly: true})
	// The order is that of their beginnings, whoever left before.
	clients[0].Unsubscribe("", 0, "/foo", false)
	clients[1].Close()
	for topic, want := range map[parley.Topic]string{
		"/foo": "[/foo u2 /foo u3 /foo u4]", "/bar/baz": "[/bar/baz u3]", "/bar": "[]", "/foo/x": "[]",
	} {
		if got := fmt.Sprint(users(b.Subscribers(topic, 10))); got != want {
			t.Errorf("%s: got %v, want %v", topic, got, want)
		}
	}
	if got := fmt.Sprint(users(b.Subscribers("/foo", 2))); got != "[/foo u2 /foo u3]" {
		t.Errorf("the first two are %v", got)
	}
	if got := fmt.Sprint(users(b.AllSubscribers(10))); got != "[/bar/baz u3 /foo u2 /foo u3 /foo u4]" {
		t.Errorf("all are %v", got)
	}
	if got := b.AllSubscribers(2); len(got) != 2 {
		t.Errorf("two of them are %v", users(got))
	}
	// The one that only replays has come to its end, or is about to.
	if s := b.Stats(); s.Subscribed != 7 || s.Subscriptions > 5 {
		t.Errorf("there have been %d subscriptions, and are %d", s.Subscribed, s.Subscriptions)
	}
}

// Listing does not get in the way of those who come and go.
func TestSubscribersWhileTheyChange(t *testing.T) {
	b := start(t, openLog(t), broker.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	var working sync.WaitGroup
	for i := range 4 {
		working.Go(func() {
			for ctx.Err() == nil {
				s := b.NewSession(broker.SessionConfig{Wake: func() {}, Identity: parley.Identity{User: fmt.Sprint(i)}})
				s.Subscribe(ctx, broker.Subscribe{Topic: "/foo"})
				s.Close()
			}
		})
	}
	for range 1_000 {
		if n := len(b.Subscribers("/foo", 10)); n > 4 {
			t.Fatalf("%d of 4 are subscribed", n)
		}
		b.AllSubscribers(10)
	}
	cancel()
	working.Wait()
	if got := b.AllSubscribers(10); len(got) != 0 {
		t.Errorf("%v are left", users(got))
	}
}
