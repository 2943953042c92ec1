package backendtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// KV runs the conformance suite of backend.KV. open returns a new, empty KV and
// closes it when the test ends.
func KV(t *testing.T, open func(t *testing.T) backend.KV) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, kv backend.KV)
	}{
		{"RoundTrip", kvRoundTrip},
		{"CompareAndSet", kvCompareAndSet},
		{"Delete", kvDelete},
		{"Recreate", kvRecreate},
		{"Expired", kvExpired},
		{"Expiring", kvExpiring},
		{"Keys", kvKeys},
		{"Scan", kvScan},
		{"ScanAndWrite", kvScanAndWrite},
		{"Owned", kvOwned},
		{"Cancelled", kvCancelled},
		{"Concurrent", kvConcurrent},
		{"Random", kvRandom},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// put writes r and returns its new revision.
func put(t *testing.T, kv backend.KV, r backend.Record) uint64 {
	t.Helper()
	rev, err := kv.Put(t.Context(), r)
	if err != nil {
		t.Fatalf("Put %q on revision %d: %v", r.Key, r.Rev, err)
	}
	if rev == 0 || rev == r.Rev {
		t.Fatalf("Put %q on revision %d: new revision %d", r.Key, r.Rev, rev)
	}
	return rev
}

// stored checks what Get finds.
func stored(t *testing.T, kv backend.KV, want backend.Record) {
	t.Helper()
	got, err := kv.Get(t.Context(), want.Key)
	if err != nil {
		t.Fatalf("Get %q: %v", want.Key, err)
	}
	if !sameRecord(got, want) {
		t.Fatalf("Get %q: got %s, want %s", want.Key, recordText(got), recordText(want))
	}
}

// absent checks that Get finds nothing.
func absent(t *testing.T, kv backend.KV, key string) {
	t.Helper()
	if got, err := kv.Get(t.Context(), key); !errors.Is(err, parley.ErrNotFound) {
		t.Fatalf("Get %q: %s, error %v, want ErrNotFound", key, recordText(got), err)
	}
}

// scanned checks what Scan yields.
func scanned(t *testing.T, kv backend.KV, prefix string, want []backend.Record) {
	t.Helper()
	var got []backend.Record
	for r, err := range kv.Scan(t.Context(), prefix) {
		if err != nil {
			t.Fatalf("Scan %q: %v", prefix, err)
		}
		got = append(got, r)
	}
	if !slices.EqualFunc(got, want, sameRecord) {
		t.Fatalf("Scan %q:\ngot  %s\nwant %s", prefix, recordTexts(got), recordTexts(want))
	}
}

func sameRecord(a, b backend.Record) bool {
	return a.Key == b.Key && bytes.Equal(a.Value, b.Value) && a.Rev == b.Rev && a.Expires.Equal(b.Expires)
}

func recordText(r backend.Record) string {
	return fmt.Sprintf("{%.40q %.40q rev %d expires %v}", r.Key, r.Value, r.Rev, r.Expires)
}

func recordTexts(list []backend.Record) string {
	var texts []string
	for _, r := range list {
		texts = append(texts, recordText(r))
	}
	return strings.Join(texts, " ")
}

func kvRoundTrip(t *testing.T, kv backend.KV) {
	expires := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	for i, value := range [][]byte{nil, {}, {0}, []byte("text"), {0xff, 0, '\n'}, pattern(64 << 10)} {
		r := backend.Record{Key: fmt.Sprint("key", i), Value: value}
		if i%2 == 0 {
			r.Expires = expires
		}
		r.Rev = put(t, kv, r)
		stored(t, kv, r)
	}
	absent(t, kv, "key")
	absent(t, kv, "key00")
}

func kvCompareAndSet(t *testing.T, kv backend.KV) {
	r := backend.Record{Key: "k", Value: []byte("1")}
	conflict := func(rev uint64) {
		t.Helper()
		if _, err := kv.Put(t.Context(), backend.Record{Key: "k", Value: []byte("x"), Rev: rev}); !errors.Is(err, parley.ErrConflict) {
			t.Fatalf("Put on revision %d: %v, want ErrConflict", rev, err)
		}
	}
	conflict(1) // There is no such record.
	absent(t, kv, "k")
	first := put(t, kv, r)
	conflict(0)
	conflict(first + 1)
	r.Rev = first
	stored(t, kv, r)
	r.Value, r.Expires = []byte("2"), time.Now().Add(time.Hour).Truncate(time.Microsecond)
	r.Rev = put(t, kv, r)
	conflict(first)
	conflict(0)
	stored(t, kv, r)
	r.Expires = time.Time{} // Put replaces the expiry too.
	r.Rev = put(t, kv, r)
	stored(t, kv, r)
}

func kvDelete(t *testing.T, kv backend.KV) {
	rev := put(t, kv, backend.Record{Key: "k", Value: []byte("1")})
	other := backend.Record{Key: "k2", Value: []byte("2")}
	other.Rev = put(t, kv, other)
	for _, wrong := range []uint64{0, rev + 1, other.Rev} {
		if wrong == rev {
			continue // Revisions need not be unique among records.
		}
		if err := kv.Delete(t.Context(), "k", wrong); !errors.Is(err, parley.ErrConflict) {
			t.Errorf("Delete of revision %d: %v, want ErrConflict", wrong, err)
		}
	}
	if err := kv.Delete(t.Context(), "k", rev); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	absent(t, kv, "k")
	for _, gone := range []uint64{rev, 0} {
		if err := kv.Delete(t.Context(), "k", gone); !errors.Is(err, parley.ErrNotFound) {
			t.Errorf("Delete of an absent record: %v, want ErrNotFound", err)
		}
	}
	scanned(t, kv, "", []backend.Record{other})
}

// kvRecreate: a record that was deleted and made again is another version:
// whoever still holds the old revision is refused.
func kvRecreate(t *testing.T, kv backend.KV) {
	seen := map[uint64]bool{}
	for round := range 20 {
		r := backend.Record{Key: "k", Value: []byte(fmt.Sprint(round))}
		r.Rev = put(t, kv, r)
		if seen[r.Rev] {
			t.Fatalf("revision %d was given twice", r.Rev)
		}
		for old := range seen {
			if _, err := kv.Put(t.Context(), backend.Record{Key: "k", Rev: old}); !errors.Is(err, parley.ErrConflict) {
				t.Fatalf("Put on revision %d of an earlier life: %v, want ErrConflict", old, err)
			}
		}
		seen[r.Rev] = true
		stored(t, kv, r)
		if err := kv.Delete(t.Context(), "k", r.Rev); err != nil {
			t.Fatal(err)
		}
	}
}

// kvExpired: an expired record is absent to every method.
func kvExpired(t *testing.T, kv backend.KV) {
	past := time.Now().Add(-time.Second).Truncate(time.Microsecond)
	lives := backend.Record{Key: "b", Value: []byte("lives")}
	lives.Rev = put(t, kv, lives)
	old := put(t, kv, backend.Record{Key: "a", Value: []byte("old"), Expires: past})
	put(t, kv, backend.Record{Key: "c", Value: []byte("old"), Expires: past})
	absent(t, kv, "a")
	scanned(t, kv, "", []backend.Record{lives})
	if err := kv.Delete(t.Context(), "a", old); !errors.Is(err, parley.ErrNotFound) {
		t.Errorf("Delete of an expired record: %v, want ErrNotFound", err)
	}
	if _, err := kv.Put(t.Context(), backend.Record{Key: "a", Rev: old}); !errors.Is(err, parley.ErrConflict) {
		t.Errorf("Put on an expired revision: %v, want ErrConflict", err)
	}
	again := backend.Record{Key: "a", Value: []byte("new")}
	again.Rev = put(t, kv, again)
	if again.Rev == old {
		t.Errorf("revision %d was given to a second life", old)
	}
	scanned(t, kv, "", []backend.Record{again, lives})
}

// kvExpiring watches a record become absent at its time, neither before nor
// after.
func kvExpiring(t *testing.T, kv backend.KV) {
	r := backend.Record{Key: "k", Value: []byte("x"), Expires: time.Now().Add(100 * time.Millisecond).Truncate(time.Microsecond)}
	r.Rev = put(t, kv, r)
	for {
		before := time.Now()
		got, err := kv.Get(t.Context(), "k")
		after := time.Now()
		switch {
		case err == nil && !sameRecord(got, r):
			t.Fatalf("Get: %s, want %s", recordText(got), recordText(r))
		case err == nil && !before.Before(r.Expires):
			t.Fatal("the record is there after its time")
		case err != nil && (!errors.Is(err, parley.ErrNotFound) || after.Before(r.Expires)):
			t.Fatalf("Get before the record's time: %v", err)
		case err != nil:
			put(t, kv, backend.Record{Key: "k"})
			return
		}
	}
}

func kvKeys(t *testing.T, kv backend.KV) {
	for name, key := range map[string]string{
		"empty": "", "too long": strings.Repeat("k", 513), "with NUL": "a\x00b", "NUL": "\x00", "ending in NUL": "a\x00",
	} {
		if _, err := kv.Put(t.Context(), backend.Record{Key: key}); !errors.Is(err, parley.ErrInvalid) {
			t.Errorf("Put with a key that is %s: %v, want ErrInvalid", name, err)
		}
		if _, err := kv.Get(t.Context(), key); err == nil {
			t.Errorf("Get with a key that is %s: no error", name)
		}
		if err := kv.Delete(t.Context(), key, 1); err == nil {
			t.Errorf("Delete with a key that is %s: no error", name)
		}
	}
	for _, key := range []string{"k", strings.Repeat("k", 512), "a/b c,d*>.", "\x01", "\xff\xff", "ü/日本", "\n", strings.Repeat("\xff", 512)} {
		r := backend.Record{Key: key, Value: []byte(key)}
		r.Rev = put(t, kv, r)
		stored(t, kv, r)
	}
}

func kvScan(t *testing.T, kv backend.KV) {
	var all []backend.Record
	for _, key := range []string{"b", "a/b", "a", "a/", "ab", "a-", "a/b/c", "A", "\xff", "\xff\xff", "\xff\xff\x01", "a\xff", "a\xff\xff", "ä", "\x01"} {
		r := backend.Record{Key: key, Value: []byte("value of " + key)}
		r.Rev = put(t, kv, r)
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b backend.Record) int { return strings.Compare(a.Key, b.Key) })
	for _, prefix := range []string{"", "a", "a/", "a/b", "a/b/c/d", "b", "\xff", "\xff\xff", "a\xff", "\x01", "z", "A", "\xc3"} {
		var want []backend.Record
		for _, r := range all {
			if strings.HasPrefix(r.Key, prefix) {
				want = append(want, r)
			}
		}
		scanned(t, kv, prefix, want)
		scannedAfter(t, kv, prefix, want)
	}
	for r, err := range kv.Scan(t.Context(), "a/") { // It may be left early.
		if err != nil || r.Key != "a/" {
			t.Errorf("first of a/: %s, %v", recordText(r), err)
		}
		break
	}
}

// scannedAfter checks what a backend.Seeker yields, from every place of want.
func scannedAfter(t *testing.T, kv backend.KV, prefix string, want []backend.Record) {
	t.Helper()
	seeker, ok := kv.(backend.Seeker)
	if !ok {
		return
	}
	afters := map[string]int{"": 0, "\xff\xff\xff": len(want)}
	for i := range want {
		afters[want[i].Key] = i + 1
	}
	for after, from := range afters {
		var got []backend.Record
		for r, err := range seeker.ScanAfter(t.Context(), prefix, after) {
			if err != nil {
				t.Fatalf("ScanAfter %q, %q: %v", prefix, after, err)
			}
			got = append(got, r)
		}
		if !slices.EqualFunc(got, want[from:], sameRecord) {
			t.Errorf("ScanAfter %q, %q: got %d records, want %d", prefix, after, len(got), len(want)-from)
		}
	}
}

// kvScanAndWrite: a scan's loop may write, as one that repairs records does.
func kvScanAndWrite(t *testing.T, kv backend.KV) {
	for i := range 300 {
		put(t, kv, backend.Record{Key: fmt.Sprintf("k%03d", i), Value: []byte("old")})
	}
	n := 0
	for r, err := range kv.Scan(t.Context(), "k") {
		if err != nil {
			t.Fatal(err)
		}
		if n%2 == 0 {
			err = kv.Delete(t.Context(), r.Key, r.Rev)
		} else {
			r.Value = []byte("new")
			_, err = kv.Put(t.Context(), r)
		}
		if err != nil {
			t.Fatalf("writing %q while scanning: %v", r.Key, err)
		}
		n++
	}
	if n != 300 {
		t.Errorf("scanned %d records, want 300", n)
	}
	n = 0
	for r, err := range kv.Scan(t.Context(), "") {
		if err != nil || string(r.Value) != "new" {
			t.Errorf("after the scan: %s, %v", recordText(r), err)
		}
		n++
	}
	if n != 150 {
		t.Errorf("%d records are left, want 150", n)
	}
}

// kvOwned: the caller's bytes stay the caller's.
func kvOwned(t *testing.T, kv backend.KV) {
	value := []byte("value")
	r := backend.Record{Key: "k", Value: value}
	r.Rev = put(t, kv, r)
	copy(value, "XXXXX")
	r.Value = []byte("value")
	stored(t, kv, r)
	got, err := kv.Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	copy(got.Value, "YYYYY")
	stored(t, kv, r)
}

func kvCancelled(t *testing.T, kv backend.KV) {
	r := backend.Record{Key: "k", Value: []byte("1")}
	r.Rev = put(t, kv, r)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, get := kv.Get(ctx, "k")
	_, set := kv.Put(ctx, backend.Record{Key: "k", Value: []byte("2"), Rev: r.Rev})
	remove := kv.Delete(ctx, "k", r.Rev)
	var scan error
	for _, err := range kv.Scan(ctx, "") {
		scan = err
		break
	}
	for name, err := range map[string]error{"Get": get, "Put": set, "Delete": remove, "Scan": scan} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: %v, want context.Canceled", name, err)
		}
	}
	stored(t, kv, r)
}

// kvConcurrent: many count upwards by compare-and-set, and no step is lost.
func kvConcurrent(t *testing.T, kv backend.KV) {
	const callers, steps = 8, 25
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for tries, done := 0, 0; done < steps; tries++ {
				if tries > callers*steps {
					t.Error("more conflicts than writes")
					return
				}
				r, err := kv.Get(t.Context(), "counter")
				if err != nil && !errors.Is(err, parley.ErrNotFound) {
					t.Errorf("Get: %v", err)
					return
				}
				n, _ := strconv.Atoi(string(r.Value)) // Absent counts as 0.
				r.Key, r.Value = "counter", []byte(strconv.Itoa(n+1))
				_, err = kv.Put(t.Context(), r)
				switch {
				case err == nil:
					done++
				case !errors.Is(err, parley.ErrConflict):
					t.Errorf("Put: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	r, err := kv.Get(t.Context(), "counter")
	if err != nil || string(r.Value) != strconv.Itoa(callers*steps) {
		t.Errorf("the counter is %q, error %v, want %d", r.Value, err, callers*steps)
	}
}

// kvRandom compares a random walk with a map.
func kvRandom(t *testing.T, kv backend.KV) {
	rnd := random(t)
	want := map[string]backend.Record{}
	steps := 1500
	if testing.Short() {
		steps = 300
	}
	for range steps {
		key := fmt.Sprintf("%c%c", 'a'+rnd.IntN(3), 'a'+rnd.IntN(4))
		rev := want[key].Rev
		if rnd.IntN(4) == 0 {
			rev += uint64(1 + rnd.IntN(2))
		}
		switch rnd.IntN(4) {
		case 0, 1:
			r := backend.Record{Key: key, Value: []byte(fmt.Sprint(rnd.Uint64())), Rev: rev}
			got, err := kv.Put(t.Context(), r)
			if ok := rev == want[key].Rev; ok != (err == nil) || err != nil && !errors.Is(err, parley.ErrConflict) {
				t.Fatalf("Put %q on revision %d: %v, stored is %s", key, rev, err, recordText(want[key]))
			}
			if err == nil {
				r.Rev = got
				want[key] = r
			}
		case 2:
			err := kv.Delete(t.Context(), key, rev)
			_, exists := want[key]
			switch {
			case !exists && !errors.Is(err, parley.ErrNotFound),
				exists && rev != want[key].Rev && !errors.Is(err, parley.ErrConflict),
				exists && rev == want[key].Rev && err != nil:
				t.Fatalf("Delete %q of revision %d: %v, stored is %s", key, rev, err, recordText(want[key]))
			case err == nil:
				delete(want, key)
			}
		case 3:
			var list []backend.Record
			for _, k := range slices.Sorted(maps.Keys(want)) {
				if strings.HasPrefix(k, key[:1]) {
					list = append(list, want[k])
				}
			}
			scanned(t, kv, key[:1], list)
		}
	}
}
