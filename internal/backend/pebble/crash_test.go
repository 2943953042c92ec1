package pebble_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/test/oracle"
)

// life is how many crashes one store lives through before the next one starts
// empty: what a check costs grows with what is stored.
const life = 10

// TestCrash takes the store's files at a random moment under load, with a random
// part of what was not synced, and opens what is left; 1,000 times, 10,000 times
// with PARLEY_SOAK=1, 200 with -short. Nothing acknowledged or shown may be gone or changed (R1, R3), a reader's
// trace has no gap (R4), and publishes with a key that are sent again are stored
// once (R5).
func TestCrash(t *testing.T) {
	stores := 1000 / life
	switch {
	case os.Getenv("PARLEY_SOAK") == "1":
		stores = 10_000 / life
	case testing.Short():
		stores = 200 / life
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var acked, shown int
	for n := range stores {
		c := newCrasher(rand.New(rand.NewPCG(seed, uint64(n))), slowSync)
		for cycle := range life {
			if err := c.cycle(t.Context()); err != nil {
				t.Fatalf("store %d, cycle %d: %v", n, cycle, err)
			}
		}
		if err := c.check(t.Context()); err != nil {
			t.Fatalf("store %d, after the last cycle: %v", n, err)
		}
		acked += len(c.acked)
		shown += len(c.shown)
	}
	t.Logf("%d crashes: %d acknowledged, %d shown, none lost or changed", stores*life, acked, shown)
	if acked == 0 || shown == 0 {
		t.Errorf("%d acknowledged and %d shown: this run shows nothing", acked, shown)
	}
}

// TestCrashIsNoticed: the same cycles find what is wrong where something is: a
// disk that skips the fsyncs of the write-ahead log, or a store that forgets its
// keys.
func TestCrashIsNoticed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		sync   syncer
		window time.Duration
		want   []string // one of these must be found
	}{
		{"lost fsyncs", lyingSync, 0, []string{"R1, ", "R3, ", "open: "}},
		{"forgotten keys", slowSync, time.Nanosecond, []string{"R5, "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := crashUntilBroken(t, tt.sync, tt.window)
			if err == nil {
				t.Fatal("not noticed in 200 crashes")
			}
			if !slices.ContainsFunc(tt.want, func(promise string) bool { return strings.Contains(err.Error(), promise) }) {
				t.Errorf("want %q to be found, got %v", tt.want, err)
			}
		})
	}
}

func crashUntilBroken(t *testing.T, s syncer, window time.Duration) error {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for n := range 20 {
		c := newCrasher(rand.New(rand.NewPCG(seed, uint64(n))), s)
		c.window = window
		for range life {
			if err := c.cycle(t.Context()); err != nil {
				return err
			}
		}
	}
	return nil
}

// crasher is one store and what the world knows of it.
type crasher struct {
	rand   *rand.Rand
	sync   syncer
	window time.Duration // of idempotency; 0 is the store's own
	fs     *vfs.MemFS

	acked, shown []oracle.Message // before the crashes so far
	cycles       int

	mu   sync.Mutex // guards what follows
	sent []string   // ids of all publishes with a key, acknowledged or not
}

func newCrasher(r *rand.Rand, s syncer) *crasher {
	return &crasher{rand: r, sync: s, fs: vfs.NewCrashableMem()}
}

func (c *crasher) open() (*pebble.DB, error) {
	return pebble.Open("store", pebble.Options{
		FS:          syncFS{c.fs, c.sync},
		Logger:      slog.New(slog.DiscardHandler),
		DedupWindow: c.window,
	})
}

// check opens what the last crash left and compares it with what was known.
func (c *crasher) check(ctx context.Context) error {
	db, err := c.open()
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	return errors.Join(c.compare(ctx, db), db.Close())
}

func (c *crasher) compare(ctx context.Context, db *pebble.DB) error {
	var log []oracle.Message
	for s, err := range db.Streams(ctx, "") {
		if err != nil {
			return err
		}
		for q := (backend.Query{Stream: s}); ; {
			page, err := db.Read(ctx, q)
			if err != nil {
				return err
			}
			for _, m := range page.Messages {
				log = append(log, oracle.Of(m))
			}
			if q.After = page.Next; !page.More {
				break
			}
		}
	}
	return errors.Join(oracle.Lost(c.acked, log), oracle.Order(log), oracle.Unstable(log, c.acked, c.shown), oracle.Repeated(c.acked, log))
}

// cycle opens what the last crash left, checks it, loads it and crashes.
func (c *crasher) cycle(parent context.Context) error {
	db, err := c.open()
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if err := c.compare(parent, db); err != nil {
		return errors.Join(err, db.Close())
	}
	ctx, stop := context.WithCancel(parent)
	defer stop()
	var load sync.WaitGroup
	ledger := &oracle.Ledger{}
	again := c.pick(40)
	failed := make(chan error, 8)
	for w := range 4 {
		r := rand.New(rand.NewPCG(c.rand.Uint64(), uint64(w)))
		p := &publisher{crasher: c, rand: r, name: fmt.Sprintf("%d-%d", c.cycles, w), again: again}
		load.Go(func() {
			if err := p.run(ctx, db, ledger); err != nil {
				failed <- err
			}
		})
	}
	traces := map[parley.Stream]*oracle.Ledger{"a": {}, "b": {}}
	for s, trace := range traces {
		load.Go(func() {
			if err := read(ctx, db, s, trace); err != nil {
				failed <- err
			}
		})
	}
	moment := time.NewTimer(time.Duration(c.rand.IntN(6000)) * time.Microsecond)
	<-moment.C
	// What was told before this instant counts; what is told until the load has
	// stopped was told by a server that the crash has already ended.
	c.acked = append(c.acked, ledger.Acked()...)
	for _, trace := range traces {
		c.shown = append(c.shown, trace.Shown()...)
	}
	crashed := c.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: c.rand.IntN(101), RNG: c.rand})
	stop()
	load.Wait()
	close(failed)
	err = errors.Join(<-failed, gapless(parent, db, traces), db.Close())
	c.fs = crashed
	c.cycles++
	return err
}

// pick chooses publishes with a key to send again.
func (c *crasher) pick(n int) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ids []string
	for range min(n, len(c.sent)) {
		ids = append(ids, c.sent[c.rand.IntN(len(c.sent))])
	}
	return ids
}

// entry is a publish as its id says, so that it can be repeated from the id.
func entry(id string) backend.Entry {
	sum := oracle.SumOf("", "", []byte(id))
	m := &parley.Message{
		Topic: []parley.Topic{"/a", "/a/x", "/b/x/y", "/b", "/c"}[sum[0]%5],
		ID:    id,
		Body:  []byte(strings.Repeat(id+" ", int(sum[1]))),
	}
	if strings.HasPrefix(id, "key") {
		return backend.Entry{Message: m, Key: "producer/" + id}
	}
	return backend.Entry{Message: m}
}

// publisher appends batches of its own and some of an earlier life.
type publisher struct {
	*crasher
	rand  *rand.Rand
	name  string
	again []string
}

// run publishes until ctx ends.
func (p *publisher) run(ctx context.Context, db *pebble.DB, ledger *oracle.Ledger) error {
	for n := 0; ctx.Err() == nil; n++ {
		list := p.batch(n)
		results, err := db.Append(ctx, list)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		for i, got := range results {
			m := list[i].Message
			if got.Err != nil {
				return fmt.Errorf("append %s: %w", m.ID, got.Err)
			}
			ledger.Ack(oracle.Message{Stream: m.Topic.Stream(), Seq: got.Seq, ID: m.ID, Sum: oracle.SumOf(m.Topic, m.Header, m.Body)})
		}
	}
	return nil
}

func (p *publisher) batch(n int) []backend.Entry {
	var list []backend.Entry
	for i := range 1 + p.rand.IntN(5) {
		id := fmt.Sprintf("%s-%d-%d", p.name, n, i)
		switch p.rand.IntN(4) {
		case 0, 1:
			if len(p.again) > 0 {
				id, p.again = p.again[0], p.again[1:]
			}
		case 2:
			id = "key" + id
			p.mu.Lock()
			p.sent = append(p.sent, id)
			p.mu.Unlock()
		}
		list = append(list, entry(id))
	}
	return list
}

// read follows a stream from its beginning until ctx ends.
func read(ctx context.Context, db *pebble.DB, s parley.Stream, trace *oracle.Ledger) error {
	q := backend.Query{Stream: s, Limit: 50}
	for ctx.Err() == nil {
		page, err := db.Read(ctx, q)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		for _, m := range page.Messages {
			trace.Show(oracle.Of(m))
		}
		if q.After = page.Next; len(page.Messages) == 0 {
			select { // Leave the processor to the publishers.
			case <-ctx.Done():
			case <-time.After(50 * time.Microsecond):
			}
		}
	}
	return nil
}

// gapless checks R4 on what each reader was shown in this life.
func gapless(ctx context.Context, db *pebble.DB, traces map[parley.Stream]*oracle.Ledger) error {
	var faults []error
	for s, trace := range traces {
		whole := &oracle.Ledger{}
		for q := (backend.Query{Stream: s}); ; {
			page, err := db.Read(ctx, q)
			if err != nil {
				return err
			}
			for _, m := range page.Messages {
				whole.Show(oracle.Of(m))
			}
			if q.After = page.Next; !page.More {
				break
			}
		}
		faults = append(faults, oracle.Broken(whole.Shown(), 0, trace.Shown()))
	}
	return errors.Join(faults...)
}
