package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"
)

// storeID tells one store from another. It is in the mark, in the database, and
// in every commit: Pebble takes any write-ahead log that lies in its directory
// for its own.
type storeID uint64

// newStoreID need not be a secret, only another one.
func newStoreID() storeID { return storeID(rand.Uint64() | 1) } //nolint:gosec // see above

// checkLogs looks whose the write-ahead logs in dir are. Those of a store of
// format 1 do not say.
func checkLogs(fsys vfs.FS, dir string, id storeID) error {
	if id == 0 {
		return nil
	}
	logs, err := wal.Scan(wal.Dir{FS: fsys, Dirname: dir})
	if err != nil {
		return err
	}
	for _, log := range logs {
		if got := logID(log); got != 0 && got != id {
			return fmt.Errorf("%s.log is the write-ahead log of another store (%x, this is %x): %w", log.Num, got, id, ErrDamaged)
		}
	}
	return nil
}

// logID reads a write-ahead log up to the first commit that says whose it is. It
// is 0 when none does; what cannot be read Pebble will find.
func logID(log wal.LogicalLog) storeID {
	r := log.OpenForRead()
	defer func() { _ = r.Close() }()
	for {
		entry, _, err := r.NextRecord()
		if err != nil {
			return 0
		}
		commit, err := io.ReadAll(entry)
		if err != nil {
			return 0
		}
		if id := commitID(commit); id != 0 {
			return id
		}
	}
}

// commitID finds the id in a commit as the log has it.
func commitID(commit []byte) storeID {
	if len(commit) < batchrepr.HeaderLen {
		return 0
	}
	for r := batchrepr.Read(commit); ; {
		_, key, value, ok, err := r.Next()
		if !ok || err != nil {
			return 0
		}
		if string(key) == string(metaKey("last")) && len(value) == lastBytes {
			return storeID(binary.BigEndian.Uint64(value[16:]))
		}
	}
}

// What the key "last" holds: the last seq, the number of idempotency keys and,
// since format 2, the store's id.
const (
	lastBytesV1 = 16
	lastBytes   = 24
)

// identify reads the store's id, or gives it one; db.id is what the mark says.
func (db *DB) identify() error {
	v, err := db.get(metaKey("store"))
	switch {
	case err == nil && len(v) == 8:
		db.id = storeID(binary.BigEndian.Uint64(v))
		return nil
	case err == nil:
		return fmt.Errorf("read the store's id: %w", errCorrupt)
	case !errors.Is(err, pebble.ErrNotFound):
		return err
	}
	if db.id != 0 {
		return errors.New("it has lost messages: the database does not know whose it is, and the mark does; restore a backup")
	}
	db.id = newStoreID()
	batch := db.db.NewBatch()
	defer func() { _ = batch.Close() }()
	err = errors.Join(
		batch.Set(metaKey("format"), []byte{plainFormat}, nil),
		batch.Set(metaKey("store"), binary.BigEndian.AppendUint64(nil, uint64(db.id)), nil),
	)
	if err != nil {
		return err
	}
	return db.db.Apply(batch, pebble.Sync)
}

// before is what is checked before the database is opened, because Pebble would
// do harm: it takes over a foreign log, forgets what a damaged manifest says,
// and begins anew where it finds no manifest. It returns the store's id, 0 when
// that is not known, and whether there must be a database.
func before(fsys vfs.FS, dir string) (id storeID, exists bool, err error) {
	logs := fsys.PathJoin(dir, logName)
	names, err := fsys.List(logs)
	if err != nil {
		return 0, false, err
	}
	exists = slices.ContainsFunc(names, func(name string) bool { return strings.HasSuffix(name, ".sst") })
	if _, err := fsys.Stat(fsys.PathJoin(dir, markName)); err != nil {
		return 0, exists, nil //nolint:nilerr // recover says what a missing mark means
	}
	m, err := readMarkFile(fsys, fsys.PathJoin(dir, markName))
	if err != nil {
		return 0, true, err
	}
	return m.id, true, errors.Join(checkLogs(fsys, logs, m.id), checkManifest(fsys, logs, m.place))
}
