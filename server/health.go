package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/httpapi"
)

// checks are what must be well for the server to be healthy.
func (s *Server) checks() []httpapi.Check {
	checks := []httpapi.Check{s.readiness(), {Name: "store", Run: onceASecond(s.storeWritable)}}
	if s.store.dir != "" {
		checks = append(checks, httpapi.Check{Name: "disk", Run: func(context.Context) error {
			disk, err := diskOf(s.store.dir)
			if err != nil {
				return err
			}
			return disk.full()
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
	old, err := db.Get(ctx, key)
	if err != nil && !errors.Is(err, parley.ErrNotFound) {
		return err
	}
	_, err = db.Put(ctx, backend.Record{Key: key, Value: []byte(time.Now().UTC().Format(time.RFC3339)), Rev: old.Rev})
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

// disk is the room of a file system, in bytes.
type disk struct{ free, total int64 }

// full is an error when there is next to no room.
func (d disk) full() error {
	const share, enough = 100, 1 << 30
	if d.free < min(d.total/share, enough) {
		return fmt.Errorf("%s free of %s", formatSize(d.free>>20<<20), formatSize(d.total>>20<<20))
	}
	return nil
}

// low reports whether somebody should make room soon.
func (d disk) low() bool {
	const share, enough = 20, 10 << 30
	return d.free < min(d.total/share, enough)
}

// watchDisk logs when the disk becomes low, and when it is not any more.
func (s *Server) watchDisk(ctx context.Context) error {
	if s.store.dir == "" {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	wasLow := false
	for {
		if d, err := diskOf(s.store.dir); err == nil && d.low() != wasLow {
			wasLow = d.low()
			if wasLow {
				s.logger.WarnContext(ctx, "the disk is getting full", "free_bytes", d.free, "total_bytes", d.total, "dir", s.store.dir)
			} else {
				s.logger.InfoContext(ctx, "the disk has room again", "free_bytes", d.free, "total_bytes", d.total, "dir", s.store.dir)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
