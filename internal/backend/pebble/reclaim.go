package pebble

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/parley-im/parley"
)

// maxPending bounds the streams whose room is given back at once; the others
// wait for Pebble to do it in its own time.
const maxPending = 1000

// watchSpace looks at the disk once a second until ctx ends: it makes the
// ballast again, and gives back the room of what was trimmed while there is too
// little.
func (db *DB) watchSpace(ctx context.Context) {
	if db.space == nil {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if trimmed := db.space.tend(); len(trimmed) > 0 {
				db.reclaim(ctx, trimmed)
			}
		}
	}
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
	err := db.db.Flush()
	for _, s := range slices.Sorted(maps.Keys(trimmed)) {
		if err != nil {
			break
		}
		lower, _ := blockBounds(s)
		err = db.db.Compact(ctx, lower, blockKey(nil, s, trimmed[s]+1), false)
	}
	if err != nil && ctx.Err() == nil {
		db.opt.Logger.Error("cannot give back the room of trimmed messages yet", "error", err)
	}
}
