package broker_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/broker"
)

// startKV runs a broker over a new store, with records.
func startKV(tb testing.TB, cfg broker.Config) *broker.Broker {
	tb.Helper()
	db := openLog(tb)
	cfg.KV = db
	return start(tb, db, cfg)
}

// device connects a user's device.
func device(tb testing.TB, b *broker.Broker, user, name string) *client {
	tb.Helper()
	return connect(tb, b, broker.SessionConfig{Identity: parley.Identity{User: user, Device: name}})
}

// send sends one letter with that body to a user.
func send(tb testing.TB, b *broker.Broker, to, body string) parley.Seq {
	tb.Helper()
	return sendMessage(tb, b, to, parley.Message{Body: []byte(body)})
}

// sendMessage sends m as a letter to a user.
func sendMessage(tb testing.TB, b *broker.Broker, to string, m parley.Message) parley.Seq {
	tb.Helper()
	r := &broker.Send{Letters: []broker.Letter{{To: []string{to}, Message: m}}}
	if err := b.Send(tb.Context(), account.Anyone(parley.Identity{User: "sender", Device: "test"}), r); err != nil {
		tb.Fatal(err)
	}
	if l := r.Letters[0]; l.Err != nil || l.Results[0].Err != nil {
		tb.Fatal(l.Err, l.Results)
	}
	return r.Letters[0].Results[0].Seq
}

// inbox opens the user's inbox and returns the subscription.
func (c *client) inbox(d broker.Delivery) *broker.Subscription {
	c.tb.Helper()
	return c.durable(parley.InboxTopic(c.Identity().User), d)
}

// durable subscribes with acknowledgement.
func (c *client) durable(topic parley.Topic, d broker.Delivery) *broker.Subscription {
	c.tb.Helper()
	c.Subscribe(c.tb.Context(), broker.Subscribe{Topic: topic, Delivery: &d})
	for {
		switch e := c.next().(type) {
		case *broker.Subscribed:
			return e.Sub
		case *broker.Failed:
			c.tb.Fatal(e.Err)
		default:
			c.tb.Fatalf("got %#v", e)
		}
	}
}

// deliveries waits for n messages; it passes over what tells of replays.
func (c *client) deliveries(n int) (texts []string, seqs []parley.Seq, attempts []int) {
	c.tb.Helper()
	for len(texts) < n {
		switch e := c.next().(type) {
		case *broker.Deliveries:
			for i, m := range e.Messages {
				texts, seqs = append(texts, string(m.Body)), append(seqs, m.Seq)
				attempt := 1
				if e.Attempts != nil {
					attempt = e.Attempts[i]
				}
				attempts = append(attempts, attempt)
			}
		case *broker.ReplayStart, *broker.ReplayEnd, *broker.Live, *broker.ReadMarker:
		default:
			c.tb.Fatalf("got %#v", e)
		}
	}
	return texts, seqs, attempts
}

// quiet fails if anything is due but what tells of replays.
func (c *client) quiet() {
	c.tb.Helper()
	for !c.idle() {
		switch e := c.next().(type) {
		case *broker.ReplayStart, *broker.ReplayEnd, *broker.Live, *broker.ReadMarker:
		default:
			c.tb.Fatalf("got %#v", e)
		}
	}
}

// ack acknowledges and waits for the confirmation.
func (c *client) ack(u *broker.Subscription, seqs ...parley.Seq) {
	c.tb.Helper()
	a := &broker.Ack{Ref: "ack", Sub: u.ID}
	for _, seq := range seqs {
		a.Ranges = append(a.Ranges, broker.SeqRange{First: seq, Last: seq})
	}
	c.Acknowledge(a)
	c.acked("ack")
}

// acked waits for the confirmation, and leaves what comes before it for later.
func (c *client) acked(ref string) *broker.Acked {
	c.tb.Helper()
	var others []broker.Event
	for {
		e := c.next()
		if done, ok := e.(*broker.Acked); ok && done.Ref == ref {
			c.due = append(others, c.due...)
			return done
		}
		if failed, ok := e.(*broker.Failed); ok {
			c.tb.Fatal(failed.Err)
		}
		others = append(others, e)
	}
}

// TestInbox: what was sent while a device was away comes when it comes, until it
// is acknowledged; each device has its own cursor.
func TestInbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startKV(t, broker.Config{})
		for i := range 5 {
			send(t, b, "ann", fmt.Sprint(i))
		}
		phone := device(t, b, "ann", "phone")
		u := phone.inbox(broker.Delivery{})
		texts, seqs, _ := phone.deliveries(5)
		if !slices.Equal(texts, []string{"0", "1", "2", "3", "4"}) {
			t.Errorf("got %v", texts)
		}
		phone.ack(u, seqs[0], seqs[1], seqs[3])
		send(t, b, "ann", "5")
		if texts, _, _ := phone.deliveries(1); texts[0] != "5" {
			t.Errorf("got %v", texts)
		}
		phone.Close()
		phone = device(t, b, "ann", "phone")
		phone.inbox(broker.Delivery{})
		texts, _, attempts := phone.deliveries(3)
		if !slices.Equal(texts, []string{"2", "4", "5"}) || !slices.Equal(attempts, []int{2, 2, 2}) {
			t.Errorf("came back: got %v, attempts %v", texts, attempts)
		}
		phone.quiet()
		tablet := device(t, b, "ann", "tablet")
		tablet.inbox(broker.Delivery{})
		if texts, _, attempts := tablet.deliveries(6); len(texts) != 6 || attempts[0] != 1 {
			t.Errorf("tablet: got %v", texts)
		}
		phone.quiet()
	})
}

// TestRedelivery: a message that is not acknowledged in time comes again, with
// the number of the attempt.
func TestRedelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startKV(t, broker.Config{})
		c := device(t, b, "ann", "phone")
		u := c.inbox(broker.Delivery{AckWait: time.Second})
		send(t, b, "ann", "a")
		send(t, b, "ann", "b")
		_, seqs, _ := c.deliveries(2)
		c.ack(u, seqs[0])
		for attempt := 2; attempt < 5; attempt++ {
			began := time.Now()
			texts, again, attempts := c.deliveries(1)
			if took := time.Since(began); took < 990*time.Millisecond || took > 1100*time.Millisecond {
				t.Errorf("it came after %v", took)
			}
			if texts[0] != "b" || again[0] != seqs[1] || attempts[0] != attempt {
				t.Errorf("got %v, attempt %v, want %d", texts, attempts, attempt)
			}
		}
		c.Acknowledge(&broker.Ack{Sub: u.ID, Ranges: []broker.SeqRange{{First: seqs[1], Last: seqs[1]}}, Nak: true, Delay: 300 * time.Millisecond})
		began := time.Now()
		c.deliveries(1)
		if took := time.Since(began); took < 290*time.Millisecond || took > 400*time.Millisecond {
			t.Errorf("after a nak it came after %v", took)
		}
		c.ack(u, seqs[1])
		time.Sleep(3 * time.Second)
		c.quiet()
	})
}

// TestReplaced: a device has one session at a time.
func TestReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startKV(t, broker.Config{})
		old, young := device(t, b, "ann", "phone"), device(t, b, "ann", "phone")
		u := old.inbox(broker.Delivery{})
		send(t, b, "ann", "a")
		old.deliveries(1)
		v := young.inbox(broker.Delivery{})
		_, seqs, attempts := young.deliveries(1)
		if attempts[0] != 2 {
			t.Errorf("attempt %v", attempts)
		}
		if e := expect[*broker.Ended](old); e.Sub != u || !errors.Is(e.Err, broker.ErrReplaced) {
			t.Errorf("got %+v", e)
		}
		old.Acknowledge(&broker.Ack{Ref: "late", Sub: u.ID, Ranges: []broker.SeqRange{{First: seqs[0], Last: seqs[0]}}})
		if e := expect[*broker.Failed](old); e.Ref != "late" || !errors.Is(e.Err, parley.ErrNotFound) {
			t.Errorf("got %+v", e)
		}
		young.ack(v, seqs[0])
		send(t, b, "ann", "b")
		young.deliveries(1)
		old.quiet()
	})
}

// TestLegacyDevice: all sessions get everything, and the first acknowledgement
// counts for all.
func TestLegacyDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startKV(t, broker.Config{})
		one, two := device(t, b, "ann", ""), device(t, b, "ann", "")
		u := one.inbox(broker.Delivery{AckWait: time.Second})
		one.quiet()
		send(t, b, "ann", "a")
		send(t, b, "ann", "b")
		v := two.inbox(broker.Delivery{AckWait: time.Second})
		_, seqs, _ := one.deliveries(2)
		two.deliveries(2)
		one.ack(u, seqs[0])
		for range 2 {
			for _, c := range []*client{one, two} {
				if texts, _, attempts := c.deliveries(1); texts[0] != "b" || attempts[0] < 2 {
					t.Errorf("got %v, attempts %v", texts, attempts)
				}
			}
		}
		two.ack(v, seqs[1])
		time.Sleep(2 * time.Second)
		one.quiet()
		two.quiet()
		three := device(t, b, "ann", "")
		three.inbox(broker.Delivery{})
		three.quiet()
	})
}

// TestTurns: the members of a durable subscription share its messages, each of
// which goes to one of them; one that is full or stalled does not hold up the
// others.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startKV(t, broker.Config{})
		var members []*client
		for range 4 {
			c := device(t, b, "shop", "")
			c.durable("/orders", broker.Delivery{Name: "billing", MaxInFlight: 100})
			c.quiet()
			members = append(members, c)
		}
		took := map[string]int{}
		share := make([]int, len(members))
		drain := func(which ...int) {
			synctest.Wait()
			for busy := true; busy; {
				busy = false
				for _, i := range which {
					c := members[i]
					for !c.idle() {
						e, ok := c.next().(*broker.Deliveries)
						if !ok {
							t.Fatalf("got %#v", e)
						}
						busy = true
						for _, m := range e.Messages {
							took[string(m.Body)]++
							share[i]++
						}
					}
				}
			}
		}
		for i := range 40 {
			publish(t, b, text("/orders/eu", fmt.Sprint("one by one ", i)))
			drain(0, 1, 2, 3)
		}
		if len(took) != 40 || slices.Min(share) < 9 {
			t.Errorf("%d messages, shared as %v", len(took), share)
		}
		// One does not come any more.
		for i := range 40 {
			publish(t, b, text("/orders/eu", fmt.Sprint("stalled ", i)))
			drain(1, 2, 3)
			time.Sleep(25 * time.Millisecond)
			drain(1, 2, 3)
		}
		if len(took) != 80 {
			t.Errorf("%d messages, want 80; shared as %v", len(took), share)
		}
		for body, n := range took {
			if n != 1 {
				t.Errorf("%q came %d times", body, n)
			}
		}
	})
}
