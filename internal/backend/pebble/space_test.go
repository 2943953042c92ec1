package pebble_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/pebble"
)

// meteredFS is a disk whose free space the test sets.
type meteredFS struct {
	vfs.FS
	total uint64
	free  *atomic.Uint64

	mu         *sync.Mutex
	categories map[vfs.DiskWriteCategory]bool // of the files that were made
}

// diskBytes is the size of a new disk.
const diskBytes = 64 << 20

func newMeteredFS(free uint64) meteredFS {
	fs := meteredFS{
		FS: vfs.NewMem(), total: diskBytes, free: new(atomic.Uint64),
		mu: new(sync.Mutex), categories: map[vfs.DiskWriteCategory]bool{},
	}
	fs.free.Store(free)
	return fs
}

func (fs meteredFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	free := fs.free.Load()
	return vfs.DiskUsage{AvailBytes: free, TotalBytes: fs.total, UsedBytes: fs.total - free}, nil
}

func (fs meteredFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	fs.mu.Lock()
	fs.categories[c] = true
	fs.mu.Unlock()
	return fs.FS.Create(name, c)
}

func (fs meteredFS) has(name string) bool {
	_, err := fs.Stat(name)
	return err == nil
}

// TestWatermarks: the bounds make sense for a disk of any size.
func TestWatermarks(t *testing.T) {
	const kib, mib, gib, tib = 1 << 10, 1 << 20, 1 << 30, 1 << 40
	for _, tt := range []struct{ total, wanted, memTable, reserve, ballast int64 }{
		{4 * mib, 0, 256 * kib, 2 * mib, mib},
		{24 * mib, 0, 384 * kib, 3 * mib, 3 * mib / 2},
		{gib, 0, 16 * mib, 128 * mib, 64 * mib},
		{10 * gib, 0, 16 * mib, 128 * mib, 64 * mib},
		{50 * gib, 0, 16 * mib, gib / 2, 64 * mib},
		{10 * tib, 0, 16 * mib, gib, 64 * mib},
		{50 * gib, 5 * gib, 16 * mib, 5 * gib, 64 * mib},
		{50 * gib, 1, 16 * mib, 128 * mib, 64 * mib}, // never less than the store needs
	} {
		memTable, reserve, resume, ballast := pebble.Watermarks(tt.total, tt.wanted)
		if memTable != tt.memTable || reserve != tt.reserve || ballast != tt.ballast {
			t.Errorf("%d bytes, %d wanted: memtable %d, reserve %d, ballast %d; want %+v", tt.total, tt.wanted, memTable, reserve, ballast, tt)
		}
		if resume <= reserve || tt.wanted == 0 && resume+ballast > tt.total {
			t.Errorf("%d bytes: stores again from %d", tt.total, resume)
		}
	}
}

// TestFullDisk: below the reserve nothing more is stored, in the log or as a new
// record, with an error of its own; what reads, replaces and deletes goes on; and
// storing goes on by itself when there is clearly more room.
func TestFullDisk(t *testing.T) {
	const total = diskBytes
	_, reserve, resume, ballast := pebble.Watermarks(total, 0)
	fs := newMeteredFS(diskBytes)
	var log bytes.Buffer
	db := mustOpen(t, "s", pebble.Options{FS: fs, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	defer mustClose(t, db)
	appendOne(t, db, newEntry("before"))
	rev, err := db.Put(t.Context(), backend.Record{Key: "old", Value: []byte("1")})
	if err != nil {
		t.Fatal(err)
	}

	stores := func(free int64, want bool) {
		t.Helper()
		fs.free.Store(uint64(free))
		_, appended := db.Append(t.Context(), []backend.Entry{newEntry("x")})
		_, put := db.Put(t.Context(), backend.Record{Key: fmt.Sprint("new", free, want)})
		for _, err := range []error{appended, put} {
			if want && err != nil || !want && (!errors.Is(err, backend.ErrStorageFull) || !errors.Is(err, parley.ErrUnavailable)) {
				t.Errorf("with %d free: %v, want it to be stored: %v", free, err, want)
			}
		}
		if space, known := db.Space(); !known || space.Full == want || space.Free != free || space.Reserve != reserve || space.Total != total {
			t.Errorf("with %d free: %+v", free, space)
		}
	}
	stores(reserve+4096, true)
	stores(reserve-1, false)
	stores(reserve+4096, false) // not yet
	stores(resume-1, false)

	if page, err := db.Read(t.Context(), backend.Query{Stream: "a"}); err != nil || len(page.Messages) != 2 {
		t.Errorf("a read: %d messages, %v", len(page.Messages), err)
	}
	if rev, err = db.Put(t.Context(), backend.Record{Key: "old", Value: []byte("2"), Rev: rev}); err != nil {
		t.Errorf("to replace a record: %v", err)
	}
	if err := db.Delete(t.Context(), "old", rev); err != nil {
		t.Errorf("to delete a record: %v", err)
	}
	if _, err := db.Trim(t.Context(), "a", backend.Retention{Messages: 1}); err != nil {
		t.Errorf("to trim: %v", err)
	}
	stores(resume, true)

	// A commit must fit above the reserve, in the log and once more as a table.
	big := newEntry(strings.Repeat("x", 1<<20))
	fs.free.Store(uint64(reserve + 3<<19))
	if _, err := db.Append(t.Context(), []backend.Entry{big}); !errors.Is(err, backend.ErrStorageFull) {
		t.Errorf("a commit that does not fit: %v", err)
	}
	stores(reserve+3<<19, true)

	for what, want := range map[string]int{"nothing is stored": 1, "stored again": 1, "ballast": 0} {
		if n := strings.Count(log.String(), what); n != want {
			t.Errorf("%q is logged %d times, want %d:\n%s", what, n, want, log.String())
		}
	}
	if space, _ := db.Space(); space.Ballast != ballast {
		t.Errorf("the ballast is %d, want %d", space.Ballast, ballast)
	}
}

// TestBackupOfAFullDisk: a store that has filled the disk up to the reserve can be
// backed up, one whose reserve somebody else took cannot, and keeps its ballast.
func TestBackupOfAFullDisk(t *testing.T) {
	t.Parallel()
	memTable, reserve, _, _ := pebble.Watermarks(diskBytes, 0)
	fs := newMeteredFS(diskBytes)
	db := mustOpen(t, "s", pebble.Options{FS: fs, Logger: slog.New(slog.DiscardHandler)})
	defer mustClose(t, db)
	appendOne(t, db, newEntry(random(int(memTable)/4)))
	for free, want := range map[int64]error{reserve - 2*memTable: nil, 4 * memTable: backend.ErrStorageFull} {
		fs.free.Store(uint64(free))
		if _, err := db.Backup(t.Context(), io.Discard, pebble.BackupOptions{}); !errors.Is(err, want) {
			t.Errorf("a backup with %d free: %v, want %v", free, err, want)
		}
	}
	if !fs.has("s/ballast") {
		t.Error("the ballast was given up for a backup")
	}
}

// TestDeepTopicsFit: what is let in counts what the index of deep topics takes.
func TestDeepTopicsFit(t *testing.T) {
	t.Parallel()
	_, reserve, _, _ := pebble.Watermarks(diskBytes, 0)
	fs := newMeteredFS(diskBytes)
	db := mustOpen(t, "s", pebble.Options{FS: fs, Logger: slog.New(slog.DiscardHandler)})
	defer mustClose(t, db)
	var commit []backend.Entry
	for n := range 1000 {
		topic := parley.Topic("/a" + strings.Repeat(fmt.Sprintf("/%015d", n), 15))
		commit = append(commit, backend.Entry{Message: &parley.Message{Topic: topic}, Key: string(topic)})
	}
	before := db.Stats().WALBytes
	if _, err := db.Append(t.Context(), commit); err != nil {
		t.Fatal(err)
	}
	size := int64(db.Stats().WALBytes - before)
	for i := range commit {
		commit[i].Key += "2"
	}
	fs.free.Store(uint64(reserve + 2*size - 1))
	if _, err := db.Append(t.Context(), commit); !errors.Is(err, backend.ErrStorageFull) {
		t.Errorf("a commit of %d bytes with %d above the reserve: %v", size, 2*size-1, err)
	}
}

// TestBallast: it is made when there is room for it, given up when the store has
// no other way to go on, at the start too, and made again.
func TestBallast(t *testing.T) {
	const total = diskBytes
	_, reserve, resume, ballast := pebble.Watermarks(total, 0)
	fs := newMeteredFS(uint64(resume + ballast - 1))
	open := func() *pebble.DB {
		return mustOpen(t, "s", pebble.Options{FS: fs, Logger: slog.New(slog.DiscardHandler)})
	}
	expect := func(when string, want bool) {
		t.Helper()
		if fs.has("s/ballast") != want {
			t.Errorf("%s: the ballast is there: %v", when, !want)
		}
	}
	db := open()
	expect("with too little room for it", false)
	fs.free.Store(uint64(resume + ballast))
	db.Tend(t.Context())
	expect("with room", true)
	appendOne(t, db, newEntry("x"))

	fs.free.Store(uint64(reserve - 1))
	db.Tend(t.Context())
	expect("below the reserve", true)
	fs.free.Store(0)
	db.Tend(t.Context())
	expect("without a free byte", true) // whoever took the reserve would take it as well
	if _, err := db.Trim(t.Context(), "a", backend.Retention{Messages: 1, Through: 1}); err != nil {
		t.Errorf("a trim that drops nothing: %v", err)
	}
	if _, err := db.Trim(t.Context(), "a", backend.Retention{Through: parley.MaxSeq}); !errors.Is(err, backend.ErrStorageFull) {
		t.Errorf("a trim that cannot be written even so: %v", err)
	}
	expect("after a trim had no room", false)
	fs.free.Store(uint64(ballast))
	if _, err := db.Trim(t.Context(), "a", backend.Retention{Through: parley.MaxSeq}); err != nil {
		t.Errorf("a trim with what the ballast gave: %v", err)
	}
	fs.free.Store(uint64(resume + ballast - 1))
	if _, err := db.Append(t.Context(), []backend.Entry{newEntry("x")}); !errors.Is(err, backend.ErrStorageFull) {
		t.Errorf("an append in the room for the ballast: %v", err)
	}
	fs.free.Store(uint64(resume + ballast))
	db.Tend(t.Context())
	expect("with room again", true)
	appendOne(t, db, newEntry("x"))
	mustClose(t, db)

	fs.free.Store(uint64(ballast - 1))
	db = open()
	expect("opened with next to no room", false)
	if page, err := db.Read(t.Context(), backend.Query{Stream: "a"}); err != nil || len(page.Messages) != 1 {
		t.Errorf("opened with next to no room: %d messages, %v", len(page.Messages), err)
	}
	mustClose(t, db)
	fs.free.Store(total)
	mustClose(t, open())
	expect("opened with room", true)
}

// TestCompactionsKeepOffTheReserve: they rewrite tables beside the old ones, and
// would take all that is left. What a purge leaves to rewrite may.
func TestCompactionsKeepOffTheReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // A failed one pauses.
		const total = diskBytes
		_, reserve, _, _ := pebble.Watermarks(total, 0)
		fs := newMeteredFS(diskBytes)
		db := mustOpen(t, "s", pebble.Options{FS: fs, Logger: slog.New(slog.DiscardHandler)})
		defer mustClose(t, db)
		load := func() {
			t.Helper()
			for range 2 {
				appendOne(t, db, newEntry(random(128<<10)))
				if err := db.Flush(); err != nil {
					t.Fatal(err)
				}
			}
		}
		load()
		if err := db.Compact(t.Context()); err != nil {
			t.Errorf("with room: %v", err)
		}
		if !fs.categories["pebble-compaction"] {
			t.Errorf("Pebble calls compactions something else: %v", fs.categories)
		}
		load()
		fs.free.Store(uint64(reserve / 2))
		if err := db.Compact(t.Context()); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("without room: %v", err)
		}
		if _, err := db.Trim(t.Context(), "a", backend.Retention{Through: parley.MaxSeq}); err != nil {
			t.Error(err)
		}
		before := db.Stats().DiskBytes
		db.Tend(t.Context())
		synctest.Wait() // Pebble deletes files in the background.
		if after := db.Stats().DiskBytes; before < 512<<10 || after > before-(512<<10) {
			t.Errorf("%d bytes after a purge, %d before", after, before)
		}
	})
}

// random is a text that does not compress.
func random(n int) string {
	r := rand.New(rand.NewPCG(1, 1))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return string(p)
}

// TestStoreMovesToADiskOfAnotherSize: the size of memtables and ballast follows
// the disk.
func TestStoreMovesToADiskOfAnotherSize(t *testing.T) {
	fs := newMeteredFS(32 << 20)
	db := mustOpen(t, "s", pebble.Options{FS: fs})
	want := appendOne(t, db, newEntry(strings.Repeat("x", 1<<20))).Seq
	mustClose(t, db)
	fs.total = 256 << 20
	fs.free.Store(128 << 20)
	db = mustOpen(t, "s", pebble.Options{FS: fs})
	defer mustClose(t, db)
	page, err := db.Read(t.Context(), backend.Query{Stream: "a"})
	if err != nil || !slices.ContainsFunc(page.Messages, func(m *parley.Message) bool { return m.Seq == want }) {
		t.Errorf("%d messages (%v)", len(page.Messages), err)
	}
}
