package broker_test

import (
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/clock"
)

// TestWallClockJumps sets the wall clock of a running broker and its store, by an
// hour or a year, and back again. Nothing expires or is dropped for its age
// before its time, ids are remembered for their whole window, seqs grow, and
// "since" finds everything (R16); and with time all of it ends, the ids but for
// what a jump adds.
func TestWallClockJumps(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, by := range []time.Duration{time.Hour, -time.Hour, year, -year} {
		for _, back := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v,%v", by, back), func(t *testing.T) {
				w := newTimes(t)
				w.publish("a")
				w.pass(time.Minute)
				w.check("before", "a")
				w.off.Store(int64(by))
				w.check("after a jump", "a")
				w.publish("b")
				w.check("published after a jump", "a", "b")
				w.pass(time.Minute)
				w.check("later", "a", "b")
				if back {
					w.off.Store(0)
					w.check("set right", "a", "b")
					w.publish("c")
					w.check("published since", "a", "b", "c")
				}
				w.pass(lasts*8/9 - 3*time.Minute)
				w.check("before the end", w.ids...)
				w.repeat("before the end", true)
				if back && by < 0 { // All clocks have always told the right time, or less.
					w.pass(15 * time.Minute)
					w.check("after the end")
				}
				w.pass(20 * year)
				w.check("in the end")
				w.repeat("in the end", false)
			})
		}
	}
}

// lasts is how long a message of times is kept: by its expiry, its age, and the
// window of its id.
const lasts = 90 * time.Minute

// times is a broker whose time the test tells.
type times struct {
	t            *testing.T
	elapsed, off atomic.Int64
	broker       *broker.Broker
	db           *pebble.DB
	began        time.Time
	ids          []string
	seqs         []parley.Seq
}

func newTimes(t *testing.T) *times {
	w := &times{t: t, began: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)}
	c := clock.New(clock.Options{
		Wall:    w.wall,
		Elapsed: func() time.Duration { return time.Duration(w.elapsed.Load()) },
		Logger:  slog.New(slog.DiscardHandler),
	})
	var err error
	w.db, err = pebble.Open("store", pebble.Options{FS: vfs.NewMem(), Now: c.Now, Past: c.Past, DedupWindow: lasts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.db.Close(); err != nil {
			t.Error(err)
		}
	})
	w.broker = start(t, w.db, broker.Config{Clock: c, Retention: []broker.Rule{{Stream: "kept-a", Age: lasts}, {Stream: "kept-b", Age: lasts}, {Stream: "kept-c", Age: lasts}}})
	return w
}

func (w *times) wall() time.Time {
	return w.began.Add(time.Duration(w.elapsed.Load() + w.off.Load()))
}

// pass lets time elapse.
func (w *times) pass(d time.Duration) { w.elapsed.Add(int64(d)) }

// publish stores a message that expires, and one that is kept for its age, in a
// stream of its own.
func (w *times) publish(id string) {
	w.t.Helper()
	for _, p := range w.offer(id) {
		r := p.Result
		if r.Err != nil || r.Duplicate || len(w.seqs) > 0 && r.Seq <= w.seqs[len(w.seqs)-1] {
			w.t.Errorf("publish %s after %v: %+v", id, w.seqs, r)
		}
		w.seqs = append(w.seqs, r.Seq)
	}
	w.ids = append(w.ids, id)
}

// repeat publishes everything again, and says whether it is known.
func (w *times) repeat(when string, known bool) {
	w.t.Helper()
	for i, id := range w.ids {
		for j, p := range w.offer(id) {
			if first := w.seqs[2*i+j]; p.Result.Duplicate != known || (p.Result.Seq == first) != known {
				w.t.Errorf("%s: %s again, first %d: %+v", when, id, first, p.Result)
			}
		}
	}
}

func (w *times) offer(id string) []broker.Publication {
	w.t.Helper()
	expiring, kept := text("/expiring", id), text("/kept-"+id, id)
	expiring.Expires = w.wall().Add(lasts)
	expiring.ID, kept.ID = id, id
	p := &broker.Publish{Messages: []broker.Publication{{Message: expiring, Producer: "p"}, {Message: kept, Producer: "p"}}}
	if err := w.broker.Publish(w.t.Context(), account.Anyone(parley.Identity{}), p); err != nil {
		w.t.Fatal(err)
	}
	return p.Messages
}

// check compares what is there, and whose ids are known, with want.
func (w *times) check(when string, want ...string) {
	w.t.Helper()
	if err := w.broker.Retain(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	c := connect(w.t, w.broker, broker.SessionConfig{})
	defer c.Close()
	for _, s := range []broker.Start{{Kind: broker.AfterSeq}, {Kind: broker.SinceTime, Time: w.began.Add(-2 * 365 * 24 * time.Hour)}} {
		if got := w.replay(c, "/expiring", s); !slices.Equal(got, want) {
			w.t.Errorf("%s: of those that expire, from %v there are %v, want %v", when, s, got, want)
		}
		kept := []string{}
		for _, id := range w.ids {
			kept = append(kept, w.replay(c, parley.Topic("/kept-"+id), s)...)
		}
		if !slices.Equal(kept, want) {
			w.t.Errorf("%s: of those that are kept, from %v there are %v, want %v", when, s, kept, want)
		}
	}
}

func (w *times) replay(c *client, topic parley.Topic, s broker.Start) []string {
	w.t.Helper()
	c.Subscribe(w.t.Context(), broker.Subscribe{Topic: topic, Start: s, ReplayOnly: true})
	expect[*broker.Subscribed](c)
	texts := c.texts(expect[*broker.ReplayStart](c).Count)
	expect[*broker.ReplayEnd](c)
	return texts
}
