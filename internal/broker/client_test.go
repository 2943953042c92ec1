package broker_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/internal/broker"
)

// openLog opens a store in memory.
func openLog(tb testing.TB) *pebble.DB {
	tb.Helper()
	db, err := pebble.Open("store", pebble.Options{FS: vfs.NewMem()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db
}

// start runs a broker over log until the test ends.
func start(tb testing.TB, log backend.Log, cfg broker.Config) *broker.Broker {
	tb.Helper()
	cfg.Log = log
	b := broker.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() {
		if err := b.Run(ctx); err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(func() {
		cancel()
		run.Wait()
	})
	return b
}

// client takes a session's events one at a time.
type client struct {
	*broker.Session
	tb    testing.TB
	woken chan struct{}
	due   []broker.Event
}

func connect(tb testing.TB, b *broker.Broker, cfg broker.SessionConfig) *client {
	tb.Helper()
	c := &client{tb: tb, woken: make(chan struct{}, 1)}
	cfg.Wake = func() {
		select {
		case c.woken <- struct{}{}:
		default: // it was woken, and took the events before it looked
		}
	}
	c.Session = b.NewSession(cfg)
	tb.Cleanup(c.Close)
	return c
}

// next waits for the next event.
func (c *client) next() broker.Event {
	c.tb.Helper()
	timeout := time.NewTimer(30 * time.Second)
	defer timeout.Stop()
	for len(c.due) == 0 {
		if c.due = c.Next(c.tb.Context(), nil); len(c.due) > 0 {
			break
		}
		select {
		case <-c.woken:
		case <-timeout.C:
			c.tb.Fatal("no event in 30 seconds")
		}
	}
	e := c.due[0]
	c.due = c.due[1:]
	return e
}

// expect waits for the next event, which must be a T.
func expect[T broker.Event](c *client) T {
	c.tb.Helper()
	e := c.next()
	t, ok := e.(T)
	if !ok {
		c.tb.Fatalf("got event %#v, want a %T", e, t)
	}
	return t
}

// idle reports whether no event is due.
func (c *client) idle() bool {
	if len(c.due) == 0 {
		c.due = c.Next(c.tb.Context(), nil)
	}
	if len(c.due) > 0 {
		return false
	}
	// Next said that it will wake us.
	return true
}

// texts waits for n messages and returns their bodies; other events fail.
func (c *client) texts(n int) []string {
	c.tb.Helper()
	var got []string
	for len(got) < n {
		for _, m := range expect[*broker.Messages](c).Batch.Messages {
			got = append(got, string(m.Body))
		}
	}
	return got
}

// publish stores one message and returns its seq.
func publish(tb testing.TB, b *broker.Broker, m parley.Message) parley.Seq {
	tb.Helper()
	p := &broker.Publish{Messages: []broker.Publication{{Message: m}}}
	if err := b.Publish(tb.Context(), account.Anyone(p.Messages[0].Message.Sender), p); err != nil {
		tb.Fatal(err)
	}
	if err := p.Messages[0].Result.Err; err != nil {
		tb.Fatal(err)
	}
	return p.Messages[0].Result.Seq
}

func text(topic, body string) parley.Message {
	return parley.Message{Topic: parley.Topic(topic), Body: []byte(body)}
}

// publishN stores n messages with the bodies 0…n-1.
func publishN(tb testing.TB, b *broker.Broker, topic string, n int) []parley.Seq {
	tb.Helper()
	seqs := make([]parley.Seq, n)
	for i := range seqs {
		seqs[i] = publish(tb, b, text(topic, fmt.Sprint(i)))
	}
	return seqs
}
