package backendtest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// keyed makes an entry with a key.
func keyed(key, topic, body string) backend.Entry {
	return backend.Entry{Message: message(topic, body), Key: key}
}

func keyDuplicate(r *rig) {
	first := r.append([]backend.Entry{keyed("k", "/a", "x")})
	r.publish("/a", "between")
	for range 3 {
		again := r.append([]backend.Entry{keyed("k", "/a", "x")})
		if !again[0].Duplicate || again[0].Seq != first[0].Seq {
			r.Fatalf("second entry: %+v, want a duplicate of %d", again[0], first[0].Seq)
		}
	}
	// Without a key everything is stored.
	r.append(entries(message("/a", "x"), message("/a", "x")))
	r.append([]backend.Entry{keyed("k2", "/a", "x"), keyed("k3", "/a", "x"), keyed("k", "/a", "x")})
	r.everything()
}

func keyWithinOneAppend(r *rig) {
	results := r.append([]backend.Entry{
		keyed("k", "/a", "x"),
		keyed("k", "/a", "x"),
		keyed("other", "/a", "y"),
		keyed("k", "/a", "other payload"),
		keyed("k", "/a", "x"),
		{Message: message("/a", "no key")},
	})
	for i, want := range []bool{false, true, false, false, true, false} {
		if results[i].Duplicate != want {
			r.Errorf("entry %d: duplicate %v, want %v", i, results[i].Duplicate, want)
		}
	}
	r.everything()
}

func keyConflict(r *rig) {
	r.append([]backend.Entry{keyed("k", "/a", "x")})
	results := r.append([]backend.Entry{
		keyed("before", "/a", "1"),
		keyed("k", "/a", "another"),
		keyed("after", "/a", "2"),
		keyed("k", "/a", ""),
		keyed("elsewhere", "/b", "3"),
	})
	for i, want := range []bool{false, true, false, true, false} {
		if got := errors.Is(results[i].Err, parley.ErrConflict); got != want {
			r.Errorf("entry %d: error %v", i, results[i].Err)
		}
	}
	// A conflict has changed nothing: the first payload still is the key's.
	r.append([]backend.Entry{keyed("k", "/a", "x"), keyed("k", "/a", "another")})
	r.everything()
}

func keyOtherStream(r *rig) {
	r.append([]backend.Entry{keyed("k", "/a", "x"), keyed("k", "/b", "x"), keyed("k", "/c", "another")})
	r.append([]backend.Entry{keyed("k", "/c", "another"), keyed("k", "/a", "x"), keyed("k", "/d", "x")})
	r.everything()
}

// keyNames: a stream's name and a key are told apart wherever one ends and the
// other begins, and any bytes make a key.
func keyNames(r *rig) {
	list := []backend.Entry{
		keyed("bc", "/a", "1"), keyed("c", "/ab", "2"), keyed("abc", "/", "3"), keyed("b", "/a", "4"),
		keyed("\x00", "/a", "5"), keyed("\x00\x00", "/a", "6"), keyed("\xff", "/a", "7"), keyed("\xff\xff", "/a", "8"),
		keyed("c\x00", "/ab", "9"), keyed("\x00c", "/ab", "10"), keyed("ann/bob", "/$inbox/ann", "11"), keyed("bob", "/$inbox/ann", "12"),
		keyed(string(pattern(800)), "/a", "13"), keyed(string(pattern(799)), "/a", "14"),
	}
	again := make([]backend.Entry, len(list))
	for i, e := range list {
		again[i] = backend.Entry{Message: clone(e.Message), Key: e.Key}
	}
	r.append(list)
	for i, got := range r.append(again) {
		if !got.Duplicate {
			r.Errorf("entry %d is not a duplicate", i)
		}
	}
	r.everything()
}

// keyAfterTrim: a retry whose first copy retention has already dropped is not
// stored again.
func keyAfterTrim(r *rig) {
	r.append([]backend.Entry{keyed("k", "/a", "x")})
	last := r.publish("/a", "later")
	r.trim("a", backend.Retention{Through: last})
	r.append([]backend.Entry{keyed("k", "/a", "x"), keyed("k", "/a", "another"), keyed("new", "/a", "x")})
	r.everything()
}

// keyAlong: what goes along with an entry is stored if that is, whichever stream
// it is for.
func keyAlong(r *rig) {
	along := func(topic, body string) backend.Entry {
		return backend.Entry{Message: message(topic, body), Along: true}
	}
	list := func() []backend.Entry {
		return []backend.Entry{
			along("/b", "first"), keyed("k", "/a", "x"), along("/b", "copy"), along("/a", "another copy"),
			{Message: message("/a", "no key")},
			along("/b", "of none"),
		}
	}
	r.append(list())
	r.append(list())
	r.append([]backend.Entry{keyed("k", "/a", "other payload"), along("/b", "of a conflict")})
	r.append([]backend.Entry{
		keyed("k2", "/a", "x"), along("/b", "1"), keyed("k2", "/a", "x"), along("/b", "2"), keyed("k2", "/a", "y"), along("/c", "3"),
	})
	r.everything()
}

// keyConcurrent: of many callers that append the same key at once, one stores.
func keyConcurrent(r *rig) {
	const callers, keys = 16, 25
	results := make([][]backend.Result, callers)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for k := range keys {
				body := "same"
				if c == 0 {
					body = "another" // One caller loses, or all others do.
				}
				got, err := r.log.Append(r.Context(), []backend.Entry{keyed(fmt.Sprint("k", k), "/a", body), {Message: message("/b", body)}})
				if err != nil {
					r.Errorf("Append: %v", err)
					return
				}
				results[c] = append(results[c], got[0])
			}
		})
	}
	wg.Wait()
	if r.Failed() {
		return
	}
	for k := range keys {
		stored := 0
		var seq parley.Seq
		for c := range callers {
			got := results[c][k]
			switch {
			case got.Err != nil && !errors.Is(got.Err, parley.ErrConflict):
				r.Errorf("key %d, caller %d: %v", k, c, got.Err)
			case got.Err != nil:
			case seq != 0 && got.Seq != seq:
				r.Errorf("key %d has seqs %d and %d", k, seq, got.Seq)
			default:
				seq = got.Seq
			}
			if got.Err == nil && !got.Duplicate {
				stored++
			}
		}
		if stored != 1 {
			r.Errorf("key %d was stored %d times, want once", k, stored)
		}
	}
	if got := len(r.readAllOf("a", "")); got != keys {
		r.Errorf("%d messages are stored, want %d", got, keys)
	}
	if got := len(r.readAllOf("b", "")); got != callers*keys {
		r.Errorf("%d messages without a key are stored, want %d", got, callers*keys)
	}
}
