package pebble_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/pebble"
)

// TestCorruptedTail measures the one thing that cannot be noticed: after an
// unclean stop, damage to what was acknowledged since the mark was written. What
// is lost without a word is nothing that the mark knew of, and nothing is shown
// that was not stored.
func TestCorruptedTail(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	db := mustOpen(t, "s", sweepOptions(mem))
	publish := func(n int) {
		for i := range n {
			appendOne(t, db, backend.Entry{Message: &parley.Message{Topic: "/s0/t0/u", Body: noise(fmt.Sprint(n, i), 300)}})
		}
	}
	publish(100)
	marked := wholeLog(t, db)
	db.WriteMark()
	publish(50)
	all := wholeLog(t, db)
	f := takeFiles(t, mem)
	mustClose(t, db)

	r := rand.New(rand.NewPCG(1, 2))
	tried, noticed, most := 0, 0, 0
	for name, p := range f {
		if kindOf(name) != "WAL" {
			continue
		}
		for i, at := range offsets(r, len(p), 601) {
			if testing.Short() && i%8 != 0 {
				continue
			}
			flipped := bytes.Clone(p)
			flipped[at] ^= 1
			for _, q := range [][]byte{p[:at], flipped} {
				tried++
				damaged := maps.Clone(f)
				damaged[name] = q
				fsys, err := damaged.put()
				if err != nil {
					t.Fatal(err)
				}
				db, err := pebble.Open("s", sweepOptions(fsys))
				if err != nil {
					noticed++
					continue
				}
				got := wholeLog(t, db)
				mustClose(t, db)
				if len(got) < len(marked) || !slices.Equal(got, all[:len(got)]) {
					t.Fatalf("%s, byte %d: %d messages are left, the mark knew of %d", name, at, len(got), len(marked))
				}
				most = max(most, len(all)-len(got))
			}
		}
	}
	t.Logf("%d variants, %d noticed, at most %d messages lost, all since the mark", tried, noticed, most)
	if tried < 20 || noticed == 0 || most == 0 {
		t.Error("this run shows nothing")
	}
}
