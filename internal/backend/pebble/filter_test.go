package pebble_test

import (
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/pebble"
)

// TestKeyFilter fills several generations: no key that was added is ever said to
// be missing, hardly any other is thought to be there, and what is forgotten
// takes no memory.
func TestKeyFilter(t *testing.T) {
	t.Parallel()
	const n = 5 * pebble.GenerationKeys / 2
	var f pebble.KeyFilter
	for i := range n {
		f.Add(i, parley.Seq(i+1))
	}
	for i := range n {
		if f.Missing(i) {
			t.Fatalf("key %d of %d is said to be missing", i, n)
		}
	}
	wrong := 0
	const others = 100_000
	for i := range others {
		if !f.Missing(n + i) {
			wrong++
		}
	}
	if share := float64(wrong) / others; share > 0.02 {
		t.Errorf("%.2f %% of the keys that are not there are thought to be", 100*share)
	}
	if left := f.Forget(pebble.GenerationKeys - 1); left != 3 {
		t.Errorf("%d generations are left, want 3", left)
	}
	if left := f.Forget(pebble.GenerationKeys); left != 2 {
		t.Errorf("%d generations are left, want 2", left)
	}
	for i := pebble.GenerationKeys; i < n; i++ {
		if f.Missing(i) {
			t.Fatalf("key %d is said to be missing once others are forgotten", i)
		}
	}
	if left := f.Forget(n); left != 0 || !f.Missing(n-1) {
		t.Errorf("%d generations are left, want none", left)
	}
}

// publishTwice stores entries with the keys from first to last, once more all
// of them, and reports the first that was not recognised.
func publishTwice(t *testing.T, db *pebble.DB, first, last int, lose bool) error {
	t.Helper()
	publish := func() []backend.Result {
		var all []backend.Result
		for i := first; i < last; {
			var entries []backend.Entry
			for ; i < last && len(entries) < 100; i++ {
				e := newEntry("m" + strconv.Itoa(i))
				e.Key = "k" + strconv.Itoa(i)
				entries = append(entries, e)
			}
			results, err := db.Append(t.Context(), entries)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, results...)
		}
		return all
	}
	before := publish()
	if lose {
		db.LoseFilter()
	}
	for i, r := range publish() {
		if r.Err != nil || !r.Duplicate || r.Seq != before[i].Seq {
			return fmt.Errorf("key %d: %+v, want a duplicate of seq %d", first+i, r, before[i].Seq)
		}
	}
	return nil
}

// TestKeyFilterHidesNothing publishes with ids that were used by this run, and by
// earlier ones, with the filter filled, just after the start, and after some were
// forgotten (R5).
func TestKeyFilterHidesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		check := func(db *pebble.DB, first, last int) {
			t.Helper()
			if err := publishTwice(t, db, first, last, false); err != nil {
				t.Error(err)
			}
		}
		for run := range 4 {
			db := mustOpen(t, dir, pebble.Options{})
			if run%2 == 0 {
				synctest.Wait()
				if !db.FilterComplete() {
					t.Fatal("the filter is not in use")
				}
			}
			check(db, 0, run*1000)
			check(db, run*1000, run*1000+1000)
			synctest.Wait()
			check(db, 0, run*1000+1000)
			mustClose(t, db)
		}
		time.Sleep(23 * time.Hour)
		db := mustOpen(t, dir, pebble.Options{})
		check(db, 5000, 6000)
		time.Sleep(2 * time.Hour)
		synctest.Wait() // the first 4000 are forgotten
		check(db, 5000, 6000)
		check(db, 0, 1000)
		mustClose(t, db)
	})
}

// TestLostKeysAreNoticed shows that the test above fails when keys were not added
// to the filter.
func TestLostKeysAreNoticed(t *testing.T) {
	t.Parallel()
	db := mustOpen(t, t.TempDir(), pebble.Options{})
	defer mustClose(t, db)
	for !db.FilterComplete() {
		runtime.Gosched()
	}
	if err := publishTwice(t, db, 0, 1000, true); err == nil {
		t.Error("nobody noticed that the filter was empty")
	} else {
		t.Log(err)
	}
}
