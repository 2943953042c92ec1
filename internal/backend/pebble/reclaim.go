package pebble

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/parley-im/parley"
)

// maxPending bounds the streams whose room is given back at once; the others
// wait for Pebble to do it in its own time.
const maxPending = 1000

// watchSpace looks at the disk once a second until the store closes: it makes the
// ballast again, and gives back the room of what was trimmed while there is too
// little.
func (db *DB) watchSpace() {
	if db.space == nil {
		return
	}
	db.space.opened()
	ctx, cancel := context.WithCancel(context.Background())
	var stopping sync.WaitGroup
	defer stopping.Wait()
	stopping.Go(func() {
		<-db.stop
		cancel()
	})
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			db.tendSpace(ctx)
		}
	}
}

func (db *DB) tendSpace(ctx context.Context) {
	if trimmed := db.space.tend(); len(trimmed) > 0 {
		db.reclaim(ctx, trimmed)
	}
}

func (s *space) opened() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open, s.failures = true, 0
}

// tend does what the room allows, and returns what to reclaim because there is
// too little of it.
func (s *space) tend() map[parley.Stream]parley.Seq {
	s.mu.Lock()
	defer s.mu.Unlock()
	free := s.look()
	if !s.full {
		s.restore(free)
		return nil
	}
	trimmed := s.pending
	s.pending = map[parley.Stream]parley.Seq{}
	return trimmed
}

// trimmed notes what could be reclaimed. It is called with every trim.
func (s *space) trimmed(stream parley.Stream, floor parley.Seq) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.pending[stream]; s.tight && (known || len(s.pending) < maxPending) {
		s.pending[stream] = floor
	}
}

// reclaim makes Pebble drop what was trimmed. By itself it keeps deleted blocks
// until later writes push their tombstones down, and while the disk is full
// there are no later writes.
func (db *DB) reclaim(ctx context.Context, trimmed map[parley.Stream]parley.Seq) {
	db.space.setReclaiming(true)
	defer db.space.setReclaiming(false)
	err := db.db.Flush()
	for _, s := range slices.Sorted(maps.Keys(trimmed)) {
		if err != nil {
			break
		}
		lower, _ := blockBounds(s)
		err = db.db.Compact(ctx, lower, blockKey(nil, s, trimmed[s]+1), false)
	}
	if err != nil && ctx.Err() == nil {
		db.opt.Logger.ErrorContext(ctx, "cannot give back the room of trimmed messages yet", "error", err)
	}
}

func (s *space) setReclaiming(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reclaiming = on
}

// compact says whether a compaction may write that many bytes. It may take a
// part of the reserve, and while it makes room all of it and the ballast.
func (s *space) compact(bytes int64) error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	free := s.look()
	if free-bytes >= s.marks.compact {
		return nil
	}
	if s.reclaiming {
		if free-bytes < s.marks.spare && s.ballast {
			s.release()
			free = s.look()
		}
		if free-bytes >= s.marks.spare {
			return nil
		}
	}
	return fmt.Errorf("too little room for a compaction: %w", syscall.ENOSPC)
}

// pause holds up what failed in the background for want of room, because Pebble
// repeats it at once: for longer each time, up to five minutes, or until there
// is room or it is being made, or the store closes.
func (s *space) pause(stop <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for left := s.patience(); left > 0; left-- {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		if s.hopeful() {
			return
		}
	}
}

// patience is how many seconds to wait. Opening a store waits for what happens
// in the background, so that there it is only one; and it says so, because until
// there is room nothing else is heard of it.
func (s *space) patience() int {
	if s == nil {
		return 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures++
	if !s.open {
		if s.failures == 1 {
			s.logger.Error("the store cannot be opened until there is room for what its log holds", "dir", s.dir)
		}
		return 1
	}
	return min(5<<min(s.failures, 10), 300)
}

// hopeful reports whether what failed for want of room is worth a try.
func (s *space) hopeful() bool {
	if s == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look()
	return s.reclaiming || !s.full
}
