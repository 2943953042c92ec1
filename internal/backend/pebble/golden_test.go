package pebble_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/pebble"
)

// goldenTime is when the golden stores were written, by their own clock.
func goldenTime() time.Time { return time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC) }

// TestGolden (R20): each golden directory, as an earlier program left it, is
// opened, has all that its contents.txt says, takes more, and is opened again.
//
// With PARLEY_TEST_GOLDEN=testdata/golden-vN the test makes that directory
// instead; see CONTRIBUTING.
func TestGolden(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv("PARLEY_TEST_GOLDEN"); dir != "" {
		makeGolden(t, dir)
	}
	dirs, err := filepath.Glob("testdata/golden-v*")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("there is no golden directory (%v)", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(filepath.Join(dir, "contents.txt"))
			if err != nil {
				t.Fatal(err)
			}
			store := filepath.Join(t.TempDir(), "store")
			if err := os.CopyFS(store, os.DirFS(filepath.Join(dir, "store"))); err != nil {
				t.Fatal(err)
			}
			for life := range 3 {
				db := mustOpen(t, store, goldenOptions())
				got := contents(t, db)
				if got != string(want) {
					t.Errorf("life %d: the store has\n%s\nwant\n%s", life, got, want)
				}
				repeatKeys(t, db)
				r := appendOne(t, db, backend.Entry{Message: &parley.Message{Topic: "/later/x", Body: []byte("new")}, Key: fmt.Sprint("later", life)})
				if n, err := db.Count(t.Context(), backend.Query{Stream: "later", Topic: "/later/x"}); err != nil || n.Count != life+1 || n.Last != r.Seq {
					t.Errorf("life %d: what is appended later: %+v, %v", life, n, err)
				}
				mustClose(t, db)
			}
		})
	}
}

func goldenOptions() pebble.Options {
	return pebble.Options{Now: func() time.Time { return goldenTime().Add(time.Minute) }}
}

// makeGolden writes a store with everything that the format has. It is in two
// lives, so that part of it is in tables and part in the write-ahead log.
func makeGolden(t *testing.T, dir string) {
	store := filepath.Join(dir, "store")
	if _, err := os.Stat(dir); err == nil {
		t.Fatalf("%s exists: a golden directory is never changed", dir)
	}
	now := goldenTime()
	opt := pebble.Options{Now: func() time.Time { return now }}
	for life := range 2 {
		db := mustOpen(t, store, opt)
		for i, batch := range goldenBatches(life) {
			now = now.Add(time.Duration(i+1) * time.Millisecond)
			if _, err := db.Append(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
		}
		goldenRecords(t, db, life, now)
		if life == 0 {
			_, last, err := db.Bounds(t.Context(), "trimmed")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Trim(t.Context(), "trimmed", backend.Retention{Through: last - 3}); err != nil {
				t.Fatal(err)
			}
			if _, err := db.Trim(t.Context(), "emptied", backend.Retention{Through: parley.MaxSeq - 1}); err != nil {
				t.Fatal(err)
			}
		}
		mustClose(t, db)
	}
	db := mustOpen(t, filepath.Join(copied(t, store), "store"), goldenOptions())
	defer mustClose(t, db)
	if err := os.WriteFile(filepath.Join(dir, "contents.txt"), []byte(contents(t, db)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// copied is a directory that holds a copy of store.
func copied(t *testing.T, store string) string {
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "store"), os.DirFS(store)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// goldenBatches are the commits of one life.
func goldenBatches(life int) [][]backend.Entry {
	name := func(i int) string { return fmt.Sprintf("%d-%d", life, i) }
	plain := func(topic parley.Topic, n int) []backend.Entry {
		var list []backend.Entry
		for i := range n {
			list = append(list, backend.Entry{Message: &parley.Message{Topic: topic, Body: []byte(name(i))}})
		}
		return list
	}
	var rich []backend.Entry
	for i := range 12 {
		m := &parley.Message{
			Topic:  []parley.Topic{"/orders", "/orders/eu", "/orders/eu/42", "/orders/us"}[i%4],
			Sender: parley.Identity{User: "ann", Device: fmt.Sprint("phone", i%2)},
			ID:     name(i),
			Body:   []byte(strings.Repeat(name(i)+" ", 1+20*(i%3))),
		}
		if i%3 == 0 {
			m.Header = `{"a":"b"}`
		}
		if i%4 == 1 {
			m.Expires = goldenTime().Add(time.Duration(i) * time.Hour)
		}
		if i%4 == 2 {
			m.Expires = goldenTime().Add(time.Second) // it has expired when the store is read
		}
		if i%5 == 0 {
			m.Filters = map[string]string{"region": "eu", "tier": fmt.Sprint(i)}
		}
		rich = append(rich, backend.Entry{Message: m, Key: "ann/" + name(i)})
	}
	bytes := []backend.Entry{
		{Message: &parley.Message{Topic: "/bytes", Body: []byte{0, 0xff, '\n', 0x80}}},
		{Message: &parley.Message{Topic: "/bytes"}},
		{Message: &parley.Message{Topic: "/bytes/ü/日本", Body: []byte(strings.Repeat("compressible ", 1000))}},
	}
	return [][]backend.Entry{
		plain("/plain", 1), append(rich, plain("/plain", 3)...), bytes, plain("/trimmed/a", 8), plain("/emptied", 2-2*life),
		plain("/deep/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15", 2), plain("/$inbox/ann", 2),
	}
}

func goldenRecords(t *testing.T, db *pebble.DB, life int, now time.Time) {
	for _, r := range []backend.Record{
		{Key: fmt.Sprint("cursor/", life), Value: []byte{1, 2, byte(life)}},
		{Key: fmt.Sprint("lease/", life), Value: []byte("held"), Expires: now.Add(24 * time.Hour)},
		{Key: fmt.Sprint("gone/", life), Value: []byte("expired"), Expires: now.Add(time.Millisecond)},
		{Key: fmt.Sprint("empty/", life)},
		{Key: fmt.Sprint("deleted/", life), Value: []byte("x")},
	} {
		rev, err := db.Put(t.Context(), r)
		if err == nil && strings.HasPrefix(r.Key, "deleted/") {
			err = db.Delete(t.Context(), r.Key, rev)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// repeatKeys sends again what had a key: each is known, with its seq.
func repeatKeys(t *testing.T, db *pebble.DB) {
	for life := range 2 {
		for _, e := range goldenBatches(life)[1] {
			if e.Key == "" {
				continue
			}
			m := *e.Message
			if r := appendOne(t, db, e); !r.Duplicate || r.Err != nil {
				t.Errorf("%s is stored again: %+v", e.Key, r)
			}
			m.Body = []byte("another")
			if r := appendOne(t, db, backend.Entry{Message: &m, Key: e.Key}); r.Err == nil {
				t.Errorf("%s is taken for another message: %+v", e.Key, r)
			}
		}
	}
}

// contents is all that a store has but the stream /later, as text, one line
// each.
func contents(t *testing.T, db *pebble.DB) string {
	text, err := dump(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func dump(ctx context.Context, db *pebble.DB) (string, error) {
	var out strings.Builder
	streams := []parley.Stream{"emptied"}
	for s, err := range db.Streams(ctx, "") {
		if err != nil {
			return "", err
		}
		if s != "later" {
			streams = append(streams, s)
		}
	}
	for _, s := range streams {
		floor, last, err := db.Bounds(ctx, s)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "stream %s floor %d last %d\n", s, floor, last)
		topics := map[parley.Topic]bool{s.Topic(): true}
		for _, m := range mustRead(ctx, db, s, &err) {
			out.WriteString("  " + messageLine(m) + "\n")
			for p := m.Topic; p != s.Topic(); p = p[:strings.LastIndexByte(string(p), '/')] {
				if !topics[p] {
					topics[p] = true
					span, err := db.Count(ctx, backend.Query{Stream: s, Topic: p})
					fmt.Fprintf(&out, "  topic %s: %+v %v\n", p, span, err)
				}
			}
		}
		if err != nil {
			return "", err
		}
	}
	for r, err := range db.Scan(ctx, "") {
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "record %q %q rev %d expires %d\n", r.Key, r.Value, r.Rev, r.Expires.UnixMicro())
	}
	return out.String(), nil
}

// messageLine is all that a message has.
func messageLine(m *parley.Message) string {
	body := fmt.Sprintf("%q", m.Body)
	if len(m.Body) > 100 {
		body = fmt.Sprintf("%d bytes sha256 %x", len(m.Body), sha256.Sum256(m.Body))
	}
	expires := int64(0)
	if !m.Expires.IsZero() {
		expires = m.Expires.UnixMicro()
	}
	return fmt.Sprintf("%d %s time %d expires %d id %q sender %q header %q filters %q body %s",
		m.Seq, m.Topic, m.Time.UnixMicro(), expires, m.ID, []string{m.Sender.User, m.Sender.Device}, m.Header, m.Filters, body)
}

// mustRead reads a whole stream, page by page.
func mustRead(ctx context.Context, db *pebble.DB, s parley.Stream, failed *error) []*parley.Message {
	var all []*parley.Message
	for q := (backend.Query{Stream: s, Limit: 5}); ; {
		page, err := db.Read(ctx, q)
		if err != nil {
			*failed = err
			return nil
		}
		all = append(all, page.Messages...)
		if q.After = page.Next; !page.More {
			return all
		}
	}
}
