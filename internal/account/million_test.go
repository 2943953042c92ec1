package account_test

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend/pebble"
)

// TestMillionUsers measures what a million users, with a device and a grant each,
// cost on disk and in memory, and how fast they connect. It takes minutes:
//
//	PARLEY_MILLION=1 go test ./internal/account -run MillionUsers -v -timeout 30m
func TestMillionUsers(t *testing.T) {
	if os.Getenv("PARLEY_MILLION") == "" {
		t.Skip("PARLEY_MILLION is not set")
	}
	const users, workers = 1_000_000, 256
	dir := t.TempDir()
	db, err := pebble.Open(dir, pebble.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	w := newWorld(t, db)
	before := heap()
	each := func(n int, do func(i int)) time.Duration {
		began := time.Now()
		var working sync.WaitGroup
		for part := range workers {
			working.Go(func() {
				for i := part; i < n; i += workers {
					do(i)
				}
			})
		}
		working.Wait()
		return time.Since(began)
	}
	name := func(i int) string { return fmt.Sprintf("user%07d", i) }
	took := each(users, func(i int) {
		if _, err := w.Admit(t.Context(), w.token(name(i), "phone", ""), account.Credential{
			Kind: account.Token, DeviceName: "Somebody's phone", Platform: "ios",
		}); err != nil {
			t.Error(err)
		}
	})
	t.Logf("first connections: %.0f/s", users/took.Seconds())
	t.Logf("on disk %.0f MB", float64(size(t, dir))/1e6)
	t.Logf("in memory %.1f MB more than an empty directory, most of it the store's caches", float64(heap()-before)/1e6)
	n, bytes, _ := w.Cached()
	t.Logf("users in memory: %d, of %.1f MB", n, float64(bytes)/1e6)
	took = each(users, func(i int) { w.admit(t, w.token(name(i*7919%users), "phone", "x")) })
	t.Logf("connections at random: %.0f/s", users/took.Seconds())
	began, listed := time.Now(), 0
	for range w.Users(t.Context(), "") {
		listed++
	}
	t.Logf("listing %d takes %v", listed, time.Since(began))
	began = time.Now()
	for range w.Users(t.Context(), name(users/2)) {
		break
	}
	t.Logf("the first after the middle takes %v", time.Since(began))
	for i := range 60_000 {
		w.Left(parley.Identity{User: name(i), Device: "phone"})
	}
	w.pass(2 * time.Minute)
	for i := range 60_000 {
		w.Left(parley.Identity{User: name(i), Device: "phone"})
	}
	began = time.Now()
	w.Flush(t.Context())
	t.Logf("writing when 60,000 devices were seen takes %v", time.Since(began))
	began = time.Now()
	if _, err := account.Open(t.Context(), account.Config{KV: db}); err != nil {
		t.Fatal(err)
	}
	t.Logf("opening takes %v", time.Since(began))
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func size(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			n += info.Size()
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return n
}
