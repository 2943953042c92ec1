package pebble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parley-im/parley"
)

// backupDir is where a backup keeps its links to the store's files while it is
// read. It is inside the store, because a hard link needs the same file system.
const backupDir = "backup.tmp"

// BackupOptions have a useful zero value.
type BackupOptions struct {
	// Version is that of the program, for the archive to tell.
	Version string
	// Rate bounds how many bytes are read in a second; 0 is no bound.
	Rate int64
}

// Backup writes an archive of the store to w: everything acknowledged before the
// call, and of what is being appended meanwhile, over all streams, what came
// first; see [Restore]. The store goes on; only files that it has done with are
// kept until the backup is over. One backup runs at a time: the error wraps
// parley.ErrUnavailable while there is another, and is ErrStorageFull when the
// log, which is copied, would take what the store needs.
func (db *DB) Backup(ctx context.Context, w io.Writer, opt BackupOptions) (Archive, error) {
	if !db.backup.TryLock() {
		return Archive{}, fmt.Errorf("another backup is running: %w", parley.ErrUnavailable)
	}
	defer db.backup.Unlock()
	if err := ctx.Err(); err != nil {
		return Archive{}, err
	}
	dir := db.opt.FS.PathJoin(db.dir, backupDir)
	if err := db.opt.FS.RemoveAll(dir); err != nil {
		return Archive{}, fmt.Errorf("pebble: backup: %w", err)
	}
	if err := db.space.lend(int64(db.db.Metrics().WAL.Size + db.files.seen.place().size)); err != nil {
		return Archive{}, fmt.Errorf("pebble: backup: %w", err)
	}
	head := Archive{Version: opt.Version, Taken: db.opt.Now().UTC(), Last: parley.Seq(db.durable.Load())}
	mark := markImage(mark{seq: head.Last, id: db.id})
	if err := db.db.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
		return Archive{}, errors.Join(fmt.Errorf("pebble: backup: %w", err), db.opt.FS.RemoveAll(dir))
	}
	head, err := db.pack(ctx, &pacedWriter{ctx: ctx, w: w, rate: opt.Rate}, head, mark)
	if err != nil {
		err = fmt.Errorf("pebble: backup: %w", err)
	}
	return head, errors.Join(err, db.opt.FS.RemoveAll(dir))
}

// pack writes the files of the checkpoint.
func (db *DB) pack(ctx context.Context, w io.Writer, head Archive, mark []byte) (Archive, error) {
	a, err := newArchiveWriter(ctx, w, head)
	if err != nil {
		return Archive{}, err
	}
	if err := a.bytes(markName, mark); err != nil {
		return Archive{}, err
	}
	dir := db.opt.FS.PathJoin(db.dir, backupDir)
	names, err := db.opt.FS.List(dir)
	if err != nil {
		return Archive{}, err
	}
	slices.Sort(names)
	for _, name := range names {
		if isStoreFile(name) {
			if err := db.packFile(a, dir, name); err != nil {
				return Archive{}, err
			}
		}
	}
	return a.head, a.close()
}

func (db *DB) packFile(a *archiveWriter, dir, name string) error {
	f, err := db.opt.FS.Open(db.opt.FS.PathJoin(dir, name))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return a.file(logName+"/"+name, info.Size(), f)
}

// pacedWriter writes no faster than rate bytes a second.
type pacedWriter struct {
	ctx   context.Context //nolint:containedctx // lives within one call, whose context it is
	w     io.Writer
	rate  int64
	began time.Time
	sent  int64
}

func (p *pacedWriter) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	if err != nil || p.rate <= 0 {
		return n, err
	}
	if p.began.IsZero() {
		p.began = time.Now()
	}
	p.sent += int64(n)
	due := time.Duration(float64(p.sent) / float64(p.rate) * float64(time.Second))
	wait := due - time.Since(p.began)
	if wait <= 0 {
		return n, nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return n, nil
	case <-p.ctx.Done():
		return n, p.ctx.Err()
	}
}
