package pebble_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/pebble"
)

// fault makes some operations fail while it is armed.
type fault struct {
	armed atomic.Bool
	hit   func(errorfs.Op) bool
	err   error

	mu    sync.Mutex
	paths []string // of what failed
}

// String implements errorfs.Injector.
func (f *fault) String() string { return "fault" }

// MaybeError implements errorfs.Injector.
func (f *fault) MaybeError(op errorfs.Op) error {
	if !f.armed.Load() || !f.hit(op) {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paths = append(f.paths, op.Path)
	return f.err
}

func (f *fault) failed() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.paths
}

func isSync(k errorfs.OpKind) bool {
	return k == errorfs.OpFileSync || k == errorfs.OpFileSyncData || k == errorfs.OpFileSyncTo
}

// TestFailedSyncEndsTheProcess: when an fsync of any file of the store fails, or
// a write of the log, that is fatal; it is not tried again; nothing that depends
// on it is acknowledged; and what was acknowledged is there afterwards.
func TestFailedSyncEndsTheProcess(t *testing.T) {
	t.Parallel()
	named := func(part string) func(errorfs.Op) bool {
		return func(op errorfs.Op) bool { return isSync(op.Kind) && strings.Contains(path.Base(op.Path), part) }
	}
	for _, tt := range []struct {
		name string
		hit  func(errorfs.Op) bool
		err  error
		want string // part of the message
		log  bool   // nothing at all can be acknowledged
	}{
		{"log", named(".log"), syscall.EIO, ".log: input/output error", true},
		{"log without room", named(".log"), syscall.ENOSPC, ".log: no space left", true},
		{"write of the log", func(op errorfs.Op) bool {
			return op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".log")
		}, syscall.ENOSPC, ".log: no space left", true},
		{"table", named(".sst"), syscall.EIO, "fsync", false},
		{"manifest", named("MANIFEST"), syscall.EIO, "MANIFEST", false},
		{"mark", named("mark"), syscall.EIO, "mark: input/output error", false},
		{"directory", func(op errorfs.Op) bool { return isSync(op.Kind) && path.Base(op.Path) == "log" }, syscall.EIO, "fsync s/log", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			disk := vfs.NewCrashableMem()
			f := &fault{hit: tt.hit, err: tt.err}
			fatal := make(chan string, 100)
			db := mustOpen(t, "s", pebble.Options{
				FS: errorfs.Wrap(disk, f), Logger: slog.New(slog.DiscardHandler),
				Fatal: func(message string) {
					fatal <- message
					select {} // The process would be gone: so is the goroutine.
				},
			})
			var acked []parley.Seq
			for n := range 20 {
				acked = append(acked, appendOne(t, db, newEntry(fmt.Sprint("before ", n))).Seq)
			}
			f.armed.Store(true)
			var after atomic.Int64
			go func() { // It never ends: the store stands still.
				for n := 0; ; n++ {
					if _, err := db.Append(t.Context(), []backend.Entry{newEntry(fmt.Sprint("after ", n))}); err != nil {
						return
					}
					after.Add(1)
					if n == 10 {
						_ = db.Flush()
					}
				}
			}()
			message := <-fatal
			if !strings.Contains(message, tt.want) {
				t.Errorf("the message is %q, want it to say %q", message, tt.want)
			}
			crashed := disk.CrashClone(vfs.CrashCloneCfg{})
			if tt.log && after.Load() > 0 {
				t.Errorf("%d acknowledged after the log had failed", after.Load())
			}
			if paths := f.failed(); len(paths) != 1 {
				t.Errorf("failed and tried again: %v", paths)
			}
			next := mustOpen(t, "s", pebble.Options{FS: crashed})
			defer mustClose(t, next)
			page, err := next.Read(t.Context(), backend.Query{Stream: "a"})
			if err != nil || len(page.Messages) < len(acked) {
				t.Fatalf("%d of %d acknowledged are there (%v)", len(page.Messages), len(acked), err)
			}
			for i, seq := range acked {
				if page.Messages[i].Seq != seq {
					t.Errorf("message %d has seq %d, want %d", i, page.Messages[i].Seq, seq)
				}
			}
		})
	}
}

// TestNoRoomForATable: Pebble tries a table again at once, whatever of it failed
// for want of room. It is held up, so that a full disk does not cost a processor.
func TestNoRoomForATable(t *testing.T) {
	for _, kind := range []errorfs.OpKind{errorfs.OpCreate, errorfs.OpFileWrite} {
		synctest.Test(t, func(t *testing.T) {
			disk := newMeteredFS(diskBytes)
			f := &fault{
				hit: func(op errorfs.Op) bool { return op.Kind == kind && strings.HasSuffix(op.Path, ".sst") },
				err: syscall.ENOSPC,
			}
			db := mustOpen(t, "s", pebble.Options{FS: errorfs.Wrap(disk, f), Logger: slog.New(slog.DiscardHandler)})
			defer mustClose(t, db)
			appendOne(t, db, newEntry("x"))
			f.armed.Store(true)
			disk.free.Store(0)
			flushed := make(chan error)
			go func() { flushed <- db.Flush() }()
			select {
			case err := <-flushed:
				t.Errorf("kind %v: flushed without room: %v", kind, err)
				return
			case <-time.After(20 * time.Second):
			}
			if n := len(f.failed()); n == 0 || n > 10 {
				t.Errorf("kind %v: %d tries in 20 s", kind, n)
			}
			f.armed.Store(false)
			disk.free.Store(diskBytes)
			if err := <-flushed; err != nil {
				t.Errorf("kind %v: with room again: %v", kind, err)
			}
		})
	}
}

// TestFailedBackupCostsTheBackup: what a backup copies inside the store is no part
// of it. When that cannot be written the backup fails, and nothing else does: the
// process goes on, and so does the ballast.
func TestFailedBackupCostsTheBackup(t *testing.T) {
	t.Parallel()
	disk := newMeteredFS(diskBytes)
	f := &fault{
		hit: func(op errorfs.Op) bool {
			return path.Base(path.Dir(op.Path)) == "backup.tmp" && strings.HasSuffix(op.Path, ".log") &&
				(op.Kind == errorfs.OpFileWrite || isSync(op.Kind))
		},
		err: syscall.ENOSPC,
	}
	db := mustOpen(t, "s", pebble.Options{
		FS: errorfs.Wrap(disk, f), Logger: slog.New(slog.DiscardHandler),
		Fatal: func(message string) { t.Errorf("fatal: %s", message) },
	})
	defer mustClose(t, db)
	appendOne(t, db, newEntry("x"))
	f.armed.Store(true)
	if _, err := db.Backup(t.Context(), io.Discard, pebble.BackupOptions{}); !errors.Is(err, syscall.ENOSPC) || len(f.failed()) == 0 {
		t.Errorf("a backup that cannot be written: %v, failed %v", err, f.failed())
	}
	f.armed.Store(false)
	if !disk.has("s/ballast") || disk.has("s/backup.tmp") {
		t.Errorf("the ballast is there: %v, the copies are: %v", disk.has("s/ballast"), disk.has("s/backup.tmp"))
	}
	if _, err := db.Backup(t.Context(), io.Discard, pebble.BackupOptions{}); err != nil {
		t.Errorf("the next backup: %v", err)
	}
}

// TestReadErrorCostsTheRequest: a table that cannot be read for a moment fails
// what reads it, which is told; nothing is served short, and the store goes on.
func TestReadErrorCostsTheRequest(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	db := mustOpen(t, "s", pebble.Options{FS: disk})
	for range 50 { // More than the blocks that opening the store reads.
		appendOne(t, db, newEntry(random(10<<10)))
	}
	if err := db.Flush(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, db)

	f := &fault{
		hit: func(op errorfs.Op) bool {
			return strings.HasSuffix(op.Path, ".sst") && (op.Kind == errorfs.OpFileReadAt || op.Kind == errorfs.OpOpen)
		},
		err: syscall.EIO,
	}
	db = mustOpen(t, "s", pebble.Options{
		FS: errorfs.Wrap(disk, f), Logger: slog.New(slog.DiscardHandler),
		Fatal: func(message string) { t.Errorf("fatal: %s", message) },
	})
	defer mustClose(t, db)
	f.armed.Store(true)
	if page, err := db.Read(t.Context(), backend.Query{Stream: "a"}); err == nil {
		t.Errorf("a read of what cannot be read: %d messages", len(page.Messages))
	}
	if span, err := db.Count(t.Context(), backend.Query{Stream: "a"}); err == nil {
		t.Errorf("a count of what cannot be read: %+v", span)
	}
	if len(f.failed()) == 0 {
		t.Error("no read failed: this shows nothing")
	}
	if _, err := db.Append(t.Context(), []backend.Entry{newEntry("new")}); err != nil {
		t.Errorf("an append meanwhile: %v", err)
	}
	f.armed.Store(false)
	page, err := db.Read(t.Context(), backend.Query{Stream: "a"})
	if err != nil || len(page.Messages) != 51 {
		t.Errorf("afterwards there are %d messages (%v), want 51", len(page.Messages), err)
	}
}
