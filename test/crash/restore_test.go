package crash_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBackupsOnFullDisks: a running server whose disk has no room for what a
// backup copies refuses it and goes on; a restore onto a disk with too little
// room says so, soon, and leaves nothing.
func TestBackupsOnFullDisks(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 24<<20)
	f := &filler{world: newWorld(build(t), filepath.Join(disk, "store"), rand.New(rand.NewPCG(1, 1)))}
	server, address := f.start(t.Context(), t)
	defer func() { server.kill() }()
	c := f.open(t, address)
	defer func() { _ = c.Close() }()
	for range 60 { // 2 MB, not all of it in tables
		if !f.publish(t, c, "/other") {
			t.Fatal("the disk is full already")
		}
	}
	parley := func(args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		out, err := exec.CommandContext(ctx, f.binary, args...).CombinedOutput()
		if ctx.Err() != nil {
			t.Fatalf("parley %v does not end: %s", args, out)
		}
		return string(out), err
	}
	archive := filepath.Join(t.TempDir(), "parley.tar")
	if out, err := parley("backup", "--server", "http://"+address, archive); err != nil {
		t.Fatalf("backup: %v: %s", err, out)
	}

	stranger := filepath.Join(disk, "stranger")
	fill(t, stranger)
	if out, err := parley("backup", "--server", "http://"+address, archive+"2"); err == nil || !strings.Contains(out, "the disk is almost full") {
		t.Errorf("a backup without room: %v: %s", err, out)
	}
	f.check(t, address)
	f.state(t, address, http.StatusServiceUnavailable, 1)
	if _, err := os.Stat(filepath.Join(f.dir, "ballast")); err != nil {
		t.Errorf("after a backup without room: %v", err)
	}
	server.kill()

	// Room for the archive, and next to none for the tables of its log.
	info, err := os.Stat(archive)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(f.dir); err != nil {
		t.Fatal(err)
	}
	all := fill(t, stranger)
	if err := os.Truncate(stranger, all-info.Size()-64<<10); err != nil {
		t.Fatal(err)
	}
	if out, err := parley("restore", archive, f.dir); err == nil || !strings.Contains(out, "opening it needs") {
		t.Errorf("a restore with too little room: %v: %s", err, out)
	}
	left, err := filepath.Glob(filepath.Join(disk, "store*"))
	if err != nil || len(left) > 0 {
		t.Errorf("a restore that failed leaves %v (%v)", left, err)
	}
	if err := os.Remove(stranger); err != nil {
		t.Fatal(err)
	}
	if out, err := parley("restore", archive, f.dir); err != nil {
		t.Errorf("a restore with room: %v: %s", err, out)
	}
	server, address = f.start(t.Context(), t)
	f.check(t, address)
}
