package broker_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
)

// balance checks that the books of consumers balance, and returns them.
func balance(t *testing.T, b *broker.Broker) broker.ConsumerStats {
	t.Helper()
	s := b.Stats().Consumers
	pending := int64(0)
	loaded := 0
	for info, err := range b.Consumers(t.Context(), "*") {
		if err != nil {
			t.Fatal(err)
		}
		if info.Members > 0 {
			loaded++
			pending += int64(info.InFlight + info.Waiting)
		}
	}
	if int64(loaded) == s.Loaded && pending != s.Pending {
		t.Errorf("%d are pending, but the books say %+v", pending, s)
	}
	return s
}

// TestDeadLetters: what was delivered too often, or refused for good, becomes a
// dead letter with the reason, and can be listed, replayed and removed.
func TestDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startKV(t, broker.Config{})
		c := device(t, b, "shop", "")
		u := c.durable("/orders", broker.Delivery{Name: "billing", MaxDeliver: 2, AckWait: time.Second})
		c.quiet()
		for i := range 4 {
			publish(t, b, text("/orders/eu", fmt.Sprint(i)))
		}
		_, seqs, _ := c.deliveries(4)
		c.ack(u, seqs[0])
		c.Acknowledge(&broker.Ack{Ref: "dead", Sub: u.ID, Ranges: []broker.SeqRange{{First: seqs[1], Last: seqs[1]}}, Dead: true, Reason: "no such customer"})
		if e := c.acked("dead"); e.Count != 1 {
			t.Errorf("got %+v", e)
		}
		time.Sleep(1100 * time.Millisecond)
		c.deliveries(2)
		c.ack(u, seqs[2])
		time.Sleep(2 * time.Second)
		c.quiet()
		letters, next, err := b.DeadLetters(t.Context(), "shop", 0, 10)
		if err != nil || next != 0 || len(letters) != 2 {
			t.Fatal(letters, next, err)
		}
		for i, want := range []struct {
			reason   string
			attempts int
		}{{"no such customer", 1}, {"delivered 2 times without an acknowledgement", 2}} {
			l := letters[i]
			body := fmt.Sprint(2*i + 1)
			if l.Reason != want.reason || l.Attempts != want.attempts || string(l.Message.Body) != body || l.Message.Topic != "/orders/eu" ||
				l.Consumer != (broker.ConsumerID{Topic: "/orders", Owner: "shop", Name: "billing"}) || l.Message.Seq != seqs[2*i+1] {
				t.Errorf("letter %d is %+v of %+v", i, l, l.Message)
			}
		}
		if err := b.ReplayDeadLetter(t.Context(), "shop", letters[1].Seq); err != nil {
			t.Fatal(err)
		}
		if texts, _, attempts := c.deliveries(1); texts[0] != "3" || attempts[0] != 3 {
			t.Errorf("replayed: %v, attempts %v", texts, attempts)
		}
		c.ack(u, seqs[3])
		if letters, _, err = b.DeadLetters(t.Context(), "shop", 0, 10); err != nil || len(letters) != 1 || letters[0].Reason != "no such customer" {
			t.Errorf("after the replay there are %+v, %v", letters, err)
		}
		if err := b.RemoveDeadLetters(t.Context(), "shop", broker.SeqRange{First: letters[0].Seq, Last: letters[0].Seq}); err != nil {
			t.Fatal(err)
		}
		if letters, _, err = b.DeadLetters(t.Context(), "shop", 0, 10); err != nil || len(letters) != 0 {
			t.Errorf("after the removal there are %+v, %v", letters, err)
		}
		if err := b.ReplayDeadLetter(t.Context(), "shop", 1); !errors.Is(err, parley.ErrNotFound) {
			t.Errorf("replaying what is not there: %v", err)
		}
		if s := balance(t, b); s.Acked != 3 || s.Dead != 2 || s.Pending != 0 {
			t.Errorf("books: %+v", s)
		}
	})
}

// TestManage lists, pauses, seeks and deletes a durable subscription.
func TestManage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startKV(t, broker.Config{})
		id := broker.ConsumerID{Topic: "/orders", Owner: "shop", Name: "billing"}
		c := device(t, b, "shop", "")
		u := c.durable("/orders", broker.Delivery{Name: "billing", MaxInFlight: 3})
		c.quiet()
		seqs := publishN(t, b, "/orders", 10)
		_, first, _ := c.deliveries(3)
		c.ack(u, first[1])
		c.deliveries(1)
		want := broker.ConsumerInfo{ConsumerID: id, Floor: seqs[0] - 1, Cursor: seqs[3], Lag: 9, InFlight: 3, Members: 1}
		got, err := b.Consumer(t.Context(), id)
		got.Active = time.Time{}
		if err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		if err := b.PauseConsumer(t.Context(), id, true); err != nil {
			t.Fatal(err)
		}
		c.ack(u, seqs[:4]...)
		c.quiet()
		c.Close()
		time.Sleep(time.Second)
		if s := b.Stats().Consumers; s.Loaded != 0 {
			t.Errorf("nobody uses it: %+v", s)
		}
		c = device(t, b, "shop", "")
		u = c.durable("/orders", broker.Delivery{Name: "billing"})
		c.quiet()
		if err := b.PauseConsumer(t.Context(), id, false); err != nil {
			t.Fatal(err)
		}
		if texts, _, _ := c.deliveries(6); !slices.Equal(texts, []string{"4", "5", "6", "7", "8", "9"}) {
			t.Errorf("after the pause: %v", texts)
		}
		if err := b.SeekConsumer(t.Context(), id, broker.Start{Kind: broker.AfterSeq, Seq: seqs[1]}); err != nil {
			t.Fatal(err)
		}
		if texts, _, _ := c.deliveries(8); texts[0] != "2" {
			t.Errorf("after a seek: %v", texts)
		}
		if err := b.SeekConsumer(t.Context(), id, broker.Start{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		c.quiet()
		publish(t, b, text("/orders", "new"))
		_, last, _ := c.deliveries(1)
		c.ack(u, last[0])
		balance(t, b)
		if err := b.DeleteConsumer(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if e := expect[*broker.Ended](c); e.Sub != u {
			t.Errorf("got %+v", e)
		}
		if _, err := b.Consumer(t.Context(), id); !errors.Is(err, parley.ErrNotFound) {
			t.Errorf("deleted: %v", err)
		}
		for info, err := range b.Consumers(t.Context(), "*") {
			t.Errorf("there is still %+v, %v", info, err)
		}
	})
}

// TestErase drops everything of a user, and nothing of another.
func TestErase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startKV(t, broker.Config{})
		for _, user := range []string{"ann", "anna"} {
			for i := range 3 {
				send(t, b, user, fmt.Sprint(i))
			}
			c := device(t, b, user, "phone")
			u := c.inbox(broker.Delivery{})
			_, seqs, _ := c.deliveries(3)
			c.Acknowledge(&broker.Ack{Ref: "dead", Sub: u.ID, Ranges: []broker.SeqRange{{First: seqs[0], Last: seqs[0]}}, Dead: true})
			c.acked("dead")
			c.ack(u, seqs[1])
			c.Close()
		}
		time.Sleep(time.Second)
		online := device(t, b, "ann", "tablet")
		u := online.inbox(broker.Delivery{})
		online.deliveries(3)
		online.quiet()
		erased, err := b.Erase(t.Context(), "ann")
		if err != nil || erased.Messages != 3 || erased.DeadLetters != 1 || erased.Cursors != 2 {
			t.Errorf("erased %+v, %v", erased, err)
		}
		if e := expect[*broker.Ended](online); e.Sub != u {
			t.Errorf("got %+v", e)
		}
		if letters, _, err := b.DeadLetters(t.Context(), "ann", 0, 10); err != nil || len(letters) != 0 {
			t.Errorf("there are %v, %v", letters, err)
		}
		c := device(t, b, "ann", "phone")
		c.inbox(broker.Delivery{})
		c.quiet()
		c = device(t, b, "anna", "phone")
		c.inbox(broker.Delivery{})
		if texts, _, _ := c.deliveries(1); texts[0] != "2" {
			t.Errorf("anna got %v", texts)
		}
		if letters, _, err := b.DeadLetters(t.Context(), "anna", 0, 10); err != nil || len(letters) != 1 {
			t.Errorf("anna has %v, %v", letters, err)
		}
		c.quiet()
		if err := b.EraseDevice(t.Context(), "anna", "phone"); err != nil {
			t.Error(err)
		}
		expect[*broker.Ended](c)
	})
}

// TestInboxBounds: an inbox that overflows loses its oldest messages, and who has
// not read them is told.
func TestInboxBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startKV(t, broker.Config{Inbox: broker.Bounds{Messages: 80}})
		c := device(t, b, "ann", "phone")
		c.inbox(broker.Delivery{})
		first := send(t, b, "ann", "first")
		c.deliveries(1)
		c.Close()
		for i := range 200 {
			send(t, b, "ann", fmt.Sprint(i))
			synctest.Wait()
		}
		c = device(t, b, "ann", "phone")
		c.inbox(broker.Delivery{})
		var gaps []*broker.Gap
		got := 0
		for got == 0 || !c.idle() {
			switch e := c.next().(type) {
			case *broker.Gap:
				gaps = append(gaps, e)
			case *broker.Deliveries:
				got += len(e.Messages)
			case *broker.ReplayStart, *broker.ReplayEnd, *broker.Live, *broker.ReadMarker:
			default:
				t.Fatalf("got %#v", e)
			}
		}
		if len(gaps) == 0 || gaps[0].From > first || got < 80 || got > 91 {
			t.Errorf("got %d messages and gaps %+v", got, gaps)
		}
	})
}

// TestUnsaved: an acknowledgement and a refusal count until they are durable, and
// what says nothing new does not.
func TestUnsaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openLog(t)
		b := start(t, db, broker.Config{KV: slowKV{db}})
		c := device(t, b, "ann", "phone")
		u := c.inbox(broker.Delivery{})
		var ranges []broker.SeqRange
		for _, body := range []string{"a", "b", "c"} {
			seq := send(t, b, "ann", body)
			ranges = append(ranges, broker.SeqRange{First: seq, Last: seq})
		}
		c.deliveries(3)
		c.Acknowledge(&broker.Ack{Sub: u.ID, Ranges: ranges[:1]})
		c.Acknowledge(&broker.Ack{Sub: u.ID, Ranges: ranges[:1]})
		c.Acknowledge(&broker.Ack{Sub: u.ID, Ranges: ranges[1:2], Nak: true, Delay: time.Hour})
		if n := b.Unsaved(); n != 2 {
			t.Errorf("%d are not durable, want 2", n)
		}
		c.ack(u, ranges[2].First) // which saves all
		if n := b.Unsaved(); n != 0 {
			t.Errorf("%d are not durable after a confirmation", n)
		}
	})
}
