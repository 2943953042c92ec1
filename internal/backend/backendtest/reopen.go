package backendtest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// LogReopen is the suite of a log that outlives its process. store makes a new,
// empty store and returns a function that opens it: each call first closes the
// log that the call before it opened, and the last log is closed when the test
// ends.
func LogReopen(t *testing.T, store func(t *testing.T) func() backend.Log) {
	for _, c := range []struct {
		name string
		test func(r *rig, reopen func())
	}{
		{"Messages", reopenMessages},
		{"Keys", reopenKeys},
		{"Floors", reopenFloors},
		{"Empty", reopenEmpty},
		{"Random", reopenRandom},
	} {
		t.Run(c.name, func(t *testing.T) {
			open := store(t)
			r := newRig(t, open())
			c.test(r, func() {
				r.log = open()
				r.everything()
			})
		})
	}
}

func reopenMessages(r *rig, reopen func()) {
	for round := range 4 {
		appendFields(r)
		r.fill(fmt.Sprint("/a/round", round), 30)
		r.publish("/big", string(pattern(1<<20)))
		reopen()
		r.everyWay("a", parley.Topic(fmt.Sprint("/a/round", round)))
		r.everyWay("a", "/a/round0")
	}
}

func reopenKeys(r *rig, reopen func()) {
	keyDuplicate(r)
	keyNames(r)
	reopen()
	r.append([]backend.Entry{keyed("k", "/a", "x"), keyed("k", "/a", "another"), keyed("k3", "/a", "x"), keyed("c", "/ab", "2"), keyed("new", "/a", "n")})
	reopen()
	r.append([]backend.Entry{keyed("new", "/a", "n"), keyed("k", "/a", "another")})
	reopen()
}

// reopenFloors: floors survive, and no seq is given a second time though its
// message is gone.
func reopenFloors(r *rig, reopen func()) {
	seqs := r.fill("/a", 30)
	r.fill("/b/x", 30)
	r.trim("a", backend.Retention{Through: seqs[10]})
	r.trim("b", backend.Retention{Through: parley.MaxSeq - 1})
	for range 3 {
		reopen()
		r.publish("/a", "after")
		r.publish("/b/x", "after")
		r.publish("/new", "after")
		r.trim("a", backend.Retention{Messages: 5})
		r.trim("b", backend.Retention{Through: parley.MaxSeq - 1})
	}
	reopen()
}

func reopenEmpty(r *rig, reopen func()) {
	reopen()
	reopen()
	r.publish("/a", "first")
	reopen()
}

func reopenRandom(r *rig, reopen func()) {
	rounds, steps := 12, 100
	if testing.Short() {
		rounds, steps = 4, 40
	}
	w := walk{rig: r, rand: random(r.T), start: time.Now().Truncate(time.Microsecond)}
	for range rounds {
		for range steps {
			w.step()
		}
		reopen()
	}
}

// KVReopen is the suite of a KV that outlives its process; store is as for
// LogReopen.
func KVReopen(t *testing.T, store func(t *testing.T) func() backend.KV) {
	t.Run("Records", func(t *testing.T) {
		open := store(t)
		kv := open()
		hour := time.Now().Add(time.Hour).Truncate(time.Microsecond)
		want := []backend.Record{
			{Key: "a", Value: []byte("1")},
			{Key: "b", Value: pattern(100_000), Expires: hour},
			{Key: "c", Value: []byte{}},
		}
		for i := range want {
			want[i].Rev = put(t, kv, want[i])
		}
		gone := put(t, kv, backend.Record{Key: "gone", Value: []byte("x")})
		if err := kv.Delete(t.Context(), "gone", gone); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			kv = open()
			scanned(t, kv, "", want)
			if _, err := kv.Get(t.Context(), "gone"); !errors.Is(err, parley.ErrNotFound) {
				t.Errorf("Get of a deleted record: %v", err)
			}
			old := want[0].Rev
			want[0].Value = append(want[0].Value, '+')
			want[0].Rev = put(t, kv, want[0])
			stale := want[0]
			stale.Rev = old
			if _, err := kv.Put(t.Context(), stale); !errors.Is(err, parley.ErrConflict) {
				t.Errorf("Put on a replaced revision: %v, want ErrConflict", err)
			}
		}
		// A revision from before the restart is not given to another record.
		again := put(t, kv, backend.Record{Key: "gone", Value: []byte("y")})
		if again == gone {
			t.Errorf("revision %d was given twice", gone)
		}
	})
}
