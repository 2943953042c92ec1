package broker_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/clock"
)

// calendar is a clock that the test moves: what has elapsed, and how far the wall
// clock is off.
type calendar struct{ elapsed, off atomic.Int64 }

func (c *calendar) pass(d time.Duration) { c.elapsed.Add(int64(d)) }

// start runs a broker by that clock.
func (c *calendar) start(t *testing.T, cfg broker.Config) *broker.Broker {
	t.Helper()
	began := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	k := clock.New(clock.Options{
		Wall:    func() time.Time { return began.Add(time.Duration(c.elapsed.Load() + c.off.Load())) },
		Elapsed: func() time.Duration { return time.Duration(c.elapsed.Load()) },
		Logger:  slog.New(slog.DiscardHandler),
	})
	db, err := pebble.Open("store", pebble.Options{FS: vfs.NewMem(), Now: k.Now, Past: k.Past})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	cfg.KV, cfg.Clock, cfg.RetentionInterval = db, k, 100*time.Millisecond
	return start(t, db, cfg)
}

// TestMonth: two devices come and go for a month at random, and each gets every
// message once, in order. One that then stays away for longer than a month is
// told that it has missed something, and gets what is still there.
func TestMonth(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 2))
	synctest.Test(t, func(t *testing.T) {
		c := &calendar{}
		b := c.start(t, broker.Config{})
		names := []string{"phone", "laptop"}
		devices := make([]*client, len(names))
		subs := make([]*broker.Subscription, len(names))
		got := make([][]string, len(names))
		var sent []string
		read := func(i int) {
			synctest.Wait()
			for !devices[i].idle() {
				e, ok := devices[i].next().(*broker.Deliveries)
				if !ok {
					continue
				}
				a := &broker.Ack{Sub: subs[i].ID}
				for _, m := range e.Messages {
					got[i] = append(got[i], string(m.Body))
					a.Ranges = append(a.Ranges, broker.SeqRange{First: m.Seq, Last: m.Seq})
				}
				devices[i].Acknowledge(a)
			}
		}
		come := func(i int) {
			devices[i] = device(t, b, "ann", names[i])
			subs[i] = devices[i].inbox(broker.Delivery{AckWait: time.Second})
			read(i)
		}
		leave := func(i int) {
			devices[i].Close()
			devices[i] = nil
		}
		for steps := 0; c.elapsed.Load() < int64(30*24*time.Hour); steps++ {
			c.pass(time.Duration(rnd.Int64N(int64(4 * time.Hour))))
			for range rnd.IntN(4) {
				sent = append(sent, fmt.Sprint(len(sent)))
				send(t, b, "ann", sent[len(sent)-1])
			}
			for i := range devices {
				switch {
				case devices[i] != nil && rnd.IntN(3) == 0:
					leave(i)
				case devices[i] != nil:
					read(i)
				case rnd.IntN(3) == 0:
					come(i)
				}
			}
		}
		for i := range devices {
			if devices[i] == nil {
				come(i)
			}
			read(i)
			if !slices.Equal(got[i], sent) {
				t.Errorf("%s got %d messages, want %d", names[i], len(got[i]), len(sent))
			}
		}
		leave(0)
		c.pass(20 * 24 * time.Hour)
		kept := send(t, b, "ann", "kept")
		c.pass(11 * 24 * time.Hour)
		time.Sleep(250 * time.Millisecond) // retention looks at it
		phone := device(t, b, "ann", "phone")
		phone.inbox(broker.Delivery{})
		gap := expect[*broker.Gap](phone)
		texts, seqs, _ := phone.deliveries(1)
		if texts[0] != "kept" || gap.To >= kept || gap.From > gap.To || seqs[0] != kept {
			t.Errorf("after a month: gap %+v, then %v at %v, want %d", gap, texts, seqs, kept)
		}
		if s := balance(t, b); s.Redelivered != 0 {
			t.Errorf("books: %+v", s)
		}
	})
}

// TestConsumersAndWallClockJumps: a wall clock that is set delivers nothing again,
// and makes no device's cursor expire (R16).
func TestConsumersAndWallClockJumps(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, by := range []time.Duration{time.Hour, -time.Hour, year, -year} {
		t.Run(by.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &calendar{}
				b := c.start(t, broker.Config{})
				phone := device(t, b, "ann", "phone")
				u := phone.inbox(broker.Delivery{AckWait: time.Minute})
				send(t, b, "ann", "a")
				send(t, b, "ann", "b")
				_, seqs, _ := phone.deliveries(2)
				phone.ack(u, seqs[0])
				c.pass(time.Hour)
				c.off.Store(int64(by))
				send(t, b, "ann", "c")
				_, more, _ := phone.deliveries(1)
				time.Sleep(500 * time.Millisecond)
				phone.quiet()
				if more[0] <= seqs[1] {
					t.Errorf("%d after %d", more[0], seqs[1])
				}
				phone.Close()
				time.Sleep(time.Second)
				c.pass(time.Hour)
				phone = device(t, b, "ann", "phone")
				u = phone.inbox(broker.Delivery{})
				if texts, again, _ := phone.deliveries(2); !slices.Equal(texts, []string{"b", "c"}) {
					t.Errorf("came back: %v at %v", texts, again)
				}
				phone.ack(u, append(more, seqs[1])...)
				c.off.Store(0)
				phone.Close()
				time.Sleep(time.Second)
				phone = device(t, b, "ann", "phone")
				phone.inbox(broker.Delivery{})
				time.Sleep(200 * time.Millisecond)
				phone.quiet()
			})
		})
	}
}
