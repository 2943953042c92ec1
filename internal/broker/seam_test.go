package broker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
)

// load publishes to /r/0 … /r/3 without a pause until it is stopped.
type load struct {
	b    *broker.Broker
	mu   sync.Mutex
	seqs [4][]parley.Seq // what was acknowledged
	n    atomic.Int64
}

func (l *load) run(ctx context.Context) error {
	for i := 0; ctx.Err() == nil; i++ {
		p := &broker.Publish{}
		for j := range 20 {
			p.Messages = append(p.Messages, broker.Publication{Message: text(fmt.Sprintf("/r/%d", (i+j)%4), fmt.Sprint(i, j))})
		}
		if err := l.b.Publish(context.WithoutCancel(ctx), account.Anyone(parley.Identity{}), p); err != nil {
			return err
		}
		l.mu.Lock()
		for j, m := range p.Messages {
			l.seqs[(i+j)%4] = append(l.seqs[(i+j)%4], m.Result.Seq)
		}
		l.mu.Unlock()
		l.n.Add(20)
	}
	return nil
}

// some returns one of the latest acknowledged seqs, at random.
func (l *load) some(rnd *rand.Rand, topic int) parley.Seq {
	l.mu.Lock()
	defer l.mu.Unlock()
	seqs := l.seqs[topic]
	if len(seqs) == 0 {
		return 0
	}
	return seqs[len(seqs)-1-rnd.IntN(min(len(seqs), 500))]
}

// trace is what one subscription got: all of topic beyond from, but for gaps.
type trace struct {
	topic int
	from  parley.Seq
	seqs  []parley.Seq
	gaps  [][2]parley.Seq
	end   parley.Seq
	fault string
}

// join subscribes at a random place and follows until it has been live for some
// messages; a stalled one stops taking events for a while.
func join(t *testing.T, l *load, rnd *rand.Rand, stall bool) *trace {
	tr := &trace{topic: rnd.IntN(4)}
	c := connect(t, l.b, broker.SessionConfig{})
	defer c.Close()
	r := broker.Subscribe{Topic: parley.Topic(fmt.Sprintf("/r/%d", tr.topic))}
	switch rnd.IntN(4) {
	case 0:
	case 1:
		r.Start = broker.Start{Kind: broker.AfterSeq, Seq: l.some(rnd, tr.topic)}
	case 2:
		r.Start = broker.Start{Kind: broker.NewestN, Last: rnd.IntN(50)}
	case 3:
		r.Start = broker.Start{Kind: broker.SinceTime, Time: time.Now().Add(-time.Duration(rnd.IntN(5)) * time.Millisecond)}
	}
	c.Subscribe(t.Context(), r)
	known := false
	for live := -1; live < 30; {
		switch e := c.next().(type) {
		case *broker.Subscribed:
			tr.from, known = e.Cursor, r.Start.Kind == broker.FromNow || r.Start.Kind == broker.AfterSeq
		case *broker.Gap:
			tr.gaps = append(tr.gaps, [2]parley.Seq{e.From, e.To})
		case *broker.Live:
			live = max(live, 0)
		case *broker.ReplayStart, *broker.ReplayEnd:
		case *broker.Messages:
			for _, m := range e.Batch.Messages {
				if !known {
					tr.from, known = m.Seq-1, true
				}
				tr.seqs = append(tr.seqs, m.Seq)
			}
			if live >= 0 {
				live += len(e.Batch.Messages)
			}
			if stall && live > 0 {
				stall = false
				for until := l.n.Load() + 2000; l.n.Load() < until && t.Context().Err() == nil; {
					runtime.Gosched()
				}
			}
		default:
			tr.fault = fmt.Sprintf("unexpected %#v", e)
			return tr
		}
	}
	tr.end = tr.seqs[len(tr.seqs)-1]
	return tr
}

// check compares a trace with the log.
func (tr *trace) check(t *testing.T, stored []parley.Seq) {
	t.Helper()
	if tr.fault != "" {
		t.Error(tr.fault)
		return
	}
	var want []parley.Seq
	for _, seq := range stored {
		inGap := slices.ContainsFunc(tr.gaps, func(g [2]parley.Seq) bool { return g[0] < seq && seq <= g[1] })
		if seq > tr.from && seq <= tr.end && !inGap {
			want = append(want, seq)
		}
	}
	got := slices.DeleteFunc(slices.Clone(tr.seqs), func(seq parley.Seq) bool {
		return slices.ContainsFunc(tr.gaps, func(g [2]parley.Seq) bool { return g[0] < seq && seq <= g[1] })
	})
	if !slices.Equal(got, want) {
		t.Errorf("topic %d from %d to %d with gaps %v: got %d messages, want %d", tr.topic, tr.from, tr.end, tr.gaps, len(got), len(want))
	}
}

func joins(t *testing.T, cfg broker.Config, count int, trim bool) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	db := openLog(t)
	l := &load{b: start(t, db, cfg)}
	ctx, cancel := context.WithCancel(t.Context())
	var publishing, joining sync.WaitGroup
	publishing.Go(func() {
		if err := l.run(ctx); err != nil {
			t.Error(err)
		}
	})
	if trim {
		publishing.Go(func() {
			for ctx.Err() == nil {
				if _, err := db.Trim(context.WithoutCancel(ctx), "r", backend.Retention{Messages: 3000}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	traces := make([]*trace, count)
	for w := range 8 {
		joining.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(seed), uint64(w)))
			for i := w; i < count; i += 8 {
				traces[i] = join(t, l, rnd, i%10 == 0)
			}
		})
	}
	joining.Wait()
	cancel()
	publishing.Wait()
	for _, tr := range traces {
		if trim && tr.from == 0 && len(tr.seqs) > 0 {
			tr.from = tr.seqs[0] - 1 // the oldest that was left
		}
		tr.check(t, l.seqs[tr.topic])
	}
	s := l.b.Stats()
	t.Logf("%d joins, %d published, %d delivered, %d replays, %d of them because the tail was passed", count, s.Published, s.Delivered, s.Replays, s.Fallbacks)
}

// R2 and R4: from any start, under load, every trace is a contiguous slice of
// its topic.
func TestJoinsUnderLoad(t *testing.T) {
	joins(t, broker.Config{}, 1000, false)
}

// The same with a tail so small that readers fall behind it all the time.
func TestJoinsWithSmallTail(t *testing.T) {
	joins(t, broker.Config{TailBytes: 20_000}, 500, false)
}

// The same while retention trims the stream: what is missing was announced.
func TestJoinsWhileTrimming(t *testing.T) {
	joins(t, broker.Config{TailBytes: 20_000}, 300, true)
}

// overlap subscribes to a root and a topic below it, at random places and in
// random order, and follows both until they have been live for a while; then the
// root's subscription ends, and the other goes on alone.
func overlap(t *testing.T, l *load, rnd *rand.Rand) (root, below *trace) {
	c := connect(t, l.b, broker.SessionConfig{})
	defer c.Close()
	n := rnd.IntN(4)
	traces := map[uint64]*trace{}
	for _, topic := range [][]int{{-1, n}, {n, -1}}[rnd.IntN(2)] {
		tr := &trace{topic: topic, from: l.some(rnd, n)}
		r := broker.Subscribe{Topic: "/r", Start: broker.Start{Kind: broker.AfterSeq, Seq: tr.from}}
		if topic >= 0 {
			r.Topic = parley.Topic(fmt.Sprintf("/r/%d", topic))
			below = tr
		} else {
			root = tr
		}
		c.Subscribe(t.Context(), r)
		traces[uint64(len(traces)+1)] = tr
	}
	for live, both, ended := 0, 0, false; both < 100 || len(below.seqs) == 0; {
		switch e := c.next().(type) {
		case *broker.Live:
			live++
		case *broker.Messages:
			for _, sub := range append(slices.Clone(e.Also), e.Sub) {
				for _, m := range e.Batch.Messages {
					traces[sub.ID].seqs = append(traces[sub.ID].seqs, m.Seq)
				}
			}
			if live >= 2 {
				both++
			}
			if both > 50 && !ended {
				ended = true
				c.Unsubscribe("", 0, "/r", false)
			}
		case *broker.Subscribed, *broker.ReplayStart, *broker.ReplayEnd, *broker.Unsubscribed:
		default:
			below.fault = fmt.Sprintf("unexpected %#v", e)
			return root, below
		}
	}
	root.end, below.end = root.seqs[len(root.seqs)-1], below.seqs[len(below.seqs)-1]
	return root, below
}

// Each of two subscriptions that overlap gets all that is its own, in order and
// once, whichever of them delivers it.
func TestOverlapUnderLoad(t *testing.T) {
	for _, tail := range []int{0, 20_000} {
		seed := time.Now().UnixNano()
		t.Logf("seed %d", seed)
		l := &load{b: start(t, openLog(t), broker.Config{TailBytes: tail})}
		ctx, cancel := context.WithCancel(t.Context())
		var publishing, joining sync.WaitGroup
		publishing.Go(func() {
			if err := l.run(ctx); err != nil {
				t.Error(err)
			}
		})
		var mu sync.Mutex
		var traces []*trace
		for w := range 4 {
			joining.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(seed), uint64(w)))
				for range 25 {
					root, below := overlap(t, l, rnd)
					mu.Lock()
					traces = append(traces, root, below)
					mu.Unlock()
				}
			})
		}
		joining.Wait()
		cancel()
		publishing.Wait()
		all := slices.Sorted(slices.Values(slices.Concat(l.seqs[0], l.seqs[1], l.seqs[2], l.seqs[3])))
		for _, tr := range traces {
			if tr.topic < 0 {
				tr.check(t, all)
			} else {
				tr.check(t, l.seqs[tr.topic])
			}
		}
	}
}
