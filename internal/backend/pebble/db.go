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
// mean. It grows when an older program would misread the store. A store whose
// usage is counted has the format after the plain one, because a program that
// does not count would make the counts wrong.
const (
	plainFormat   = 2
	formatVersion = 3
)

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
	// Payer names the user to whom a message counts once usage is counted, "" for
	// nobody. Of a message it must say the same for ever. Nil is its sender.
	Payer func(*parley.Message) string
	// Fatal is called when the disk failed in a way that leaves unknown what is
	// durable, and must not return; nil logs one line and ends the process with
	// code 1.
	Fatal func(message string)

	blockBytes  int // of a table's blocks; 0 is 32 KiB
	countBlocks int // as the constant; 0 is that
}

// DB is an open store. Its methods may be called concurrently.
type DB struct {
	db     *pebble.DB
	opt    Options
	dir    string
	id     storeID
	lock   *pebble.Lock
	files  watchFS
	damage damage
	space  *space // nil where the room is not known, as in memory
	mark   *mark
	stop   chan struct{}
	tasks  sync.WaitGroup
	commit atomic.Int64 // nanoseconds spent in fsync so far, for Stats

	durable atomic.Uint64 // the watermark: all up to it is on disk

	mu     sync.Mutex // held while a commit is prepared and queued, never during an fsync
	last   parley.Seq // the last seq given
	keys   int64      // idempotency keys in the index
	known  keyFilter  // of them
	build  builder
	totals map[parley.Stream]*total // of streams that were trimmed by count or bytes
	usage  usage

	swept []byte // the key after which the sweep of expired records goes on; one sweep at a time

	kv   [kvStripes]sync.Mutex // serialise the compare-and-set of the keys with their hash; held over an fsync
	trim sync.Mutex            // one Trim at a time

	backup sync.Mutex // one Backup at a time
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
	db := &DB{opt: opt, dir: dir, stop: make(chan struct{}), totals: map[parley.Stream]*total{}}
	db.damage.opt = &db.opt
	db.usage.init(opt.Payer)
	if err := db.open(); err != nil {
		return nil, err
	}
	db.tasks.Go(db.countUsage)
	db.tasks.Go(db.keepMark)
	db.tasks.Go(db.loadFilter)
	db.tasks.Go(db.expireKeys)
	db.tasks.Go(db.watchSpace)
	return db, nil
}

// open opens the database, for this process alone.
func (db *DB) open() (err error) {
	logs := filepath.Join(db.dir, logName)
	if err := makeDir(db.opt.FS, logs); err != nil {
		return err
	}
	if db.lock, err = pebble.LockDirectory(logs, db.opt.FS); err != nil {
		if errors.Is(err, syscall.EAGAIN) || strings.Contains(err.Error(), "lock held by current process") {
			return fmt.Errorf("pebble: store %s is in use by another process: %w", db.dir, parley.ErrUnavailable)
		}
		return fmt.Errorf("pebble: open store %s: %w", db.dir, err)
	}
	id, exists, err := before(db.opt.FS, db.dir)
	if err != nil {
		return errors.Join(fmt.Errorf("pebble: open store %s: %w", db.dir, err), db.lock.Close())
	}
	db.id = id
	if db.space, err = openSpace(db.opt.FS, db.dir, db.opt); err != nil {
		return errors.Join(fmt.Errorf("pebble: store %s: %w", db.dir, err), db.lock.Close())
	}
	bare := db.opt.FS
	db.opt.FS = strictFS{FS: db.space.guard(bare), fatal: db.opt.Fatal, space: db.space, stop: db.stop}
	db.files = watchFS{FS: db.opt.FS, bare: bare, seen: &manifests{synced: map[uint64]uint64{}}, gate: newGate()}
	po := pebbleOptions(db.opt, db.space.memTable())
	defer po.Cache.Unref()
	po.FS, po.Lock, po.ErrorIfNotExists = db.files, db.lock, exists
	po.EventListener.ManifestCreated, po.EventListener.DataCorruption = db.files.seen.created, db.damage.found
	if db.db, err = pebble.Open(logs, po); err != nil {
		db.files.gate.decide(false)
		return errors.Join(fmt.Errorf("pebble: open store %s: %w", db.dir, err), db.lock.Close())
	}
	if err := db.recover(db.dir); err != nil {
		db.files.gate.decide(false)
		return errors.Join(err, db.db.Close(), db.lock.Close())
	}
	db.files.gate.decide(true)
	return nil
}

// recover reads where the store stood, and compares it with the mark.
func (db *DB) recover(dir string) error {
	if err := db.checkFormat(); err != nil {
		return fmt.Errorf("pebble: store %s: %w", dir, err)
	}
	if v, err := db.get(metaKey("last")); err == nil && (len(v) == lastBytes || len(v) == lastBytesV1) {
		db.last = parley.Seq(binary.BigEndian.Uint64(v))
		db.keys = int64(binary.BigEndian.Uint64(v[8:]))
	} else if err == nil || !errors.Is(err, pebble.ErrNotFound) {
		return fmt.Errorf("pebble: store %s: read the last seq: %w", dir, cmp.Or(err, errCorrupt))
	}
	if err := db.loadUsage(); err != nil {
		return fmt.Errorf("pebble: store %s: %w", dir, err)
	}
	mark, marked, err := openMark(db.opt.FS, filepath.Join(dir, markName), db.id, db.last == 0)
	if err != nil {
		return fmt.Errorf("pebble: store %s: %w", dir, err)
	}
	if marked > db.last {
		return errors.Join(fmt.Errorf("pebble: store %s has lost messages: it ends at seq %d, but %d was acknowledged; restore a backup", dir, db.last, marked), mark.close())
	}
	if err := db.checkTables(); err != nil {
		return errors.Join(fmt.Errorf("pebble: store %s: %w", dir, err), mark.close())
	}
	if err := db.opt.FS.RemoveAll(filepath.Join(dir, backupDir)); err != nil {
		return errors.Join(fmt.Errorf("pebble: store %s: remove what a backup left: %w", dir, err), mark.close())
	}
	db.mark = mark
	db.durable.Store(uint64(db.last))
	return nil
}

// checkFormat refuses a newer format, and brings an older one up to this one.
func (db *DB) checkFormat() error {
	v, err := db.get(metaKey("format"))
	if errors.Is(err, pebble.ErrNotFound) {
		return db.identify()
	}
	if err != nil {
		return err
	}
	if len(v) != 1 || v[0] > formatVersion {
		return fmt.Errorf("it has format version %x, this program reads up to %x: use a newer program", v, formatVersion)
	}
	return db.identify()
}

// Close writes the mark and closes the store. Nothing may be in progress.
func (db *DB) Close() error {
	close(db.stop)
	db.tasks.Wait()
	db.backup.Lock() // a backup that is broken off comes to its end
	return errors.Join(db.mark.write(parley.Seq(db.durable.Load()), db.files.seen.place()), db.mark.close(), db.db.Close(), db.lock.Close())
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
			if err := db.mark.write(parley.Seq(db.durable.Load()), db.files.seen.place()); err != nil {
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
		o.Levels[i].BlockSize = cmp.Or(opt.blockBytes, 32<<10)
		o.Levels[i].Compression = noCompression
	}
	return o
}
