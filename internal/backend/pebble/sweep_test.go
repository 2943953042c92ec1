package pebble_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/pebble"
)

// TestSweepRecords: a record that has expired by the clock is removed, a few at a
// turn; others stay, and one can be made again.
func TestSweepRecords(t *testing.T) {
	start := time.Now()
	now := start
	db := mustOpen(t, "store", pebble.Options{Memory: true, Past: func() time.Time { return now }})
	defer mustClose(t, db)
	revs := map[string]uint64{}
	put := func(key string, rev uint64, expires time.Time) {
		t.Helper()
		var err error
		if revs[key], err = db.Put(t.Context(), backend.Record{Key: key, Value: []byte("x"), Rev: rev, Expires: expires}); err != nil {
			t.Fatal(err)
		}
	}
	stored := func() (n int) {
		t.Helper()
		for i := range 100 {
			key := fmt.Sprintf("k%02d", i)
			if found, _, err := db.FirstKey("k" + key); err != nil {
				t.Fatal(err)
			} else if found == "k"+key {
				n++
			}
		}
		return n
	}
	sweep := func(n, leaves int) {
		t.Helper()
		if err := db.SweepRecords(n); err != nil {
			t.Fatal(err)
		}
		if got := stored(); got != leaves {
			t.Errorf("%d records are stored, want %d", got, leaves)
		}
	}
	for i := range 100 {
		expires := time.Time{}
		if i%2 == 1 {
			expires = start.Add(time.Hour)
		}
		put(fmt.Sprintf("k%02d", i), 0, expires)
	}
	sweep(1000, 100)
	now = start.Add(2 * time.Hour)
	sweep(10, 95)
	put("k51", 0, start.Add(3*time.Hour))
	put("k53", 0, time.Time{})
	sweep(1000, 52)
	put("k51", revs["k51"], start.Add(3*time.Hour))
	put("k99", 0, start.Add(3*time.Hour))
	if _, err := db.Get(t.Context(), "k01"); !errors.Is(err, parley.ErrNotFound) {
		t.Errorf("the first that expired is read as %v", err)
	}
	sweep(1000, 53)
	now = start.Add(4 * time.Hour)
	sweep(1000, 51)
}

// TestSweepWhileOthersWrite: whoever makes a record anew that has expired, keeps
// it.
func TestSweepWhileOthersWrite(t *testing.T) {
	db := mustOpen(t, "store", pebble.Options{Memory: true})
	defer mustClose(t, db)
	const records, rounds = 8, 100
	var writers sync.WaitGroup
	defer writers.Wait()
	for i := range records {
		writers.Go(func() {
			key := fmt.Sprint("k", i)
			for range rounds {
				if _, err := db.Put(t.Context(), backend.Record{Key: key, Expires: time.Now().Add(-time.Hour)}); err != nil {
					t.Error(err)
					return
				}
			}
			rev, err := db.Put(t.Context(), backend.Record{Key: key, Expires: time.Now().Add(time.Hour)})
			if err != nil {
				t.Error(err)
				return
			}
			if r, err := db.Get(t.Context(), key); err != nil || r.Rev != rev {
				t.Errorf("%s is %+v, %v; want revision %d", key, r, err, rev)
			}
		})
	}
	for range 10 * rounds {
		if err := db.SweepRecords(records); err != nil {
			t.Error(err)
		}
	}
	writers.Wait()
	if err := db.SweepRecords(records); err != nil {
		t.Error(err)
	}
	for i := range records {
		if _, err := db.Get(t.Context(), fmt.Sprint("k", i)); err != nil {
			t.Error(err)
		}
	}
}
