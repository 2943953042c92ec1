package pebble

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// Space is the room on the disk where a store is, in bytes.
//
// Nothing more is stored while less than Reserve is free. That much is left
// because the store itself needs room to go on: it must be able to write its
// memtables as tables while their logs are still there, to begin the next log,
// and to rewrite tables when it makes room. With memtables of M bytes this is
//
//	3 M   the memtables, written as tables
//	2 M   a commit that was let in just before, in the log and as a table
//	1 M   the next log, allocated in advance
//	2 M   what compactions write before they delete what they read
//
// together 8 M. A compaction may need more; it is stopped where it would touch
// the rest, and tried again later. M is 1/64 of the disk, at most 16 MiB and at least 256 KiB, so
// that a disk of 24 MB keeps an eighth of itself, 3 MB, and one of 1 GiB or more
// keeps 128 MiB. Unless told otherwise the reserve is 1 % of the disk, at most
// 1 GiB, where that is more: others write to the disk too.
//
// Beside the reserve there is the ballast, a file of 4 M whose blocks are really
// allocated. It is given up when a write of the store finds no room because
// somebody else took the reserve, so that messages can be deleted, and the store
// closed and opened, on a disk without a free byte; and it is made again when
// there is room.
type Space struct {
	// Free is what can be written now, of Total.
	Free, Total int64
	// Reserve is the free space below which nothing is stored. Storing goes on
	// when half as much more is free, because flushes and compactions make the
	// free space swing, and the ballast besides if it was given up.
	Reserve int64
	// Ballast is what giving it up would add to Free; 0 when it was given up.
	Ballast int64
	// Full reports that nothing is stored for want of room.
	Full bool
}

const (
	memTables        = 3 // before writes wait for a flush
	largestMemTable  = 16 << 20
	smallestMemTable = 256 << 10
)

// watermarks are the bounds of free space.
type watermarks struct {
	memTable int64 // the size of one
	reserve  int64 // see Space
	resume   int64 // enough to store again
	compact  int64 // what a compaction must leave
	ballast  int64 // the size of the file
	spare    int64 // what a commit that makes room must leave
	lend     int64 // what a backup must leave: the memtables as tables, and the next log
}

// marksFor works out the watermarks of a disk; wanted is Options.Reserve.
func marksFor(total, wanted int64) watermarks {
	m := min(max(total/64, smallestMemTable), largestMemTable)
	if wanted == 0 {
		wanted = min(total/100, 1<<30)
	}
	reserve := max(wanted, 8*m)
	return watermarks{memTable: m, reserve: reserve, resume: reserve + reserve/2, compact: 6 * m, ballast: 4 * m, spare: m / 4, lend: 4 * m}
}

// space guards the room on a store's disk. A nil one knows nothing of it and
// admits everything.
type space struct {
	fs     vfs.FS
	dir    string
	marks  watermarks
	logger *slog.Logger

	mu           sync.Mutex
	full         bool
	tight        bool   // soon full: what is trimmed now is to give its room back now
	reclaiming   bool   // room is being made
	ballast      bool   // the file is there
	ballastFault string // why it could not be made, as logged
	open         bool   // the store is
	failures     int    // of what goes on in the background, since there was room
	total        int64
	pending      map[parley.Stream]parley.Seq // trimmed up to there, and still on disk
}

// openSpace measures the disk and makes the ballast, or gives it up where the
// store could not be opened otherwise. The result is nil where fs cannot
// measure.
func openSpace(fs vfs.FS, dir string, opt Options) (*space, error) {
	usage, err := fs.GetDiskUsage(dir)
	if errors.Is(err, vfs.ErrUnsupported) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("measure the disk: %w", err)
	}
	s := &space{
		fs: fs, dir: dir, logger: opt.Logger,
		marks:   marksFor(clamp(usage.TotalBytes), opt.Reserve),
		pending: map[parley.Stream]parley.Seq{},
	}
	if s.ballast, err = s.hasBallast(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch free := s.look(); {
	case free < s.marks.ballast:
		s.release()
	case !s.ballast:
		s.restore(free)
	}
	return s, nil
}

// guard gives the ballast up when a write to fs finds no room, and tries that
// write once more.
func (s *space) guard(fs vfs.FS) vfs.FS {
	if s == nil {
		return fs
	}
	return vfs.OnDiskFull(fs, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.release()
	})
}

// memTable is the size of a memtable that suits the disk.
func (s *space) memTable() int64 {
	if s == nil {
		return largestMemTable
	}
	return s.marks.memTable
}

// admit says whether a commit of about that many bytes may be stored. They are
// needed twice: in the log, and in a table before the log goes.
func (s *space) admit(bytes int64) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if free := s.look(); s.full || free < s.marks.reserve+2*bytes {
		return backend.ErrStorageFull
	}
	return nil
}

// spare says whether a commit that makes room, or replaces what is there, may be
// made. It may use the reserve, and then the ballast. Only when even those are
// gone it is refused, because a log that cannot be written ends the process.
func (s *space) spare(bytes int64) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	need := s.marks.spare + 2*bytes
	if s.look() >= need {
		return nil
	}
	s.release()
	if s.look() < need {
		return backend.ErrStorageFull
	}
	return nil
}

// lend says whether a backup may copy that many bytes for a while. It may take a
// part of the reserve, so that a store that has filled the disk can be backed up.
func (s *space) lend(bytes int64) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.look()-bytes < s.marks.lend {
		return backend.ErrStorageFull
	}
	return nil
}

// look measures the free space and decides whether the disk is full, with a log
// line when that changes. The caller holds s.mu.
func (s *space) look() (free int64) {
	usage, err := s.fs.GetDiskUsage(s.dir)
	if err != nil {
		return math.MaxInt64 // The write itself will tell.
	}
	free, s.total = clamp(usage.AvailBytes), clamp(usage.TotalBytes)
	s.tight = free < 2*s.marks.reserve
	switch {
	case !s.full && free < s.marks.reserve:
		s.full = true
		s.logger.Error("the disk is almost full: nothing is stored until there is room",
			"free_bytes", free, "reserve_bytes", s.marks.reserve, "total_bytes", s.total, "dir", s.dir)
	case s.full && free >= s.marks.resume+s.missing():
		s.full, s.failures = false, 0
		s.logger.Info("the disk has room: messages are stored again", "free_bytes", free, "total_bytes", s.total, "dir", s.dir)
	}
	return free
}

// missing is what the ballast needs to be made again.
func (s *space) missing() int64 {
	if s.ballast {
		return 0
	}
	return s.marks.ballast
}

// clamp makes a file system's number one that can be reckoned with.
func clamp(n uint64) int64 { return int64(min(n, math.MaxInt64/4)) }

// Space measures the disk where the store is. It reports false where that is not
// known, as in memory.
func (db *DB) Space() (Space, bool) {
	s := db.space
	if s == nil {
		return Space{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	free := s.look()
	return Space{Free: free, Total: s.total, Reserve: s.marks.reserve, Ballast: s.marks.ballast - s.missing(), Full: s.full}, true
}
