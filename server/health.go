package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/internal/httpapi"
)

// checks are what must be well for the server to be healthy.
func (s *Server) checks() []httpapi.Check {
	checks := []httpapi.Check{s.readiness(), {Name: "store", Run: onceASecond(s.storeWritable)}}
	if _, known := s.store.Space(); known {
		checks = append(checks, httpapi.Check{Name: "disk", Run: func(context.Context) error {
			space, _ := s.store.Space()
			return full(space)
		}})
	}
	return checks
}

// readiness says whether the server takes clients: not while it starts or
// stops.
func (s *Server) readiness() httpapi.Check {
	return httpapi.Check{Name: "ready", Run: func(context.Context) error {
		if !s.ready.Load() {
			return errors.New("the server is starting or stopping")
		}
		return nil
	}}
}

// storeWritable writes a record and waits until it is on disk.
func (s *Server) storeWritable(ctx context.Context) error {
	const key = "server/health"
	db := s.store.DB // that of the messages, wherever records are
	if n := db.Stats().DamagedFiles; n > 0 {
		return fmt.Errorf("%d files are damaged: stop the server and run parley doctor", n)
	}
	old, err := db.Get(ctx, key)
	if err != nil && !errors.Is(err, parley.ErrNotFound) {
		return err
	}
	_, err = db.Put(ctx, backend.Record{Key: key, Value: []byte(time.Now().UTC().Format(time.RFC3339)), Rev: old.Rev})
	if errors.Is(err, backend.ErrStorageFull) {
		return nil // That is what the check of the disk is about.
	}
	return err
}

// onceASecond runs check at most once a second and repeats its answer in
// between: anybody may ask, and each check costs the disk a write.
func onceASecond(check func(context.Context) error) func(context.Context) error {
	var mu sync.Mutex
	var last time.Time
	var result error
	return func(ctx context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(last) >= time.Second {
			// Whoever asked first may go; the answer is for all.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
			result = check(ctx)
			cancel()
			last = time.Now()
		}
		return result
	}
}

// checkTimeout bounds one look at the store.
const checkTimeout = 4 * time.Second

// full is an error while nothing is stored for want of room.
func full(s pebble.Space) error {
	if !s.Full {
		return nil
	}
	return fmt.Errorf("%s free of %s, and nothing is stored below %s", mebibytes(s.Free), mebibytes(s.Total), mebibytes(s.Reserve))
}

func mebibytes(n int64) string { return FormatSize(n >> 20 << 20) }

// low reports whether somebody should make room soon.
func low(s pebble.Space) bool {
	const share, enough = 20, 10 << 30
	return s.Free < max(min(s.Total/share, enough), 2*s.Reserve)
}

// watchDisk logs when the disk becomes low, and when it is not any more. That
// it is full is logged by the store.
func (s *Server) watchDisk(ctx context.Context) error {
	if _, known := s.store.Space(); !known {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	wasLow := false
	for {
		if d, _ := s.store.Space(); low(d) != wasLow {
			wasLow = !wasLow
			if wasLow {
				s.logger.WarnContext(ctx, "the disk is getting full", "free_bytes", d.Free, "total_bytes", d.Total, "dir", s.store.dir)
			} else {
				s.logger.InfoContext(ctx, "the disk is not getting full any more", "free_bytes", d.Free, "total_bytes", d.Total, "dir", s.store.dir)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
