package pebble_test

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend/pebble"
)

// goldenCopy is a copy of the golden store.
func goldenCopy(t *testing.T) string {
	t.Helper()
	return filepath.Join(copied(t, "testdata/golden-v1/store"), "store")
}

func check(t *testing.T, dir string) pebble.Report {
	t.Helper()
	r, err := pebble.Check(t.Context(), dir, pebble.CheckOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A sound store is sound, is counted, and is not changed by a check.
func TestCheckOfASoundStore(t *testing.T) {
	t.Parallel()
	dir := goldenCopy(t)
	before := sums(t, dir)
	r := check(t, dir)
	if !r.Sound() || len(r.Notes) > 0 {
		t.Errorf("faults %v, notes %v", r.Faults, r.Notes)
	}
	if r.Messages != 62 || r.Streams != 6 || r.Records != 8 || r.Keys != 24 || r.Format != 1 {
		t.Errorf("it counts %+v", r)
	}
	if after := sums(t, dir); after != before {
		t.Errorf("the check changed the store from\n%s to\n%s", before, after)
	}
}

// sums is what the files of a directory hold.
func sums(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		p, err := os.ReadFile(path)
		fmt.Fprintf(&out, "%s %x\n", path, sha256.Sum256(p))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	dir := goldenCopy(t)
	db := mustOpen(t, dir, goldenOptions())
	if _, err := pebble.Check(t.Context(), dir, pebble.CheckOptions{}); !errors.Is(err, parley.ErrUnavailable) {
		t.Errorf("a store in use: %v", err)
	}
	mustClose(t, db)
	for _, dir := range []string{t.TempDir(), filepath.Join(dir, "nothing"), filepath.Join(dir, "mark")} {
		if _, err := pebble.Check(t.Context(), dir, pebble.CheckOptions{}); !errors.Is(err, parley.ErrNotFound) {
			t.Errorf("no store: %v", err)
		}
	}
}

// TestCheckNamesWhatIsWrong plants one fault after the other into a store, as a
// fault of the program would, and reads what the check says.
func TestCheckNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	seq := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	alter := func(prefix string, change func([]byte) []byte) func(*pebble.DB) error {
		return func(db *pebble.DB) error {
			key, value, err := db.FirstKey(prefix)
			if err != nil {
				return err
			}
			return db.SetKey(key, change(value))
		}
	}
	remove := func(prefix string) func(*pebble.DB) error {
		return func(db *pebble.DB) error {
			key, _, err := db.FirstKey(prefix)
			if err != nil {
				return err
			}
			return db.DeleteKey(key)
		}
	}
	for _, tt := range []struct {
		name  string
		plant func(*pebble.DB) error
		want  string
	}{
		{"a block with another count", alter("borders\x00", func(v []byte) []byte { v[2]++; return v }), "stream orders, seq"},
		{"a block of noise", alter("bbytes\x00", func([]byte) []byte { return []byte("noise") }), "stream bytes, seq"},
		{"a block cut short", alter("bbytes\x00", func(v []byte) []byte { return v[:len(v)-1] }), "stored block is damaged"},
		{"a missing block", remove("borders\x00"), "points to messages that are not there"},
		{"a missing posting", remove("torders\x00/eu/42\x00"), "the index of topic /orders/eu/42 does not have these messages"},
		{"another posting", alter("torders\x00/eu\x00", func(v []byte) []byte { v[1]++; return v }), "the index of topic /orders/eu is about other messages"},
		{"a posting too many", func(db *pebble.DB) error {
			return db.SetKey("torders\x00/none\x00"+string(seq(5)), []byte{0, 0})
		}, "the index of topic /orders/none points to messages that are not there"},
		{"overlapping blocks", func(db *pebble.DB) error {
			key, value, err := db.FirstKey("bplain\x00")
			if err != nil {
				return err
			}
			second, value2, err := db.FirstKey(key + "\x00")
			if err != nil {
				return err
			}
			n := binary.BigEndian.Uint64([]byte(second[len(second)-8:]))
			_ = value
			return db.SetKey(second[:len(second)-8]+string(seq(n+1)), value2)
		}, "overlap with those before them"},
		{"a floor beyond the end", func(db *pebble.DB) error { return db.SetKey("forders", seq(1<<52)) }, "its floor is beyond the store's last seq"},
		{"a floor of noise", func(db *pebble.DB) error { return db.SetKey("forders", []byte("x")) }, "its floor"},
		{"a floor above messages", func(db *pebble.DB) error {
			_, last, err := db.Bounds(t.Context(), "orders")
			return errors.Join(err, db.SetKey("forders", seq(uint64(last))))
		}, "were removed"},
		{"a missing idempotency key", remove("i"), "is missing"},
		{"a forgotten window", remove("w"), "to be forgotten one day"},
		{"an idempotency key of noise", alter("i", func([]byte) []byte { return []byte("x") }), "idempotency key"},
		{"a record of noise", alter("kcursor/", func([]byte) []byte { return []byte("x") }), `record "cursor/0"`},
		{"a record from the future", alter("kcursor/", func(v []byte) []byte { copy(v, seq(1<<52)); return v }), "beyond the store's last"},
		{"a key that means nothing", func(db *pebble.DB) error { return db.SetKey("zero", nil) }, `a key that means nothing: "zero"`},
		{"another meta key", func(db *pebble.DB) error { return db.SetKey("mwhat", nil) }, `the store's "what" means nothing`},
		{"no format", func(db *pebble.DB) error { return db.DeleteKey("mformat") }, "the format version cannot be read"},
		{"a newer format", func(db *pebble.DB) error { return db.SetKey("mformat", []byte{99}) }, "has format version 99"},
		{"no last seq", func(db *pebble.DB) error { return db.DeleteKey("mlast") }, "the last seq cannot be read"},
		{"an older last seq", alter("mlast", func(v []byte) []byte { copy(v, seq(7)); return v }), "messages are lost"},
		{"a name that is none", func(db *pebble.DB) error {
			_, value, err := db.FirstKey("bplain\x00")
			return errors.Join(err, db.SetKey("bin valid\x00"+string(seq(1<<50)), value))
		}, "no name of a stream"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := goldenCopy(t)
			db := mustOpen(t, dir, goldenOptions())
			if err := tt.plant(db); err != nil {
				t.Fatal(err)
			}
			mustClose(t, db)
			r := check(t, dir)
			var said []string
			for _, f := range r.Faults {
				said = append(said, f.String())
				if f.Advice == "" {
					t.Errorf("no advice for %v", f)
				}
			}
			if !strings.Contains(strings.Join(said, "\n"), tt.want) {
				t.Errorf("the check says %q, want %q", said, tt.want)
			}
		})
	}
}

// Links to the files of a store are as good as the files, but a check tells of
// those that the store does not make itself, and of what is not the store's.
func TestCheckOfLinks(t *testing.T) {
	t.Parallel()
	dir := goldenCopy(t)
	tables, err := filepath.Glob(filepath.Join(dir, "log", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	away := filepath.Join(t.TempDir(), "table")
	err = errors.Join(
		os.Rename(tables[0], away), os.Symlink(away, tables[0]),
		os.Link(filepath.Join(dir, "mark"), filepath.Join(t.TempDir(), "mark")),
		os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600),
		os.WriteFile(filepath.Join(dir, "log", "core"), nil, 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	r := check(t, dir)
	if !r.Sound() || len(r.Notes) != 3 {
		t.Errorf("faults %v, notes %q", r.Faults, r.Notes)
	}
	db := mustOpen(t, dir, goldenOptions())
	defer mustClose(t, db)
	want, err := os.ReadFile("testdata/golden-v1/contents.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got := contents(t, db); got != string(want) {
		t.Error("a store with links holds something else")
	}
}

// A store that was never used, and one in memory, can be checked.
func TestCheckOfAnEmptyStore(t *testing.T) {
	t.Parallel()
	fsys := vfs.NewMem()
	mustClose(t, mustOpen(t, "s", pebble.Options{FS: fsys}))
	r, err := pebble.Check(t.Context(), "s", pebble.CheckOptions{FS: fsys})
	if err != nil || !r.Sound() {
		t.Errorf("%v %+v", err, r)
	}
}
