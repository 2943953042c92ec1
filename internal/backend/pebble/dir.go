package pebble

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// makeDir creates dir with mode 0700 where it does not exist, and makes it and
// every parent that it had to create durable: a store whose directory vanishes
// in a power cut takes everything acknowledged with it.
func makeDir(fsys vfs.FS, dir string) error {
	var parents []string
	for d := dir; ; d = fsys.PathDir(d) {
		if _, err := fsys.Stat(d); err == nil || !errors.Is(err, fs.ErrNotExist) || fsys.PathDir(d) == d {
			break
		}
		parents = append(parents, fsys.PathDir(d))
	}
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("pebble: create store: %w", err)
	}
	for _, d := range parents {
		if err := syncDir(fsys, d); err != nil {
			return fmt.Errorf("pebble: create store: %w", err)
		}
	}
	return nil
}

func syncDir(fsys vfs.FS, dir string) error {
	d, err := fsys.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
