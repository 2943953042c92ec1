package pebble_test

import (
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
	dir, want := killed(t)
	size := logBytes(t, dir)
	began := time.Now()
	db := mustOpen(t, dir, pebble.Options{})
	took := time.Since(began)
	defer mustClose(t, db)
	if _, last, err := db.Bounds(t.Context(), "a"); err != nil || last != want {
		t.Errorf("the last seq is %d (%v), want %d", last, err, want)
	}
	per := took * 100e6 / time.Duration(size)
	t.Logf("%.0f MB of log took %v, which is %v per 100 MB", float64(size)/1e6, took.Round(time.Millisecond), per.Round(time.Millisecond))
	if per > 2*time.Second {
		t.Errorf("%v per 100 MB, want at most 2 s", per)
	}
}

// BenchmarkRecovery reports the milliseconds per 100 MB of log.
func BenchmarkRecovery(b *testing.B) {
	var took time.Duration
	var size int64
	for range b.N {
		dir, _ := killed(b)
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
	b.ReportMetric(took.Seconds()*1e3/(float64(size)/100e6), "ms/100MB")
}

// killed returns a directory as a kill leaves it, with all that was appended in
// the log and nothing in tables, and the last seq.
func killed(tb testing.TB) (dir string, last parley.Seq) {
	tb.Helper()
	from, to := tb.TempDir(), tb.TempDir()
	fs := &tablelessFS{FS: vfs.Default, release: make(chan struct{})}
	db, err := pebble.Open(from, pebble.Options{FS: fs})
	if err != nil {
		tb.Fatal(err)
	}
	fs.hold()
	entries := make([]backend.Entry, 64)
	body := noise(64 << 10)
	for n := 0; n < 46<<20; n += len(body) {
		for i := range entries {
			entries[i] = newEntry(body[i<<10 : (i+1)<<10])
		}
		results, err := db.Append(tb.Context(), entries)
		if err != nil {
			tb.Fatal(err)
		}
		last = results[len(results)-1].Seq
	}
	if ok, err := vfs.Clone(vfs.Default, vfs.Default, from, to); !ok || err != nil {
		tb.Fatal(ok, err)
	}
	close(fs.release)
	if err := db.Close(); err != nil {
		tb.Fatal(err)
	}
	return to, last
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
