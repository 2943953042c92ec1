package account

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/parley-im/parley"
)

// How exactly it is kept when somebody was here, and how much of it waits.
const (
	seenGrain   = time.Minute
	usedGrain   = time.Hour
	flushEvery  = time.Minute
	flushers    = 16      // writes at a time: they share an fsync
	mostPending = 100_000 // devices and keys; beyond, what is new is forgotten
)

// pending is who was here and is not written yet: connecting must not cost an
// fsync each time. A crash forgets it.
type pending struct {
	mu      sync.Mutex // guards what follows
	devices map[parley.Identity]time.Time
	keys    map[string]time.Time
	full    chan struct{} // has one when it is time to write before the minute is over
}

func (p *pending) init() {
	p.devices, p.keys, p.full = map[parley.Identity]time.Time{}, map[string]time.Time{}, make(chan struct{}, 1)
}

// seen notes that a device was here.
func (p *pending) seen(id parley.Identity, t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	note(p, p.devices, id, t)
}

// used notes that a key was used.
func (p *pending) used(key string, t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	note(p, p.keys, key, t)
}

func note[K comparable](p *pending, m map[K]time.Time, k K, t time.Time) {
	if old, ok := m[k]; ok || len(p.devices)+len(p.keys) < mostPending {
		if t.After(old) {
			m[k] = t
		}
	}
	if len(p.devices)+len(p.keys) < mostPending/2 {
		return
	}
	select {
	case p.full <- struct{}{}:
	default:
	}
}

// overlay puts what is not written yet into devices.
func (p *pending) overlay(user string, devices []Device) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.devices) == 0 {
		return
	}
	for i := range devices {
		if t := p.devices[parley.Identity{User: user, Device: devices[i].Name}]; t.After(devices[i].Seen) {
			devices[i].Seen = t
		}
	}
}

func (p *pending) usedAt(key string, written time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.keys[key]; t.After(written) {
		return t
	}
	return written
}

// take empties it. What was taken and is not written yet shows its older time for
// that moment.
func (p *pending) take() (devices map[string]map[string]time.Time, keys map[string]time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	devices, keys = map[string]map[string]time.Time{}, p.keys
	for id, t := range p.devices {
		if devices[id.User] == nil {
			devices[id.User] = map[string]time.Time{}
		}
		devices[id.User][id.Device] = t
	}
	p.devices, p.keys = map[parley.Identity]time.Time{}, map[string]time.Time{}
	return devices, keys
}

// Left notes that a device has disconnected.
func (d *Directory) Left(id parley.Identity) {
	if id.User == "" || id.Device == "" {
		return
	}
	d.pending.seen(id, d.cfg.Clock.Now().Truncate(seenGrain))
}

// flush writes who was here.
func (d *Directory) flush(ctx context.Context) {
	devices, keys := d.pending.take()
	users := slices.Collect(maps.Keys(devices))
	d.each(ctx, users, func(name string) error {
		_, _, err := d.alter(ctx, name, false, func(u *user) error {
			changed := false
			for i := range u.Devices {
				if t := devices[name][u.Devices[i].Name]; t.After(u.Devices[i].Seen) {
					u.Devices[i].Seen, changed = t, true
				}
			}
			if !changed {
				return errUnchanged
			}
			return nil
		})
		return err
	})
	d.each(ctx, slices.Collect(maps.Keys(keys)), func(id string) error { return d.keyUsed(ctx, id, keys[id]) })
}

// each calls write with every name, some at a time. What fails is told once: the
// next time that somebody is seen is soon enough.
func (d *Directory) each(ctx context.Context, names []string, write func(name string) error) {
	var writing sync.WaitGroup
	defer writing.Wait()
	var once sync.Once
	share := (len(names) + flushers - 1) / flushers
	for part := range slices.Chunk(names, max(1, share)) {
		writing.Go(func() {
			for _, name := range part {
				if err := write(name); err != nil && !harmless(err) && ctx.Err() == nil {
					once.Do(func() { d.cfg.Logger.WarnContext(ctx, "cannot write when devices were seen", "error", err) })
				}
			}
		})
	}
}
