package pebble_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/pebble"
)

// TestRecovery opens what a kill left at the worst moment: as much in the log as
// the store lets come together before it waits for its tables. That takes at
// most 2 s per 100 MB (R13), and everything is there.
func TestRecovery(t *testing.T) {
	if testing.Short() {
		t.Skip("measures time")
	}
	var per time.Duration
	for range 3 { // Others may need the processor, too.
		dir, want := killed(t, batches)
		size := logBytes(t, dir)
		began := time.Now()
		db := mustOpen(t, dir, pebble.Options{})
		took := time.Since(began)
		if _, last, err := db.Bounds(t.Context(), "a"); err != nil || last != want {
			t.Errorf("the last seq is %d (%v), want %d", last, err, want)
		}
		mustClose(t, db)
		per = took * 100e6 / time.Duration(size)
		t.Logf("%.0f MB of log took %v, which is %v per 100 MB", float64(size)/1e6, took.Round(time.Millisecond), per.Round(time.Millisecond))
		if per <= 2*time.Second {
			return
		}
	}
	t.Errorf("%v per 100 MB, want at most 2 s", per)
}

// BenchmarkRecovery reports how long the largest log takes, and what that is per
// 100 MB: of batches, and of small messages with ids that were committed one by
// one, where the log is small and the memtables are full of keys.
func BenchmarkRecovery(b *testing.B) {
	for name, load := range map[string]load{"batches": batches, "singles": singles} {
		b.Run(name, func(b *testing.B) {
			var took time.Duration
			var size int64
			for range b.N {
				dir, _ := killed(b, load)
				size += logBytes(b, dir)
				began := time.Now()
				db, err := pebble.Open(dir, pebble.Options{})
				took += time.Since(began)
				if err != nil {
					b.Fatal(err)
				}
				if err := db.Close(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(took.Seconds()*1e3/float64(b.N), "ms/op")
			b.ReportMetric(took.Seconds()*1e3/(float64(size)/100e6), "ms/100MB")
		})
	}
}

// load makes the entries of the n-th commit.
type load func(n int) []backend.Entry

// batches are 64 messages of 1 KiB that do not compress.
func batches(int) []backend.Entry {
	body := random(64 << 10)
	entries := make([]backend.Entry, 64)
	for i := range entries {
		entries[i] = newEntry(body[i<<10 : (i+1)<<10])
	}
	return entries
}

// singles are one message of 32 bytes.
func singles(n int) []backend.Entry {
	e := newEntry("a message of thirty-two bytes...")
	e.Key = fmt.Sprint("producer ", n)
	return []backend.Entry{e}
}

// killed returns a directory as a kill leaves it, with all that was appended in
// the log and nothing in tables, and the last seq.
func killed(tb testing.TB, load load) (dir string, last parley.Seq) {
	tb.Helper()
	dir = tb.TempDir() + "/store"
	fs := &tablelessFS{FS: vfs.NewMem(), release: make(chan struct{})}
	db, err := pebble.Open("store", pebble.Options{FS: fs})
	if err != nil {
		tb.Fatal(err)
	}
	fs.hold()
	// Memtables of 48 MiB are where writes wait.
	for n := 0; db.Stats().MemTableBytes < 44<<20; n++ {
		results, err := db.Append(tb.Context(), load(n))
		if err != nil {
			tb.Fatal(err)
		}
		last = results[len(results)-1].Seq
	}
	if ok, err := vfs.Clone(fs.FS, vfs.Default, "store", dir); !ok || err != nil {
		tb.Fatal(ok, err)
	}
	close(fs.release)
	if err := db.Close(); err != nil {
		tb.Fatal(err)
	}
	return dir, last
}

// tablelessFS lets nobody make a table while it is held.
type tablelessFS struct {
	vfs.FS
	release chan struct{}

	mu   sync.Mutex
	held bool
}

func (fs *tablelessFS) hold() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.held = true
}

func (fs *tablelessFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	fs.mu.Lock()
	held := fs.held && strings.HasSuffix(name, ".sst")
	fs.mu.Unlock()
	if held {
		<-fs.release
	}
	return fs.FS.Create(name, c)
}

func logBytes(tb testing.TB, dir string) int64 {
	tb.Helper()
	entries, err := os.ReadDir(dir + "/log")
	if err != nil {
		tb.Fatal(err)
	}
	size := int64(0)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), ".log") {
			size += info.Size()
		}
	}
	return size
}
