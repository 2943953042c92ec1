package pebble

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// tableName is the file of a table.
func tableName(t pebble.SSTableInfo) string { return fmt.Sprintf("%s.sst", t.BackingSSTNum) }

// checkTables compares every table with what the database remembers of it. When
// it opens a database Pebble looks at the tables' sizes alone, so that it would
// read one in another's place for the other. It costs some reads a table.
func (db *DB) checkTables() error {
	levels, err := db.db.SSTables()
	if err != nil {
		return err
	}
	for _, level := range levels {
		for _, t := range level {
			name := tableName(t)
			if err := checkBounds(db.opt.FS, db.opt.FS.PathJoin(db.dir, logName, name), t); err != nil {
				return fmt.Errorf("%s: %w; restore a backup", name, err)
			}
		}
	}
	return nil
}

// checkBounds compares the first and the last key of the table at path with
// those that it should have.
func checkBounds(fsys vfs.FS, path string, t pebble.SSTableInfo) error {
	if t.Virtual {
		return nil // its bounds are inside those of its file
	}
	r, err := openTable(fsys, path)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	it, err := r.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer func() { _ = it.Close() }()
	first := it.First()
	if first == nil || !sameKey(first.K, t.Smallest) {
		return wrongTable(it.Error())
	}
	if last := it.Last(); last == nil || !sameKey(last.K, t.Largest) {
		return wrongTable(it.Error())
	}
	return nil
}

func wrongTable(err error) error {
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return fmt.Errorf("this table holds other keys than the database put into it: %w", ErrDamaged)
}

func sameKey(a, b pebble.InternalKey) bool {
	return a.Trailer == b.Trailer && string(a.UserKey) == string(b.UserKey)
}

// checkBlocks reads all of a table and compares every block's checksum.
func checkBlocks(fsys vfs.FS, path string) error {
	r, err := openTable(fsys, path)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	if err := r.ValidateBlockChecksums(); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// openTable reads a table's head. Opening a store has no context to end it.
//
//nolint:contextcheck,nolintlint // see above; the one that is excused is found at the callers
func openTable(fsys vfs.FS, path string) (*sstable.Reader, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	o := &pebble.Options{}
	o.EnsureDefaults()
	r, err := sstable.NewReader(context.Background(), readable, o.MakeReaderOptions())
	if err != nil {
		_ = readable.Close()
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return r, nil
}
