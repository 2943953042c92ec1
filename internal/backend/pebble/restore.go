package pebble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// restoreLead is how far past the clock a restored store goes on. What was given
// after the backup and is lost was given by a clock that was not further ahead,
// so no seq is ever given twice.
const restoreLead = time.Hour

// VerifyArchive reads a whole archive and says what it is, or why it cannot be
// restored.
func VerifyArchive(ctx context.Context, r io.Reader) (Archive, error) {
	return readArchive(ctx, r, func(string, io.Reader) error { return nil })
}

// Restored is what [Restore] made.
type Restored struct {
	Archive
	// Next is the lowest seq that the restored store will give.
	Next parley.Seq
	// Report is what [Check] says of it.
	Report Report
}

// Restore makes the store dir from an archive. Dir must not exist, or be empty.
// The store is made beside it, under the name dir.partial, and takes its name
// when it is whole, has been checked, and goes on an hour past the clock: the
// seqs that were given after the backup are never given again.
func Restore(ctx context.Context, r io.Reader, dir string, opt Options) (Restored, error) {
	dir = filepath.Clean(dir)
	if err := vacant(dir); err != nil {
		return Restored{}, err
	}
	partial := dir + ".partial"
	if err := makeDir(vfs.Default, filepath.Dir(dir)); err != nil {
		return Restored{}, err
	}
	if err := os.Mkdir(partial, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return Restored{}, fmt.Errorf("%s is left from a restore that was broken off: remove it: %w", partial, parley.ErrConflict)
		}
		return Restored{}, fmt.Errorf("pebble: restore: %w", err)
	}
	done, err := restore(ctx, r, partial, opt)
	if err == nil {
		err = takeName(partial, dir)
	}
	if err != nil {
		return Restored{}, errors.Join(fmt.Errorf("pebble: restore: %w", err), os.RemoveAll(partial))
	}
	done.Report.Dir = dir
	return done, nil
}

// vacant says whether a store can be made at dir.
func vacant(dir string) error {
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pebble: restore: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory: %w", dir, parley.ErrConflict)
	}
	names, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("pebble: restore: %w", err)
	}
	if len(names) > 0 {
		return fmt.Errorf("%s is not empty: restore into a new directory: %w", dir, parley.ErrConflict)
	}
	return nil
}

// restore makes a checked store in dir, which is empty.
func restore(ctx context.Context, r io.Reader, dir string, opt Options) (Restored, error) {
	archive, err := unpack(ctx, r, dir)
	if err != nil {
		return Restored{}, err
	}
	if err := roomFor(dir); err != nil {
		return Restored{}, err
	}
	opt.Memory, opt.FS = false, vfs.Default
	db, err := Open(dir, opt)
	if err != nil {
		return Restored{}, err
	}
	next, err := db.leap(restoreLead)
	if err := errors.Join(err, db.Close()); err != nil {
		return Restored{}, err
	}
	report, err := Check(ctx, dir, CheckOptions{Now: opt.Now})
	if err == nil && !report.Sound() {
		err = fmt.Errorf("the archive holds a damaged store: %s: %w", report.Faults[0], ErrDamaged)
	}
	return Restored{Archive: archive, Next: next, Report: report}, err
}

// unpack writes the files of an archive into dir, durably.
func unpack(ctx context.Context, r io.Reader, dir string) (Archive, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Archive{}, err
	}
	defer func() { _ = root.Close() }()
	if err := root.Mkdir(logName, 0o700); err != nil {
		return Archive{}, err
	}
	buf := make([]byte, archiveChunk)
	archive, err := readArchive(ctx, r, func(name string, r io.Reader) error {
		f, err := root.OpenFile(filepath.FromSlash(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = copyChunks(ctx, f, r, buf)
		return errors.Join(err, f.Sync(), f.Close())
	})
	if err != nil {
		return Archive{}, err
	}
	return archive, errors.Join(syncDir(vfs.Default, filepath.Join(dir, logName)), syncDir(vfs.Default, dir))
}

// roomFor says whether the store in dir can be opened: what is in its logs is
// written into tables then, and Pebble would wait until there is room for them.
func roomFor(dir string) error {
	usage, err := vfs.Default.GetDiskUsage(dir)
	if errors.Is(err, vfs.ErrUnsupported) {
		return nil
	}
	logs, globErr := filepath.Glob(filepath.Join(dir, logName, "*.log"))
	if err := errors.Join(err, globErr); err != nil {
		return err
	}
	need := marksFor(clamp(usage.TotalBytes), 0).spare
	for _, name := range logs {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		need += info.Size()
	}
	if free := clamp(usage.AvailBytes); free < need {
		return fmt.Errorf("opening it needs %d bytes more, and %d are free: %w", need, free, backend.ErrStorageFull)
	}
	return nil
}

// takeName gives the finished store its name, durably.
func takeName(partial, dir string) error {
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is in use, or something is mounted there: restore into a directory in it: %w: %w", dir, err, parley.ErrConflict)
	}
	if err := os.Rename(partial, dir); err != nil {
		return err
	}
	return syncDir(vfs.Default, filepath.Dir(dir))
}

// leap makes the store go on at least lead past the clock, durably, and returns
// the next seq.
func (db *DB) leap(lead time.Duration) (parley.Seq, error) {
	if err := db.space.spare(0); err != nil {
		return 0, err
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	db.last = max(db.last, parley.Seq(max(0, db.opt.Now().Add(lead).UnixMicro())))
	if db.last+1 >= parley.MaxSeq {
		return 0, fmt.Errorf("the clock is beyond the last seq: %w", parley.ErrUnavailable)
	}
	batch := db.db.NewBatch()
	defer func() { _ = batch.Close() }()
	if err := db.putLast(batch); err != nil {
		return 0, err
	}
	if err := db.db.Apply(batch, pebble.Sync); err != nil {
		return 0, err
	}
	db.advance(db.last)
	return db.last + 1, nil
}
