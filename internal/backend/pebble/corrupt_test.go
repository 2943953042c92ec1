package pebble_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/pebble"
)

// files is a store as bytes, by path below it.
type files map[string][]byte

func takeFiles(t *testing.T, fsys vfs.FS) files {
	t.Helper()
	all := files{}
	for _, dir := range []string{"", "log"} {
		names, err := fsys.List(path.Join("s", dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			name = path.Join(dir, name)
			if info, err := fsys.Stat(path.Join("s", name)); err != nil || info.IsDir() {
				continue
			}
			f, err := fsys.Open(path.Join("s", name))
			if err != nil {
				t.Fatal(err)
			}
			if all[name], err = io.ReadAll(f); err != nil {
				t.Fatal(err)
			}
			_ = f.Close()
		}
	}
	return all
}

// put makes a file system that holds them.
func (f files) put() (vfs.FS, error) {
	fsys := vfs.NewMem()
	if err := fsys.MkdirAll("s/log", 0o700); err != nil {
		return nil, err
	}
	for name, p := range f {
		w, err := fsys.Create(path.Join("s", name), vfs.WriteCategoryUnspecified)
		if err != nil {
			return nil, err
		}
		// Under the race detector the file system spoils what it was given.
		if _, err := w.Write(bytes.Clone(p)); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
	}
	return fsys, nil
}

// kindOf is what a file is for.
func kindOf(name string) string {
	base := path.Base(name)
	switch {
	case strings.HasSuffix(base, ".sst"):
		return "table"
	case strings.HasSuffix(base, ".log"):
		return "WAL"
	case strings.HasPrefix(base, "marker.manifest"):
		return "manifest marker"
	case strings.HasPrefix(base, "marker."):
		return "format marker"
	}
	kind, _, _ := strings.Cut(base, "-")
	return kind
}

// corrupted is a store that was built in steps, and what its files were after
// each.
type corrupted struct {
	final  files
	before []files // earlier states, the oldest first
	want   string
}

// buildStore makes a store with tables on two levels, two of them of one size,
// and a live write-ahead log. Stores of another salt differ in what they hold,
// and in nothing else.
func buildStore(t *testing.T, salt string) corrupted {
	t.Helper()
	var fsys vfs.FS = vfs.NewMem()
	// Two stores never begin in the same microsecond.
	now := time.Date(2026, 11, 28, 12, 0, 0, 1000*int(salt[0]), time.UTC)
	opt := sweepOptions(fsys)
	opt.Now = func() time.Time { now = now.Add(time.Millisecond); return now }
	var c corrupted
	db := mustOpen(t, "s", opt)
	fill := func(step int) {
		for i := range 4 {
			var batch []backend.Entry
			for n := range 12 {
				m := &parley.Message{
					Topic: parley.Topic(fmt.Sprintf("/s%d/t%d/u", (i+step)%3, n%4)),
					ID:    fmt.Sprint(step, i, n),
					Body:  noise(fmt.Sprint(salt, step, i, n), 50),
				}
				batch = append(batch, backend.Entry{Message: m, Key: salt + m.ID})
			}
			if _, err := db.Append(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := db.Put(t.Context(), backend.Record{Key: fmt.Sprint("record", step), Value: []byte(salt)}); err != nil {
			t.Fatal(err)
		}
	}
	step := func(n int, then func(context.Context) error) {
		fill(n)
		if err := then(t.Context()); err != nil {
			t.Fatal(err)
		}
		db.WriteMark()
		c.before = append(c.before, takeFiles(t, fsys))
	}
	flush := func(context.Context) error { return db.Flush() }
	step(0, flush)
	step(1, db.Compact)
	mustClose(t, db)
	db = mustOpen(t, "s", opt)
	step(2, flush)
	step(3, flush)
	step(4, func(ctx context.Context) error {
		_, last, err := db.Bounds(ctx, "s1")
		if err == nil {
			_, err = db.Trim(ctx, "s1", backend.Retention{Through: last - 30})
		}
		return err
	})
	fill(5)
	levels, err := db.Levels()
	if err != nil {
		t.Fatal(err)
	}
	if levels[0] < 2 || levels[6] < 1 {
		t.Fatalf("the store has %v tables on its levels", levels)
	}
	mustClose(t, db)
	c.final = takeFiles(t, fsys)
	if fsys, err = c.final.put(); err != nil {
		t.Fatal(err)
	}
	if c.want, err = c.final.read(t.Context(), fsys, mustReader); err != nil {
		t.Fatal(err)
	}
	return c
}

func noise(seed string, n int) []byte {
	r := rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%-32s", seed))))
	p := make([]byte, n)
	_, _ = r.Read(p)
	return p
}

func sweepOptions(fsys vfs.FS) pebble.Options {
	opt := pebble.Options{
		FS: fsys, Logger: slog.New(slog.DiscardHandler), Fatal: func(string) {},
		Now: func() time.Time { return time.Date(2026, 11, 28, 13, 0, 0, 0, time.UTC) },
	}
	return opt.SmallBlocks()
}

// reading is how a sweep reads an open store.
type reading func(ctx context.Context, db *pebble.DB) (string, error)

// mustReader reads everything in every way there is, and stops at an error.
func mustReader(ctx context.Context, db *pebble.DB) (string, error) {
	text, err := dump(ctx, db)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	out.WriteString(text)
	for s := range 3 {
		for n := range 4 {
			topic := parley.Topic(fmt.Sprintf("/s%d/t%d", s, n))
			for q := (backend.Query{Stream: topic.Stream(), Topic: topic}); ; {
				page, err := db.Read(ctx, q)
				if err != nil {
					return "", err
				}
				for _, m := range page.Messages {
					fmt.Fprintf(&out, "%s %d\n", topic, m.Seq)
				}
				if q.After = page.Next; !page.More {
					break
				}
			}
		}
	}
	return out.String(), nil
}

// read opens the store and reads it.
func (f files) read(ctx context.Context, fsys vfs.FS, how reading) (text string, err error) {
	db, err := pebble.Open("s", sweepOptions(fsys))
	if err != nil {
		return "", fmt.Errorf("%w: %w", errRefused, err)
	}
	text, err = how(ctx, db)
	return text, errors.Join(err, db.Close())
}

var errRefused = errors.New("refused")

// variant is one way to damage a store.
type variant struct {
	name  string
	kind  string
	apply func(files)
}

// alter replaces a file.
func alter(what, name string, p []byte) variant {
	return variant{what + " " + name, kindOf(name), func(f files) { f[name] = p }}
}

// variants are the ways to damage c, of which other is another store. Density 1
// tries every byte.
func (c *corrupted) variants(r *rand.Rand, other *corrupted, density int) []variant {
	var list []variant
	for _, name := range slices.Sorted(maps.Keys(c.final)) {
		p := c.final[name]
		list = append(list, variant{"delete " + name, kindOf(name), func(f files) { delete(f, name) }})
		for _, at := range offsets(r, len(p), density) {
			q := bytes.Clone(p)
			q[at] ^= 1 << r.IntN(8)
			list = append(list, alter(fmt.Sprint("flip a bit at ", at, " of"), name, q))
		}
		for _, size := range append(offsets(r, len(p), 8*density), len(p)/2) {
			if size < len(p) {
				list = append(list, alter(fmt.Sprint("truncate to ", size), name, p[:size]))
			}
		}
		for _, at := range offsets(r, len(p), 16*density) {
			q := bytes.Clone(p)
			clear(q[at:min(len(q), at+4096)])
			if !bytes.Equal(p, q) {
				list = append(list, alter(fmt.Sprint("zero 4 KiB at ", at, " of"), name, q))
			}
		}
		for another, q := range c.final {
			if another > name && kindOf(another) == kindOf(name) {
				list = append(list, variant{"swap " + name + " and " + another, kindOf(name), func(f files) { f[name], f[another] = q, p }})
			}
		}
		for another, q := range other.final {
			if kindOf(another) == kindOf(name) && !bytes.Equal(p, q) {
				list = append(list, alter("another store's "+another+" as", name, q))
			}
		}
		for n, old := range c.before {
			if q, ok := old[name]; ok && !bytes.Equal(p, q) {
				list = append(list, alter(fmt.Sprint("state ", n, " of"), name, q))
			}
		}
	}
	return append(list, c.wholeVariants(other)...)
}

// wholeVariants concern more than one file.
func (c *corrupted) wholeVariants(other *corrupted) []variant {
	var list []variant
	for name, p := range other.final {
		if kindOf(name) == "WAL" {
			for _, as := range []string{"log/000001.log", "log/900000.log"} {
				list = append(list, alter("another store's "+name+" beside, as", as, p))
			}
		}
	}
	for n, old := range c.before {
		list = append(list,
			variant{fmt.Sprint("state ", n, " of the database"), "all", func(f files) {
				maps.DeleteFunc(f, func(name string, _ []byte) bool { return strings.HasPrefix(name, "log/") })
				for name, p := range old {
					if name != "mark" {
						f[name] = p
					}
				}
			}},
			variant{fmt.Sprint("state ", n, " of manifest and marker"), "all", func(f files) {
				maps.DeleteFunc(f, func(name string, _ []byte) bool { return strings.Contains(strings.ToLower(kindOf(name)), "manifest") })
				for name, p := range old {
					if strings.Contains(strings.ToLower(kindOf(name)), "manifest") {
						f[name] = p
					}
				}
			}},
		)
	}
	list = append(list,
		variant{"another store's database", "all", func(f files) {
			maps.DeleteFunc(f, func(name string, _ []byte) bool { return strings.HasPrefix(name, "log/") })
			for name, p := range other.final {
				if name != "mark" {
					f[name] = p
				}
			}
		}},
		variant{"no database", "all", func(f files) {
			maps.DeleteFunc(f, func(name string, _ []byte) bool { return strings.HasPrefix(name, "log/") })
		}},
		variant{"no manifests and no mark", "all", func(f files) {
			maps.DeleteFunc(f, func(name string, _ []byte) bool { return kindOf(name) != "table" })
		}},
	)
	return list
}

// offsets are places in a file of size bytes: its ends, its middle, the edges of
// blocks, and one in density of the others.
func offsets(r *rand.Rand, size, density int) []int {
	places := map[int]bool{}
	add := func(at int) {
		if at >= 0 && at < size {
			places[at] = true
		}
	}
	for _, at := range []int{0, 1, 4, 7, 8, 11, 16, size / 2, size - 1, size - 2, size - 9, size - 17, size - 53} {
		add(at)
	}
	for edge := 4096; edge < size; edge += 4096 {
		add(edge - 1)
		add(edge)
	}
	for range size / density {
		add(r.IntN(size))
	}
	if density == 1 {
		for at := range size {
			add(at)
		}
	}
	return slices.Sorted(maps.Keys(places))
}

// outcome counts what became of the variants of one kind of file.
type outcome struct{ variants, refused, failed, same int }

// TestCorruption (R12) damages every kind of file of a store in every way, and
// opens and reads each: the damage is reported, or everything is as it was. What
// is reported then, the check of the closed store reports too, and a store that
// is refused keeps what could be rescued. PARLEY_SOAK=1 tries every byte.
func TestCorruption(t *testing.T) {
	t.Parallel()
	c, other := buildStore(t, "a"), buildStore(t, "b")
	density := 997
	if os.Getenv("PARLEY_SOAK") == "1" {
		density = 1
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	kinds := map[string]*outcome{}
	total := 0
	r := rand.New(rand.NewPCG(seed, 0))
	list := c.variants(r, &other, density)
	if testing.Short() { // a sample
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		list = list[:60]
	}
	for _, v := range list {
		o := kinds[v.kind]
		if o == nil {
			o = &outcome{}
			kinds[v.kind] = o
		}
		total++
		if err := c.try(t.Context(), v, o, mustReader); err != nil {
			t.Error(err)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		t.Logf("%-16s %+v", kind, *kinds[kind])
	}
	t.Logf("%d variants", total)
	if total < 60 {
		t.Errorf("only %d variants: this run shows nothing", total)
	}
}

// TestCorruptionIsNoticed: the same sweep finds a reader that takes an error for
// the end of the log, and one that leaves out a block.
func TestCorruptionIsNoticed(t *testing.T) {
	t.Parallel()
	c := buildStore(t, "a")
	var table variant
	for _, name := range slices.Sorted(maps.Keys(c.final)) {
		if kindOf(name) == "table" {
			p := bytes.Clone(c.final[name])
			p[len(p)/3] ^= 1
			table = alter("flip a bit of", name, p)
		}
	}
	whole := variant{"nothing", "none", func(files) {}}
	for _, tt := range []struct {
		name    string
		variant variant
		how     reading
	}{
		{"ignores errors", table, func(ctx context.Context, db *pebble.DB) (string, error) {
			text, _ := mustReader(ctx, db)
			return text, nil
		}},
		{"leaves out a block", whole, func(ctx context.Context, db *pebble.DB) (string, error) {
			key, _, err := db.FirstKey("bs1\x00")
			if err := errors.Join(err, db.DeleteKey(key)); err != nil {
				return "", err
			}
			text, err := dump(ctx, db)
			return text, err
		}},
	} {
		if err := c.try(t.Context(), tt.variant, &outcome{}, tt.how); err == nil || !strings.Contains(err.Error(), "silent") {
			t.Errorf("a reader that %s: %v", tt.name, err)
		}
	}
}

// try damages the store and says what went unnoticed.
func (c *corrupted) try(ctx context.Context, v variant, o *outcome, how reading) error {
	f := maps.Clone(c.final)
	v.apply(f)
	o.variants++
	fsys, err := f.put()
	if err != nil {
		return err
	}
	report, checkErr := pebble.Check(ctx, "s", pebble.CheckOptions{FS: fsys})
	got, err := f.read(ctx, fsys, how)
	switch {
	case err == nil && got == c.want:
		o.same++
		return nil
	case err == nil:
		return fmt.Errorf("silent: %s: %s", v.name, firstDifference(got, c.want))
	case errors.Is(err, errRefused):
		o.refused++
		if lost := f.lost(fsys); lost != nil {
			return fmt.Errorf("%s: refused (%w), but %w", v.name, err, lost)
		}
	default:
		o.failed++
	}
	if checkErr == nil && report.Sound() {
		return fmt.Errorf("unchecked: %s: it is %w when it is opened, but the check finds nothing", v.name, err)
	}
	return nil
}

// lost says which of the files that hold messages is gone or changed.
func (f files) lost(fsys vfs.FS) error {
	for name, want := range f {
		if kind := kindOf(name); kind != "table" && kind != "WAL" && kind != "MANIFEST" {
			continue
		}
		file, err := fsys.Open(path.Join("s", name))
		if err != nil {
			return err
		}
		got, err := io.ReadAll(file)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s was changed", name)
		}
	}
	return nil
}

func firstDifference(got, want string) string {
	g := strings.Split(got, "\n")
	for i, line := range strings.Split(want, "\n") {
		if i >= len(g) || g[i] != line {
			return fmt.Sprintf("line %d is %.80q, want %.80q", i, append(g, "nothing")[min(i, len(g))], line)
		}
	}
	return "there is more than there was"
}
