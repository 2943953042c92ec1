package pebble

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// strictFS ends the process when an fsync fails, of whatever file of the store,
// or a write of the log. After a failed fsync the kernel may have dropped what
// it could not write and report success the next time: so there is no next time,
// and nothing that depends on it is acknowledged. Pebble would try a table again
// and leave a failed log to the caller.
type strictFS struct {
	vfs.FS
	fatal func(message string)
	space *space
	stop  <-chan struct{} // closed when the store closes
}

// compaction is the category of what Pebble writes to rewrite tables.
const compaction vfs.DiskWriteCategory = "pebble-compaction"

// exit returns a function that ends the process, with one line however many
// find at once that the disk failed.
func exit(logger *slog.Logger) func(message string) {
	var once sync.Once
	return func(message string) {
		once.Do(func() {
			logger.Error("the store failed; stopping because it is not known what is on disk", "error", message)
			os.Exit(1)
		})
	}
}

// Create implements vfs.FS.
func (fs strictFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if c == compaction {
		if err := fs.space.compact(0); err != nil {
			fs.space.pause(fs.stop)
			return nil, err
		}
	}
	file, err := fs.FS.Create(name, c)
	if err != nil {
		fs.failed(name, err)
		return nil, err
	}
	return strictFile{File: file, fs: fs, name: name, compaction: c == compaction}, nil
}

// OpenReadWrite implements vfs.FS.
func (fs strictFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	file, err := fs.FS.OpenReadWrite(name, c, opts...)
	return fs.file(name, file, err)
}

// ReuseForWrite implements vfs.FS.
func (fs strictFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := fs.FS.ReuseForWrite(old, name, c)
	return fs.file(name, file, err)
}

// OpenDir implements vfs.FS.
func (fs strictFS) OpenDir(name string) (vfs.File, error) {
	file, err := fs.FS.OpenDir(name)
	return fs.file(name, file, err)
}

// failed holds up what makes a table and found no room, because Pebble tries that
// again at once.
func (fs strictFS) failed(name string, err error) {
	if strings.HasSuffix(name, ".sst") && errors.Is(err, syscall.ENOSPC) {
		fs.space.pause(fs.stop)
	}
}

func (fs strictFS) file(name string, file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return strictFile{File: file, fs: fs, name: name}, nil
}

// strictFile is one file of a strictFS.
type strictFile struct {
	vfs.File
	fs         strictFS
	name       string
	compaction bool
}

// Write implements vfs.File.
func (f strictFile) Write(p []byte) (int, error) {
	if f.compaction {
		if err := f.fs.space.compact(int64(len(p))); err != nil {
			f.fs.space.pause(f.fs.stop)
			return 0, err
		}
	}
	n, err := f.File.Write(p)
	switch {
	case err == nil:
	case strings.HasSuffix(f.name, ".log"):
		f.fs.fatal(fmt.Sprintf("write %s: %v", f.name, err))
	default:
		f.fs.failed(f.name, err)
	}
	return n, err
}

// Sync implements vfs.File.
func (f strictFile) Sync() error { return f.synced(f.File.Sync()) }

// SyncData implements vfs.File.
func (f strictFile) SyncData() error { return f.synced(f.File.SyncData()) }

// SyncTo implements vfs.File.
func (f strictFile) SyncTo(length int64) (fullSync bool, err error) {
	fullSync, err = f.File.SyncTo(length)
	return fullSync, f.synced(err)
}

func (f strictFile) synced(err error) error {
	if err != nil {
		f.fs.fatal(fmt.Sprintf("fsync %s: %v", f.name, err))
	}
	return err
}
