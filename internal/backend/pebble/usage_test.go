package pebble_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/pebble"
)

// sent is a message of a user.
func sent(user string, topic parley.Topic, size int) *parley.Message {
	return &parley.Message{Topic: topic, Sender: parley.Identity{User: user}, Body: []byte(strings.Repeat("x", size))}
}

func mustMeter(t *testing.T, db *pebble.DB) {
	t.Helper()
	if err := db.StartMetering(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func mustUse(t *testing.T, db *pebble.DB, user string, want int64) {
	t.Helper()
	if got, err := db.Used(t.Context(), user); err != nil || got != want {
		t.Errorf("%s uses %d (%v), want %d", user, got, err, want)
	}
}

// TestQuota: what is too much is refused with what goes along, what was stored is
// answered as it was, and what is removed makes room.
func TestQuota(t *testing.T) {
	t.Parallel()
	db := mustOpen(t, "s", pebble.Options{Memory: true})
	defer func() { mustClose(t, db) }()
	one := func(body string) *parley.Message { return sent("ann", "/$inbox/bob/ann", len(body)) }
	size := int64(one("12345").Size())
	first := backend.Entry{Message: one("12345"), Key: "first", Quota: 4 * size}
	again := backend.Entry{Message: one("12345"), Key: "first", Quota: 1}
	more := func() []backend.Entry {
		return []backend.Entry{
			{Message: one("12345"), Key: "second", Quota: 3*size - 1},
			{Message: one("12345"), Along: true},
			{Message: sent("bob", "/x", 5), Quota: 1 << 20},
		}
	}
	appendAll := func(list ...backend.Entry) []backend.Result {
		t.Helper()
		results, err := db.Append(t.Context(), list)
		if err != nil {
			t.Fatal(err)
		}
		return results
	}
	seq := appendAll(first)[0].Seq
	mustUse(t, db, "ann", 0) // nobody counts yet
	mustMeter(t, db)
	mustUse(t, db, "ann", size)

	for range 2 {
		results := appendAll(more()...)
		var over *backend.QuotaError
		if err := results[0].Err; !errors.As(err, &over) || !errors.Is(err, parley.ErrUnavailable) || *over != (backend.QuotaError{Used: size, Need: 2 * size, Quota: 3*size - 1}) {
			t.Errorf("over the quota: %v", err)
		}
		if results[1].Err == nil || results[1].Seq != 0 || results[2].Err != nil {
			t.Errorf("along %+v, another user %+v", results[1], results[2])
		}
	}
	mustUse(t, db, "ann", size)
	if r := appendAll(again)[0]; !r.Duplicate || r.Seq != seq || r.Err != nil {
		t.Errorf("what was stored before: %+v, want a duplicate of %d", r, seq)
	}
	again.Message = one("other")
	again.Message.Body = []byte("other")
	if r := appendAll(again)[0]; !errors.Is(r.Err, parley.ErrConflict) {
		t.Errorf("another message of that id: %+v", r)
	}
	list := more()
	list[0].Quota++
	if r := appendAll(list...); r[0].Err != nil || r[1].Err != nil {
		t.Errorf("just enough: %+v", r)
	}
	mustUse(t, db, "ann", 3*size)
	// In one commit it is counted one after the other.
	results := appendAll(
		backend.Entry{Message: one("12345"), Quota: 4 * size},
		backend.Entry{Message: one("12345"), Key: "fifth", Quota: 4 * size},
		backend.Entry{Message: one("12345"), Key: "fifth", Quota: 4 * size},
	)
	if results[0].Err != nil || results[1].Err == nil || results[2].Err == nil {
		t.Errorf("in one commit: %+v", results)
	}
	if _, err := db.Trim(t.Context(), "$inbox/bob", backend.Retention{Through: seq}); err != nil {
		t.Fatal(err)
	}
	mustUse(t, db, "ann", 3*size)
	if _, err := db.Trim(t.Context(), "$inbox/bob", backend.Retention{Through: parley.MaxSeq - 1}); err != nil {
		t.Fatal(err)
	}
	mustUse(t, db, "ann", 0)
	mustUse(t, db, "nobody", 0)
}

// TestForgetUsage: who gets the name of a user who was deleted begins with nothing,
// and is given nothing when what the other one had sent goes.
func TestForgetUsage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/store"
	db := mustOpen(t, dir, pebble.Options{})
	mustMeter(t, db)
	old := backend.Entry{Message: sent("ann", "/$inbox/bob/ann", 10)}
	appendOne(t, db, old)
	if err := db.ForgetUsage(t.Context(), "ann"); err != nil {
		t.Fatal(err)
	}
	mustUse(t, db, "ann", 0)
	mustClose(t, db)
	if r := check(t, dir); !r.Sound() {
		t.Errorf("a deleted user's store: %+v", r)
	}
	db = mustOpen(t, dir, pebble.Options{})
	mustUse(t, db, "ann", 0)
	m := sent("ann", "/x", 10)
	appendOne(t, db, backend.Entry{Message: m})
	if _, err := db.Trim(t.Context(), "$inbox/bob", backend.Retention{Through: old.Message.Seq}); err != nil {
		t.Fatal(err)
	}
	mustUse(t, db, "ann", int64(m.Size()))
	mustClose(t, db)
}

// TestUsageSurvives: the counts are still right after a clean restart, in a
// backup's check, and when a newer start asks for them again.
func TestUsageSurvives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/store"
	db := mustOpen(t, dir, pebble.Options{})
	mustMeter(t, db)
	m := sent("ann", "/x/y", 10)
	appendOne(t, db, backend.Entry{Message: m})
	mustClose(t, db)
	if r := check(t, dir); !r.Sound() || r.Format != 3 {
		t.Errorf("a store with usage: %+v", r)
	}
	db = mustOpen(t, dir, pebble.Options{})
	if on, complete := db.Metering(); !on || !complete {
		t.Errorf("after a restart it counts: %v, all: %v", on, complete)
	}
	mustMeter(t, db)
	mustUse(t, db, "ann", int64(m.Size()))
	key, _, err := db.FirstKey("u")
	if err == nil {
		err = db.SetKey(key, []byte("short"))
	}
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, db)
	if r := check(t, dir); len(r.Faults) != 1 || !strings.Contains(r.Faults[0].Problem, "the usage of user ") {
		t.Errorf("a damaged count: %+v", r)
	}
	db = mustOpen(t, dir, pebble.Options{Logger: slog.New(slog.DiscardHandler)})
	other := sent("bob", "/x/y", 10)
	if _, err := db.Append(t.Context(), []backend.Entry{{Message: other}, {Message: sent("ann", "/x/y", 10), Quota: 1 << 20}}); err != nil {
		t.Errorf("with a damaged count: %v", err)
	}
	if _, err := db.Trim(t.Context(), "x", backend.Retention{Through: other.Seq}); err != nil {
		t.Errorf("with a damaged count: %v", err)
	}
	mustUse(t, db, "ann", 0)
	mustUse(t, db, "bob", 0)
	mustClose(t, db)
}

// TestUsageAfterCrash: the kept counts equal a recount of what is stored after each
// of many crashes under load, while messages come and go and what was stored
// before is still being counted.
func TestUsageAfterCrash(t *testing.T) {
	t.Parallel()
	stores := 12
	if testing.Short() {
		stores = 3
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for n := range stores {
		m := &meterCrasher{rand: rand.New(rand.NewPCG(seed, uint64(n))), fs: vfs.NewCrashableMem()}
		for cycle := range 8 {
			if err := m.cycle(t.Context(), cycle); err != nil {
				t.Fatalf("store %d, cycle %d: %v", n, cycle, err)
			}
		}
	}
}

type meterCrasher struct {
	rand *rand.Rand
	fs   *vfs.MemFS
}

// cycle opens what the last crash left, recounts it, loads it and crashes. In the
// third one counting begins.
func (c *meterCrasher) cycle(parent context.Context, cycle int) error {
	db, err := pebble.Open("store", pebble.Options{
		FS: syncFS{c.fs, slowSync}, Logger: slog.New(slog.DiscardHandler),
		Payer: func(m *parley.Message) string {
			if strings.HasPrefix(string(m.Topic), "/free/") {
				return ""
			}
			return m.Sender.User
		},
	}.CountInSteps(1+c.rand.IntN(5)))
	if err != nil {
		return err
	}
	if on, _ := db.Metering(); on && c.rand.IntN(2) == 0 {
		if err := recounted(parent, db); err != nil {
			return errors.Join(fmt.Errorf("after a crash: %w", err), db.Close())
		}
	}
	ctx, stop := context.WithCancel(parent)
	defer stop()
	var load sync.WaitGroup
	failed := make(chan error, 8)
	run := func(do func(*rand.Rand) error) {
		r := rand.New(rand.NewPCG(c.rand.Uint64(), 1))
		load.Go(func() {
			for ctx.Err() == nil {
				if err := do(r); err != nil && ctx.Err() == nil {
					failed <- err
					return
				}
			}
		})
	}
	for range 3 {
		run(func(r *rand.Rand) error { return appendRandom(ctx, db, r) })
	}
	run(func(r *rand.Rand) error { return trimRandom(ctx, db, r) })
	run(func(r *rand.Rand) error {
		if r.IntN(20) > 0 {
			return trimRandom(ctx, db, r)
		}
		return db.ForgetUsage(ctx, "carol")
	})
	if cycle == 2 {
		if err := db.StartMetering(parent); err != nil {
			return err
		}
	}
	moment := time.NewTimer(time.Duration(c.rand.IntN(8000)) * time.Microsecond)
	<-moment.C
	crashed := c.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: c.rand.IntN(101), RNG: c.rand})
	stop()
	load.Wait()
	close(failed)
	err = <-failed
	if on, _ := db.Metering(); on && err == nil {
		err = recounted(parent, db)
	}
	c.fs = crashed
	return errors.Join(err, db.Close())
}

func appendRandom(ctx context.Context, db *pebble.DB, r *rand.Rand) error {
	var list []backend.Entry
	for range 1 + r.IntN(6) {
		user := []string{"", "ann", "bob", "carol"}[r.IntN(4)]
		topic := []parley.Topic{"/a", "/a/x", "/$inbox/ann/bob", "/$inbox/bob/ann", "/free/x"}[r.IntN(5)]
		e := backend.Entry{Message: sent(user, topic, r.IntN(300))}
		if r.IntN(2) == 0 {
			e.Key = fmt.Sprint(r.IntN(1000))
		}
		if r.IntN(3) == 0 {
			e.Quota = int64(r.IntN(100_000))
		}
		if r.IntN(5) == 0 {
			e.Message.Expires = time.Now().Add(time.Millisecond)
		}
		list = append(list, e)
		if r.IntN(3) == 0 {
			list = append(list, backend.Entry{Message: sent(user, "/$inbox/carol/x", 10), Along: true})
		}
	}
	_, err := db.Append(ctx, list)
	return err
}

func trimRandom(ctx context.Context, db *pebble.DB, r *rand.Rand) error {
	s := []parley.Stream{"a", "$inbox/ann", "$inbox/bob", "$inbox/carol", "free"}[r.IntN(5)]
	keep := backend.Retention{Messages: 1 + r.IntN(100)}
	switch r.IntN(3) {
	case 0:
		keep = backend.Retention{Bytes: 1 + int64(r.IntN(50_000))}
	case 1:
		keep = backend.Retention{Before: time.Now().Add(-time.Duration(r.IntN(3000)) * time.Microsecond)}
	}
	_, err := db.Trim(ctx, s, keep)
	return err
}

// recounted compares what is kept with what is there.
func recounted(ctx context.Context, db *pebble.DB) error {
	if err := db.FinishCounting(ctx); err != nil {
		return err
	}
	kept, err := db.Counts()
	if err != nil {
		return err
	}
	there, err := db.Recount(ctx)
	if err == nil && !maps.Equal(kept, there) {
		err = fmt.Errorf("the counts are %v, and there are %v", kept, there)
	}
	total := int64(0)
	for _, user := range []string{"ann", "bob", "carol"} {
		n, usedErr := db.Used(ctx, user)
		err = errors.Join(err, usedErr)
		total += n
	}
	for _, n := range kept {
		total -= n
	}
	if err == nil && total != 0 {
		err = fmt.Errorf("what is remembered is %d more than the counts %v", total, kept)
	}
	return err
}

// BenchmarkUsage is what counting costs a commit of 1,000 messages by 4 users.
func BenchmarkUsage(b *testing.B) {
	for _, metered := range []bool{false, true} {
		b.Run(fmt.Sprint("metered=", metered), func(b *testing.B) {
			db, err := pebble.Open("s", pebble.Options{Memory: true})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			quota := int64(0)
			if metered {
				quota = 1 << 50
				if err := db.StartMetering(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			list := make([]backend.Entry, 1000)
			for b.Loop() {
				for i := range list {
					user := []string{"ann", "bob", "carol", "dan"}[i%4]
					list[i] = backend.Entry{Message: sent(user, parley.Topic("/$inbox/"+user+"/x"), 100), Quota: quota}
				}
				if _, err := db.Append(b.Context(), list); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
