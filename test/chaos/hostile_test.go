package chaos_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

const (
	// storeBudget is what the store may hold while it is busy: memtables and
	// blocks on their way to the disk.
	storeBudget = 64 << 20
	// storeRest is what it keeps when it is not: a memtable and a cache. Where
	// there is a C compiler they are not a part of what is measured.
	storeRest = 32 << 20
	// slack is for what nobody can attribute.
	slack = 4 << 20
)

// TestHostileClients (R9): whatever clients do, the server holds no more than a
// budget for each connection beside what is configured, gives it back when they
// are gone, and meanwhile serves who behaves.
func TestHostileClients(t *testing.T) {
	s := servertest.Start(t, servertest.Dir(t.TempDir()), func(c *server.Config) {
		c.Limits = server.Limits{Message: attackedMessage, PublishQueue: attackedQueue, Tail: attackedTail}
	})
	fillTarget(t, s)
	good := behave(t, s)
	good.served(t)
	idle := memory()
	t.Logf("idle: %d KiB", idle>>10)
	for _, a := range slices.Concat(silent(), greedy()) {
		t.Run(a.name, func(t *testing.T) {
			n := max(scale(a.conns/10, a.conns/2, a.conns), 8)
			conns := a.mount(t, s, n)
			cost := memory() - idle
			good.served(t)
			cost = max(cost, memory()-idle)
			t.Logf("%d connections: %d KiB each", n, cost/n>>10)
			allowed := n*a.budget + attackedQueue + attackedTail + slack
			if a.stores {
				allowed += storeBudget
			}
			if cost > allowed {
				t.Errorf("%d connections make the server hold %d KiB, want at most %d", n, cost>>10, allowed>>10)
			}
			for _, c := range conns {
				_ = c.Close()
			}
			eventually(t, "only who behaves is left", func() bool { return scrape(t, s)["sessions"] == 1 })
		})
	}
	unharmed(t, scrape(t, s))
	good.stop()
	quiet(t, s)
	defer func() { t.Logf("idle again: %d KiB", memory()>>10) }()
	eventually(t, "the memory is given back", func() bool { return memory() < idle+storeRest+slack })
}

// mount attacks with n connections at once, and returns them open.
func (a *attack) mount(t *testing.T, s *servertest.Server, n int) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, n)
	var attacking sync.WaitGroup
	defer attacking.Wait()
	for i := range conns {
		if a.path == "" {
			c, err := net.DialTimeout("tcp", host(s), patience)
			if err != nil {
				t.Fatal(err)
			}
			conns[i] = c
		} else {
			p, err := dial(host(s), a.path, 4<<10)
			if err != nil {
				t.Fatal(err)
			}
			conns[i] = p.Conn
		}
		t.Cleanup(func() { _ = conns[i].Close() })
		attacking.Go(func() { a.run(i, conns[i]) })
	}
	return conns
}

// fillTarget stores what greedy readers ask for: bytes that become the most on
// the wire, where JSON writes each as six.
func fillTarget(t *testing.T, s *servertest.Server) {
	t.Helper()
	const body = attackedMessage / 4
	batch := make([]parley.Message, targetBytes/body)
	for i := range batch {
		batch[i] = parley.Message{Topic: target, Body: bytes.Repeat([]byte{1}, body)}
	}
	c := sdk(t, s)
	if _, err := c.PublishAll(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

// wellBehaved is a client that publishes to itself all the time.
type wellBehaved struct {
	trips atomic.Int64
	stop  func()
}

// behave starts one.
func behave(t *testing.T, s *servertest.Server) *wellBehaved {
	t.Helper()
	w := &wellBehaved{}
	c := sdk(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	w.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		_ = c.Close()
	})
	t.Cleanup(w.stop)
	running.Go(func() {
		var last parley.Seq
		for ctx.Err() == nil {
			var err error
			if last, err = w.trip(ctx, c, last); err != nil && ctx.Err() == nil {
				t.Errorf("a client that behaves, after %d round trips: %v", w.trips.Load(), err)
				return
			}
		}
	})
	return w
}

// trip publishes one message and receives it, the last one having been last.
func (w *wellBehaved) trip(ctx context.Context, c *client.Client, last parley.Seq) (parley.Seq, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	receipt, err := c.Publish(ctx, parley.Message{Topic: "/good", Body: []byte("hello")})
	if err != nil {
		return 0, err
	}
	for m, err := range c.Subscribe(ctx, "/good", client.After(last), client.Max(1)) {
		if err != nil {
			return 0, err
		}
		if m.Seq != receipt.Seq {
			return 0, fmt.Errorf("got seq %d for the message stored at %d", m.Seq, receipt.Seq)
		}
		w.trips.Add(1)
		return m.Seq, nil
	}
	return 0, ctx.Err()
}

// served waits until the client was served once more, from beginning to end.
func (w *wellBehaved) served(t *testing.T) {
	t.Helper()
	before := w.trips.Load()
	eventually(t, "a client that behaves is served", func() bool { return w.trips.Load() > before+1 })
}

// TestTailIsBounded (R9): what is kept for live readers stays within a multiple
// of Limits.Tail, for each message is also kept as each protocol writes it.
func TestTailIsBounded(t *testing.T) {
	const tail = 4 << 20
	s := servertest.Start(t, servertest.Dir(t.TempDir()), func(c *server.Config) {
		c.Limits.Tail, c.Limits.Message = tail, attackedMessage
	})
	c := gather(t, s, 2, 0)
	c.burst(t, c.readers)
	idle := memory()
	for range 3 * tail / burst / burstBody {
		c.burst(t, c.readers)
		for _, r := range c.readers { // what the test keeps is not the server's
			r.trace, r.took = r.trace[:0], r.took[:0]
		}
		c.log = c.log[:0]
	}
	kept := memory() - idle
	t.Logf("a tail of %d KiB holds %d KiB", tail>>10, kept>>10)
	// As messages, and as two protocols write them, with room to spare behind
	// the bytes. These bodies are hardly larger on the wire.
	if kept > 5*tail+slack {
		t.Errorf("a tail of %d KiB holds %d KiB", tail>>10, kept>>10)
	}
	if got := scrape(t, s)["tail_bytes"]; got > tail {
		t.Errorf("the tail says it has %v bytes, more than %d", got, tail)
	}
}
