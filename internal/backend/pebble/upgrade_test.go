package pebble_test

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/parley-im/parley/internal/backend/pebble"
)

// TestCrashDuringUpgrade cuts the power before every single write of the start
// that brings a store of an earlier format up to date, of the mark that is
// written then, and of the stop. Whatever was not synced is lost in part. The
// next start finds everything (R1, R20).
func TestCrashDuringUpgrade(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dirs, err := filepath.Glob("testdata/golden-v*")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("there is no golden directory (%v)", err)
	}
	for _, dir := range dirs {
		want, err := os.ReadFile(filepath.Join(dir, "contents.txt"))
		if err != nil {
			t.Fatal(err)
		}
		disk := vfs.NewCrashableMem()
		if ok, err := vfs.Clone(vfs.Default, disk, filepath.Join(dir, "store"), "s", vfs.CloneSync); !ok || err != nil {
			t.Fatal(ok, err)
		}
		root, err := disk.OpenDir("")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(root.Sync(), root.Close()); err != nil {
			t.Fatal(err)
		}
		cuts := &powerCuts{disk: disk, rand: rand.New(rand.NewPCG(seed, seed))}
		opt := goldenOptions()
		opt.FS, opt.Logger = errorfs.Wrap(disk, cuts), slog.New(slog.DiscardHandler)
		db := mustOpen(t, "s", opt)
		db.WriteMark()
		mustClose(t, db)
		if len(cuts.left) < 20 {
			t.Errorf("%s: only %d writes: this shows little", dir, len(cuts.left))
		}
		for i, left := range cuts.left {
			opt.FS = left
			db, err := pebble.Open("s", opt)
			if err != nil {
				t.Fatalf("%s: after a cut before write %d, %s: %v", dir, i, cuts.before[i], err)
			}
			if got := contents(t, db); got != string(want) {
				t.Errorf("%s: after a cut before write %d, %s, the store has\n%s\nwant\n%s", dir, i, cuts.before[i], got, want)
			}
			mustClose(t, db)
		}
	}
}

// powerCuts keeps what a power cut would leave before each write.
type powerCuts struct {
	disk *vfs.MemFS

	mu     sync.Mutex
	rand   *rand.Rand
	left   []*vfs.MemFS
	before []string
}

// String implements errorfs.Injector.
func (*powerCuts) String() string { return "power cuts" }

// MaybeError implements errorfs.Injector.
func (c *powerCuts) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = append(c.left, c.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: c.rand.IntN(101), RNG: c.rand}))
	c.before = append(c.before, op.Path)
	return nil
}
