package broker_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/internal/broker"
)

// BenchmarkInbox measures letters per second that 4 senders send, 100 at once, and
// that are delivered to one device of each of 4 recipients and acknowledged; the
// store is on a disk. Confirmed has every acknowledgement of a batch confirmed.
func BenchmarkInbox(b *testing.B) {
	for _, confirm := range []bool{false, true} {
		b.Run(fmt.Sprintf("confirmed=%v", confirm), func(b *testing.B) { benchConsumers(b, confirm, sendLetters, openInbox) })
	}
}

// BenchmarkDurable is the same for durable subscriptions to 4 topics.
func BenchmarkDurable(b *testing.B) {
	benchConsumers(b, false, publishTo, openDurable)
}

func openInbox(c *client, _ int) {
	c.Subscribe(c.tb.Context(), broker.Subscribe{Topic: parley.InboxTopic(c.Identity().User), Delivery: &broker.Delivery{MaxInFlight: 10_000}})
}

func openDurable(c *client, i int) {
	c.Subscribe(c.tb.Context(), broker.Subscribe{Topic: parley.Topic(fmt.Sprint("/bench/", i)), Delivery: &broker.Delivery{Name: "d", MaxInFlight: 10_000}})
}

func sendLetters(b *testing.B, k *broker.Broker, i, n int) {
	who := account.Anyone(parley.Identity{User: fmt.Sprint("sender", i)})
	r := &broker.Send{}
	for range n {
		r.Letters = append(r.Letters, broker.Letter{To: []string{fmt.Sprint("recipient", i)}, Message: parley.Message{Body: make([]byte, 100)}})
	}
	if err := k.Send(b.Context(), who, r); err != nil {
		b.Error(err)
	}
}

func publishTo(b *testing.B, k *broker.Broker, i, n int) {
	p := &broker.Publish{}
	for range n {
		p.Messages = append(p.Messages, broker.Publication{Message: parley.Message{Topic: parley.Topic(fmt.Sprint("/bench/", i)), Body: make([]byte, 100)}})
	}
	if err := k.Publish(b.Context(), account.Anyone(parley.Identity{}), p); err != nil {
		b.Error(err)
	}
}

func benchConsumers(b *testing.B, confirm bool, put func(*testing.B, *broker.Broker, int, int), open func(*client, int)) {
	const pairs, batch = 4, 100
	db, err := pebble.Open(filepath.Join(b.TempDir(), "store"), pebble.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	k := start(b, db, broker.Config{KV: db})
	var acked atomic.Int64
	share := (b.N/pairs + batch) / batch * batch
	var running sync.WaitGroup
	clients := make([]*client, pairs)
	subs := make([]*broker.Subscription, pairs)
	for i := range pairs {
		c := device(b, k, fmt.Sprint("recipient", i), "phone")
		open(c, i)
		e, ok := c.next().(*broker.Subscribed)
		if !ok {
			b.Fatalf("got %#v", e)
		}
		clients[i], subs[i] = c, e.Sub
	}
	b.ResetTimer()
	began := time.Now()
	for i := range pairs {
		running.Go(func() {
			c := clients[i]
			var window sync.WaitGroup // of senders
			slots := make(chan struct{}, 8)
			window.Go(func() {
				for range share / batch {
					slots <- struct{}{}
					window.Go(func() {
						put(b, k, i, batch)
						<-slots
					})
				}
			})
			waiting := 0
			for got := 0; got < share || waiting > 0; {
				switch e := c.next().(type) {
				case *broker.Deliveries:
					a := &broker.Ack{Sub: subs[i].ID, Ranges: []broker.SeqRange{{First: e.Messages[0].Seq, Last: e.Messages[len(e.Messages)-1].Seq}}}
					if confirm {
						a.Ref = "a"
						waiting++
					}
					c.Acknowledge(a)
					got += len(e.Messages)
				case *broker.Acked:
					waiting--
				case *broker.Failed, *broker.Ended:
					b.Errorf("got %#v", e)
					return
				default:
				}
			}
			acked.Add(int64(share))
			window.Wait()
		})
	}
	running.Wait()
	b.ReportMetric(float64(acked.Load())/time.Since(began).Seconds(), "acked/s")
}

// BenchmarkUnread measures how long it takes to tell what a user has not read:
// of an inbox that is full of it, and of one that is full of what the user has
// sent.
func BenchmarkUnread(b *testing.B) {
	for _, sender := range []string{"bob", "ann"} {
		b.Run("by="+sender, func(b *testing.B) {
			k := startKV(b, broker.Config{})
			to := map[string]string{"bob": "ann", "ann": "bob"}[sender]
			for range 25 {
				r := &broker.Send{}
				for range 1000 {
					r.Letters = append(r.Letters, broker.Letter{To: []string{to}, Message: parley.Message{Body: make([]byte, 100)}})
				}
				if err := k.Send(b.Context(), account.Anyone(parley.Identity{User: sender}), r); err != nil {
					b.Fatal(err)
				}
			}
			ann := account.Anyone(parley.Identity{User: "ann"})
			for b.Loop() {
				if _, err := k.Unread(b.Context(), ann); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
