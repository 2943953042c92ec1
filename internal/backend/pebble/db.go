package pebble

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

var (
	_ backend.Log = (*DB)(nil)
	_ backend.KV  = (*DB)(nil)
)

// formatVersion is of the store as a whole: which keys there are and what they
// mean. It grows when an older program would misread the store.
const formatVersion = 1

// Options have a useful zero value.
type Options struct {
	// Memory keeps the store in memory: it is gone when it is closed, and dir is
	// only a name.
	Memory bool
	// FS holds the files; nil is the operating system's, or a new one in memory.
	FS vfs.FS
	// Logger receives what goes wrong; nil is slog.Default().
	Logger *slog.Logger
	// DedupWindow and DedupBytes bound how long idempotency keys are kept: 24
	// hours and 1 GiB of index unless set, whichever ends first.
	DedupWindow time.Duration
	DedupBytes  int64
	// Now is the clock that messages and seqs are stamped with; nil is time.Now.
	Now func() time.Time
	// Past is the clock by which what has expired, or left the window of
	// idempotency, is judged; nil is Now.
	Past func() time.Time
	// Reserve is the free space, in bytes, below which nothing more is stored. It
	// is never less than what the store itself needs, see [Space]; 0 chooses by
	// the size of the disk. It has no meaning in memory.
	Reserve int64
	// Fatal is called when the disk failed in a way that leaves unknown what is
	// durable, and must not return; nil logs one line and ends the process with
	// code 1.
	Fatal func(message string)
}

// DB is an open store. Its methods may be called concurrently.
type DB struct {
	db     *pebble.DB
	opt    Options
	space  *space // nil where the room is not known, as in memory
	mark   *mark
	stop   chan struct{}
	tasks  sync.WaitGroup
	commit atomic.Int64 // nanoseconds spent in fsync so far, for Stats

	durable atomic.Uint64 // the watermark: all up to it is on disk

	mu     sync.Mutex // held while a commit is prepared and queued, never during an fsync
	last   parley.Seq // the last seq given
	keys   int64      // idempotency keys in the index
	build  builder
	totals map[parley.Stream]*total // of streams that were trimmed by count or bytes

	kv   sync.Mutex // serialises the KV's compare-and-set
	trim sync.Mutex // one Trim at a time
}

// Open opens the store in dir and creates it, with mode 0700, where there is
// none. It fails when another process has it open, when a newer program wrote
// it, and when it holds less than it once acknowledged.
func Open(dir string, opt Options) (*DB, error) {
	if opt.FS == nil {
		if opt.FS = vfs.Default; opt.Memory {
			opt.FS = vfs.NewMem()
		}
	}
	if err := makeDir(opt.FS, dir); err != nil {
		return nil, err
	}
	opt.Logger = cmp.Or(opt.Logger, slog.Default())
	opt.DedupWindow = cmp.Or(opt.DedupWindow, 24*time.Hour)
	opt.DedupBytes = cmp.Or(opt.DedupBytes, 1<<30)
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Past == nil {
		opt.Past = opt.Now
	}
	if opt.Fatal == nil {
		opt.Fatal = exit(opt.Logger)
	}
	space, err := openSpace(opt.FS, dir, opt)
	if err != nil {
		return nil, fmt.Errorf("pebble: store %s: %w", dir, err)
	}
	stop := make(chan struct{})
	opt.FS = strictFS{FS: space.guard(opt.FS), fatal: opt.Fatal, space: space, stop: stop}
	po := pebbleOptions(opt, space.memTable())
	defer po.Cache.Unref()
	p, err := pebble.Open(filepath.Join(dir, "log"), po)
	if err != nil {
		if errors.Is(err, syscall.EAGAIN) || strings.Contains(err.Error(), "lock held by current process") {
			return nil, fmt.Errorf("pebble: store %s is in use by another process: %w", dir, parley.ErrUnavailable)
		}
		return nil, fmt.Errorf("pebble: open store %s: %w", dir, err)
	}
	db := &DB{db: p, opt: opt, space: space, stop: stop, totals: map[parley.Stream]*total{}}
	if err := db.recover(dir); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	db.tasks.Go(db.keepMark)
	db.tasks.Go(db.expireKeys)
	db.tasks.Go(db.watchSpace)
	return db, nil
}

// recover reads where the store stood, and compares it with the mark.
func (db *DB) recover(dir string) error {
	if err := db.checkFormat(); err != nil {
		return fmt.Errorf("pebble: store %s: %w", dir, err)
	}
	if v, err := db.get(metaKey("last")); err == nil && len(v) == 16 {
		db.last = parley.Seq(binary.BigEndian.Uint64(v))
		db.keys = int64(binary.BigEndian.Uint64(v[8:]))
	} else if err == nil || !errors.Is(err, pebble.ErrNotFound) {
		return fmt.Errorf("pebble: store %s: read the last seq: %w", dir, cmp.Or(err, errCorrupt))
	}
	mark, marked, err := openMark(db.opt.FS, filepath.Join(dir, "mark"), db.last == 0)
	if err != nil {
		return fmt.Errorf("pebble: store %s: %w", dir, err)
	}
	if marked > db.last {
		return errors.Join(fmt.Errorf("pebble: store %s has lost messages: it ends at seq %d, but %d was acknowledged; restore a backup", dir, db.last, marked), mark.close())
	}
	db.mark = mark
	db.durable.Store(uint64(db.last))
	return nil
}

func (db *DB) checkFormat() error {
	v, err := db.get(metaKey("format"))
	if errors.Is(err, pebble.ErrNotFound) {
		return db.db.Set(metaKey("format"), []byte{formatVersion}, pebble.Sync)
	}
	if err != nil {
		return err
	}
	if len(v) != 1 || v[0] > formatVersion {
		return fmt.Errorf("it has format version %x, this program reads up to %x: use a newer program", v, formatVersion)
	}
	return nil
}

// Close writes the mark and closes the store. Nothing may be in progress.
func (db *DB) Close() error {
	close(db.stop)
	db.tasks.Wait()
	return errors.Join(db.mark.write(parley.Seq(db.durable.Load())), db.mark.close(), db.db.Close())
}

// keepMark repeats the watermark in the mark within a second.
func (db *DB) keepMark() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-db.stop:
			return
		case <-tick.C:
			if err := db.mark.write(parley.Seq(db.durable.Load())); err != nil {
				db.opt.Fatal("write the mark: " + err.Error())
			}
		}
	}
}

func (db *DB) get(key []byte) ([]byte, error) { return getIn(db.db, key) }

// getIn returns a copy of what r has under key.
func getIn(r pebble.Reader, key []byte) ([]byte, error) {
	v, closer, err := r.Get(key)
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), v...), closer.Close()
}

// pebbleOptions are tuned for blocks: large values that hardly overlap, already
// compressed.
func pebbleOptions(opt Options, memTable int64) *pebble.Options {
	o := &pebble.Options{
		FS: opt.FS,
		// The default format drops synced data silently when one bit of the
		// WAL flips; the newest one reports it.
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                uint64(memTable),
		MemTableStopWritesThreshold: memTables,
		L0CompactionThreshold:       8,
		L0StopWritesThreshold:       64,
		BytesPerSync:                1 << 20,
		Cache:                       pebble.NewCache(8 << 20),
		Logger:                      logger{opt},
	}
	o.EnsureDefaults()
	for i := range o.Levels {
		o.Levels[i].BlockSize = 32 << 10
		o.Levels[i].Compression = noCompression
	}
	return o
}
