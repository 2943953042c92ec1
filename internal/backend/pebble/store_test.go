package pebble_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/pebble"
)

func newEntry(body string) backend.Entry {
	return backend.Entry{Message: &parley.Message{Topic: "/a", Body: []byte(body)}}
}

func appendOne(t *testing.T, db *pebble.DB, e backend.Entry) backend.Result {
	t.Helper()
	r, err := db.Append(t.Context(), []backend.Entry{e})
	if err != nil {
		t.Fatal(err)
	}
	return r[0]
}

func mustOpen(t *testing.T, dir string, opt pebble.Options) *pebble.DB {
	t.Helper()
	db, err := pebble.Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func mustClose(t *testing.T, db *pebble.DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// refused opens the store and expects an error that says want.
func refused(t *testing.T, dir string, opt pebble.Options, want string) {
	t.Helper()
	db, err := pebble.Open(dir, opt)
	if err == nil {
		mustClose(t, db)
		t.Fatalf("the store was opened, want an error about %q", want)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("got %q, want it to say %q", err, want)
	}
}

func TestDirectoryIsPrivateAndLocked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "store")
	db := mustOpen(t, dir, pebble.Options{})
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v (%v), want 0700", info.Mode(), err)
	}
	refused(t, dir, pebble.Options{}, "in use by another process")
	mustClose(t, db)
	mustClose(t, mustOpen(t, dir, pebble.Options{}))
}

func TestNewerFormatsAreRefusedByName(t *testing.T) {
	fs := vfs.NewMem()
	db := mustOpen(t, "s", pebble.Options{FS: fs})
	if err := db.SetMeta("format", []byte{4}); err != nil {
		t.Fatal(err)
	}
	mustClose(t, db)
	refused(t, "s", pebble.Options{FS: fs}, "format version 04, this program reads up to 3")

	db = mustOpen(t, "t", pebble.Options{FS: fs})
	appendOne(t, db, newEntry("x"))
	if err := db.SetBlock("b", 1, []byte{2, 0, 1, 0, 0}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Read(t.Context(), backend.Query{Stream: "b"}); err == nil || !strings.Contains(err.Error(), "format 2.0") {
		t.Errorf("reading a newer block: %v", err)
	}
	mustClose(t, db)
}

// What the mark records must be there: a store put back to an earlier state, or
// without its mark, is refused.
func TestLostMessagesAreNoticed(t *testing.T) {
	fs := vfs.NewMem()
	db := mustOpen(t, "s", pebble.Options{FS: fs})
	appendOne(t, db, newEntry("old"))
	mustClose(t, db)
	if ok, err := vfs.Clone(fs, fs, "s/log", "backup"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	db = mustOpen(t, "s", pebble.Options{FS: fs})
	appendOne(t, db, newEntry("new"))
	mustClose(t, db)

	if err := fs.RemoveAll("s/log"); err != nil {
		t.Fatal(err)
	}
	if ok, err := vfs.Clone(fs, fs, "backup", "s/log"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	refused(t, "s", pebble.Options{FS: fs}, "an older manifest than the last one")
	if err := fs.Remove("s/mark"); err != nil {
		t.Fatal(err)
	}
	refused(t, "s", pebble.Options{FS: fs}, "the mark is missing")
}

func TestLostLogIsNoticed(t *testing.T) {
	fs := vfs.NewMem()
	db := mustOpen(t, "s", pebble.Options{FS: fs})
	appendOne(t, db, newEntry("x"))
	mustClose(t, db)
	names, err := fs.List("s/log")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".log") {
			if err := fs.Remove("s/log/" + name); err != nil {
				t.Fatal(err)
			}
		}
	}
	refused(t, "s", pebble.Options{FS: fs}, "has lost messages")
}

func TestDamagedMarkIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	db := mustOpen(t, "s", pebble.Options{FS: fs})
	appendOne(t, db, newEntry("x"))
	mustClose(t, db)
	f, err := fs.OpenReadWrite("s/mark", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{9, 4096 + 9} {
		if _, err := f.WriteAt([]byte{0xff}, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	refused(t, "s", pebble.Options{FS: fs}, "the mark is damaged")
}

// The clock may stand still or go back: seqs still grow, across restarts too,
// and a stream's end is never given twice.
func TestSeqsGrowWhateverTheClockSays(t *testing.T) {
	fs := vfs.NewMem()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	opt := pebble.Options{FS: fs, Now: func() time.Time { return now }}
	var last parley.Seq
	for i := range 10 {
		db := mustOpen(t, "s", opt)
		for range 5 {
			r := appendOne(t, db, newEntry("x"))
			if r.Seq <= last {
				t.Fatalf("seq %d after %d", r.Seq, last)
			}
			last = r.Seq
			now = now.Add(-time.Minute)
		}
		mustClose(t, db)
		if i == 5 {
			now = now.AddDate(1, 0, 0)
		}
	}
}

func TestDedupWindow(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	db := mustOpen(t, "s", pebble.Options{FS: vfs.NewMem(), Now: func() time.Time { return now }, DedupBytes: 100 * 72})
	defer mustClose(t, db)
	keyed := func(key string) backend.Entry {
		e := newEntry("x")
		e.Key = key
		return e
	}
	first := appendOne(t, db, keyed("k"))
	now = now.Add(23 * time.Hour)
	if r := appendOne(t, db, keyed("k")); !r.Duplicate || r.Seq != first.Seq {
		t.Errorf("inside the window: %+v", r)
	}
	now = now.Add(2 * time.Hour)
	second := appendOne(t, db, keyed("k"))
	if second.Duplicate {
		t.Errorf("outside the window: %+v", second)
	}
	if err := db.ForgetKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := appendOne(t, db, keyed("k")); !r.Duplicate || r.Seq != second.Seq {
		t.Errorf("a key that was used again was forgotten with its first use: %+v", r)
	}
	for i := range 200 {
		appendOne(t, db, keyed(fmt.Sprint(i)))
	}
	if err := db.ForgetKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := db.Stats().DedupKeys; n != 100 {
		t.Errorf("%d keys are kept, want 100", n)
	}
	if r := appendOne(t, db, keyed("199")); !r.Duplicate {
		t.Error("the newest key was forgotten")
	}
}

func TestFileInsteadOfDirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pebble.Open(file, pebble.Options{}); err == nil || errors.Is(err, parley.ErrUnavailable) {
		t.Errorf("a file as the store: %v", err)
	}
}

// TestNewestMarkCounts: of two slots with the same seq the one counts that knows
// more of the manifest.
func TestNewestMarkCounts(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	db := mustOpen(t, "s", pebble.Options{FS: fs})
	appendOne(t, db, newEntry("x"))
	db.WriteMark() // into the first slot
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	db.WriteMark()
	if err := db.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	db.WriteMark() // into the first slot again
	mustClose(t, db)
	all := takeFiles(t, fs)
	newest := ""
	for name := range all {
		if strings.HasPrefix(name, "log/MANIFEST-") {
			newest = max(newest, name)
		}
	}
	all[newest] = all[newest][:len(all[newest])-1]
	cut, err := all.put()
	if err != nil {
		t.Fatal(err)
	}
	refused(t, "s", pebble.Options{FS: cut}, "can be read up to byte")
}
