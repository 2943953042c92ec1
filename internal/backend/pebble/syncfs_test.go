package pebble_test

import (
	"math/rand/v2"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// syncer stands before every fsync of a file: it may wait, and says whether the
// fsync is done at all.
type syncer func(name string) bool

// slowSync makes an fsync take as long as a disk's, so that a crash often falls
// between a write and its fsync, and readers are about in the meantime.
func slowSync(string) bool {
	timer := time.NewTimer(time.Duration(rand.IntN(200)) * time.Microsecond)
	<-timer.C
	return true
}

// lyingSync never writes the write-ahead log.
func lyingSync(name string) bool { return !strings.HasSuffix(name, ".log") }

// syncFS puts a syncer before the fsyncs of a file system's files.
type syncFS struct {
	vfs.FS
	sync syncer
}

func (fs syncFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.file(name)(fs.FS.Create(name, c))
}

func (fs syncFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return fs.file(name)(fs.FS.OpenReadWrite(name, c, opts...))
}

func (fs syncFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.file(name)(fs.FS.ReuseForWrite(old, name, c))
}

func (fs syncFS) file(name string) func(vfs.File, error) (vfs.File, error) {
	return func(f vfs.File, err error) (vfs.File, error) {
		if err != nil {
			return nil, err
		}
		return syncFile{f, name, fs.sync}, nil
	}
}

type syncFile struct {
	vfs.File
	name string
	sync syncer
}

func (f syncFile) Sync() error {
	if f.sync(f.name) {
		return f.File.Sync()
	}
	return nil
}

func (f syncFile) SyncData() error {
	if f.sync(f.name) {
		return f.File.SyncData()
	}
	return nil
}

func (f syncFile) SyncTo(length int64) (bool, error) {
	if f.sync(f.name) {
		return f.File.SyncTo(length)
	}
	return false, nil
}
