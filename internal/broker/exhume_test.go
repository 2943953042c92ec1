package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/internal/broker"
)

// deafKV does not write records whose key begins so, as if the power had failed
// just before.
type deafKV struct {
	*pebble.DB

	prefix atomic.Pointer[string]
}

func (kv *deafKV) to(prefix string) { kv.prefix.Store(&prefix) }

func (kv *deafKV) Put(ctx context.Context, r backend.Record) (uint64, error) {
	if prefix := kv.prefix.Load(); prefix != nil && strings.HasPrefix(r.Key, *prefix) {
		return 0, fmt.Errorf("no power: %w", parley.ErrUnavailable)
	}
	return kv.DB.Put(ctx, r)
}

// TestDeadOrPending: wherever the power fails between the two things that are
// written when a message dies, or a dead letter is replayed, it is a dead letter
// afterwards, once, and not delivered; and then it can be replayed.
func TestDeadOrPending(t *testing.T) {
	for name, test := range map[string]struct {
		saved bool // that the messages were delivered was saved before they die
		fails string
		do    func(t *testing.T, b *broker.Broker, c *client, u *broker.Subscription, seq parley.Seq)
	}{
		"it dies":                          {true, "consumer/", refuse},
		"it dies soon after it was stored": {false, "consumer/", refuse},
		"it is replayed": {true, "dead/", func(t *testing.T, b *broker.Broker, c *client, u *broker.Subscription, seq parley.Seq) {
			refuse(t, b, c, u, seq)
			letters := deadOfAnn(t, b, 2)
			if err := b.ReplayDeadLetter(t.Context(), "ann", letters[1].Seq); !errors.Is(err, parley.ErrUnavailable) {
				t.Errorf("the replay: %v", err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				db := openLog(t)
				kv := &deafKV{DB: db}
				b := start(t, db, broker.Config{KV: kv})
				c := device(t, b, "ann", "phone")
				u := c.inbox(broker.Delivery{})
				letterRefused(t, b, c, u, "the first, which stays")
				send(t, b, "ann", "a")
				b2 := send(t, b, "ann", "b")
				send(t, b, "ann", "c")
				_, seqs, _ := c.deliveries(3)
				if test.saved {
					c.ack(u, seqs[0]) // which saves all
				}
				kv.to(test.fails)
				test.do(t, b, c, u, b2)
				kv.to("") // this broker writes nothing any more

				again := start(t, db, broker.Config{KV: db}) // what the other one has in memory is lost
				want := []string{"c"}
				if !test.saved {
					want = []string{"a", "c"}
				}
				c = device(t, again, "ann", "phone")
				u = c.inbox(broker.Delivery{})
				if texts, _, _ := c.deliveries(len(want)); !slices.Equal(texts, want) {
					t.Errorf("got %v, want %v", texts, want)
				}
				time.Sleep(time.Second)
				c.quiet()
				letters, _, err := again.DeadLetters(t.Context(), "ann", 0, 10)
				if err != nil || len(letters) != 2 || letters[1].Message.Seq != b2 {
					t.Fatalf("the dead letters are %+v, %v", letters, err)
				}
				if err := again.ReplayDeadLetter(t.Context(), "ann", letters[1].Seq); err != nil {
					t.Fatal(err)
				}
				texts, seqs, _ := c.deliveries(1)
				if texts[0] != "b" {
					t.Errorf("replayed: %v", texts)
				}
				c.ack(u, seqs[0])
				if letters, _, err = again.DeadLetters(t.Context(), "ann", 0, 10); err != nil || len(letters) != 1 {
					t.Errorf("then the dead letters are %+v, %v", letters, err)
				}
			})
		})
	}
}

// refuse makes a message a dead letter, as far as that goes.
func refuse(t *testing.T, _ *broker.Broker, c *client, u *broker.Subscription, seq parley.Seq) {
	t.Helper()
	c.Acknowledge(&broker.Ack{Ref: "dead", Sub: u.ID, Ranges: []broker.SeqRange{{First: seq, Last: seq}}, Dead: true})
	for {
		switch e := c.next().(type) {
		case *broker.Acked, *broker.Failed:
			return
		case *broker.ReplayStart, *broker.ReplayEnd, *broker.Live, *broker.ReadMarker:
		default:
			t.Fatalf("got %#v", e)
		}
	}
}

// letterRefused sends Ann a letter and makes it a dead one.
func letterRefused(t *testing.T, b *broker.Broker, c *client, u *broker.Subscription, text string) {
	t.Helper()
	seq := send(t, b, "ann", text)
	c.deliveries(1)
	refuse(t, b, c, u, seq)
}

// deadOfAnn are Ann's dead letters, n of them.
func deadOfAnn(t *testing.T, b *broker.Broker, n int) []broker.DeadLetter {
	t.Helper()
	letters, _, err := b.DeadLetters(t.Context(), "ann", 0, 10)
	if err != nil || len(letters) != n {
		t.Fatalf("the dead letters are %+v, %v, want %d", letters, err, n)
	}
	return letters
}

// TestDeadOfAnother: a device that begins anew gets what an earlier one of its
// name has refused, and also after a restart.
func TestDeadOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openLog(t)
		b := start(t, db, broker.Config{KV: db})
		c := device(t, b, "ann", "phone")
		u := c.inbox(broker.Delivery{})
		refuse(t, b, c, u, func() parley.Seq { seq := send(t, b, "ann", "a"); c.deliveries(1); return seq }())
		c.Close()
		if err := b.EraseDevice(t.Context(), "ann", "phone"); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			c = device(t, b, "ann", "phone")
			c.inbox(broker.Delivery{})
			if texts, _, _ := c.deliveries(1); texts[0] != "a" {
				t.Errorf("got %v", texts)
			}
			c.Close()
			time.Sleep(time.Second) // it is saved
			b = start(t, db, broker.Config{KV: db})
		}
	})
}

// TestReplayedIsNotDead: what was replayed before the cursor came to it is
// delivered also when the power fails before that is saved, although its dead
// letter is still in the log behind an older one.
func TestReplayedIsNotDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openLog(t)
		kv := &deafKV{DB: db}
		b := start(t, db, broker.Config{KV: kv})
		c := device(t, b, "ann", "phone")
		u := c.inbox(broker.Delivery{})
		letterRefused(t, b, c, u, "the first, which stays")
		second := send(t, b, "ann", "a")
		c.deliveries(1)
		kv.to("consumer/")
		refuse(t, b, c, u, second)

		kv = &deafKV{DB: db}
		kv.to("consumer/")
		b = start(t, db, broker.Config{KV: kv})
		device(t, b, "ann", "phone").inbox(broker.Delivery{})
		letters := deadOfAnn(t, b, 2)
		if err := b.ReplayDeadLetter(t.Context(), "ann", letters[1].Seq); err != nil {
			t.Fatal(err)
		}

		b = start(t, db, broker.Config{KV: db})
		c = device(t, b, "ann", "phone")
		c.inbox(broker.Delivery{})
		if texts, _, _ := c.deliveries(1); texts[0] != "a" {
			t.Errorf("got %v", texts)
		}
	})
}

// hookedKV calls before, once, when a record is to be written whose key begins so.
type hookedKV struct {
	*pebble.DB

	prefix string
	before func()
}

func (kv *hookedKV) Put(ctx context.Context, r backend.Record) (uint64, error) {
	if do := kv.before; do != nil && strings.HasPrefix(r.Key, kv.prefix) {
		kv.before = nil
		do()
	}
	return kv.DB.Put(ctx, r)
}

// TestReplayedWhileItIsPassed: what is replayed is delivered also when the cursor
// comes to it at that moment.
func TestReplayedWhileItIsPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openLog(t)
		deaf := &deafKV{DB: db}
		b := start(t, db, broker.Config{KV: deaf})
		c := device(t, b, "ann", "phone")
		u := c.inbox(broker.Delivery{})
		letterRefused(t, b, c, u, "the first, which stays")
		send(t, b, "ann", "a")
		second := send(t, b, "ann", "b")
		c.deliveries(2)
		deaf.to("consumer/")
		refuse(t, b, c, u, second)

		kv := &hookedKV{DB: db, prefix: "dead/"}
		b = start(t, db, broker.Config{KV: kv})
		c = device(t, b, "ann", "phone")
		u = c.inbox(broker.Delivery{MaxInFlight: 1})
		_, seqs, _ := c.deliveries(1)
		letters := deadOfAnn(t, b, 2)
		kv.before = func() {
			c.ack(u, seqs[0])
			for more := true; more; { // it reads on
				n := len(c.due)
				c.due = c.Next(t.Context(), c.due)
				more = len(c.due) > n
			}
		}
		if err := b.ReplayDeadLetter(t.Context(), "ann", letters[1].Seq); err != nil || kv.before != nil {
			t.Fatal(err)
		}
		if texts, _, _ := c.deliveries(1); texts[0] != "b" {
			t.Errorf("got %v", texts)
		}
	})
}

// TestReplayedAndHalfRemoved: when a dead letter is gone although removing it has
// failed, its message is delivered.
func TestReplayedAndHalfRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openLog(t)
		kv := &deafKV{DB: db}
		b := start(t, db, broker.Config{KV: kv})
		c := device(t, b, "ann", "phone")
		u := c.inbox(broker.Delivery{})
		for _, text := range []string{"a", "b", "c"} {
			letterRefused(t, b, c, u, text)
		}
		letters := deadOfAnn(t, b, 3)
		if err := b.RemoveDeadLetters(t.Context(), "ann", broker.SeqRange{First: letters[1].Seq, Last: letters[1].Seq}); err != nil {
			t.Fatal(err)
		}
		kv.to("dead/")
		if err := b.ReplayDeadLetter(t.Context(), "ann", letters[0].Seq); err != nil {
			t.Error(err)
		}
		if texts, _, _ := c.deliveries(1); texts[0] != "a" {
			t.Errorf("got %v", texts)
		}
		deadOfAnn(t, b, 1)
	})
}

// TestSeekBehindTheDead: who goes back gets dead letters' messages again, also when
// the power had failed as one of them died, and after a restart.
func TestSeekBehindTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openLog(t)
		kv := &deafKV{DB: db}
		b := start(t, db, broker.Config{KV: kv})
		c := device(t, b, "ann", "phone")
		u := c.inbox(broker.Delivery{})
		letterRefused(t, b, c, u, "a")
		second := send(t, b, "ann", "b")
		c.deliveries(1)
		kv.to("consumer/")
		refuse(t, b, c, u, second)

		b = start(t, db, broker.Config{KV: db})
		id := broker.ConsumerID{Topic: parley.InboxTopic("ann"), Owner: "ann", Name: "phone"}
		if err := b.SeekConsumer(t.Context(), id, broker.Start{Kind: broker.AfterSeq}); err != nil {
			t.Fatal(err)
		}
		b = start(t, db, broker.Config{KV: db})
		c = device(t, b, "ann", "phone")
		c.inbox(broker.Delivery{})
		if texts, _, _ := c.deliveries(2); !slices.Equal(texts, []string{"a", "b"}) {
			t.Errorf("got %v", texts)
		}
	})
}
