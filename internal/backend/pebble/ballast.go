package pebble

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ballastName is the file that holds room for the store, see Space. What is in
// it means nothing.
const ballastName = "ballast"

// hasBallast reports whether the file is there in its full size. A file that is
// not was being made when the process died, or for a disk of another size.
func (s *space) hasBallast() (bool, error) {
	info, err := s.fs.Stat(s.path())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the ballast: %w", err)
	}
	return info.Size() == s.marks.ballast, nil
}

func (s *space) path() string { return s.fs.PathJoin(s.dir, ballastName) }

// restore makes the ballast if it leaves enough of the free space. That it
// cannot be made is no fault: it is tried again. The caller holds s.mu.
func (s *space) restore(free int64) {
	if s.ballast || free < s.marks.resume+s.marks.ballast {
		return
	}
	err := s.makeBallast()
	if err == nil {
		s.ballast = true
		return
	}
	if err = errors.Join(err, s.fs.Remove(s.path())); s.ballastFault != err.Error() {
		s.ballastFault = err.Error()
		s.logger.Warn("cannot make the ballast", "error", err, "dir", s.dir)
	}
}

func (s *space) makeBallast() error {
	file, err := s.fs.Create(s.path(), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if err := errors.Join(allocate(file, s.marks.ballast), file.Sync(), file.Close()); err != nil {
		return err
	}
	return syncDir(s.fs, s.dir)
}

// allocate gives a new file blocks for size bytes; the size itself is set last.
// Where the file system cannot allocate without writing, it writes zeros.
func allocate(file vfs.File, size int64) error {
	if runtime.GOOS == "linux" && file.Preallocate(0, size) == nil {
		_, err := file.WriteAt([]byte{0}, size-1)
		return err
	}
	zeros := make([]byte, min(size, 1<<20))
	for at := int64(0); at < size; at += int64(len(zeros)) {
		if _, err := file.Write(zeros[:min(size-at, int64(len(zeros)))]); err != nil {
			return err
		}
	}
	return nil
}

// release gives the ballast up. The caller holds s.mu.
func (s *space) release() {
	if err := s.fs.Remove(s.path()); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			s.logger.Error("cannot give up the ballast", "error", err, "dir", s.dir)
		}
		s.ballast = false
		return
	}
	s.ballast = false
	// Some file systems give blocks back only when the removal is on disk.
	if err := syncDir(s.fs, s.dir); err != nil {
		s.logger.Error("cannot give up the ballast", "error", err, "dir", s.dir)
		return
	}
	s.logger.Warn("the disk is full: the ballast was given up to go on", "bytes", s.marks.ballast, "dir", s.dir)
}
