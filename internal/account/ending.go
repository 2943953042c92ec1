package account

import (
	"errors"
	"sync"
	"time"

	"github.com/parley-im/parley"
)

// mostEndings bounds the revocations that are remembered to be repeated.
const mostEndings = 256

// repeats are how long after a revocation its sessions are ended again. A session
// whose credential was verified just before the revocation may have begun only
// after it was carried out.
func repeats() []time.Duration {
	return []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}
}

// ending is a revocation that was carried out, and will be again.
type ending struct {
	match  func(*Principal) bool
	reason string
	began  time.Time
	done   int // how many of repeats
}

// endings are those of the last seconds.
type endings struct {
	mu   sync.Mutex // guards what follows
	list []*ending
}

// end ends the sessions of the principals that match.
func (d *Directory) end(match func(*Principal) bool, reason string) {
	if d.cfg.Revoked == nil {
		return
	}
	d.cfg.Revoked(match, reason)
	d.endings.mu.Lock()
	defer d.endings.mu.Unlock()
	if len(d.endings.list) >= mostEndings {
		d.endings.list = d.endings.list[1:]
	}
	d.endings.list = append(d.endings.list, &ending{match: match, reason: reason, began: time.Now()})
}

// endAgain repeats the revocations that are due.
func (d *Directory) endAgain(now time.Time) {
	for _, e := range d.endings.due(now) {
		d.cfg.Revoked(e.match, e.reason)
	}
}

func (l *endings) due(now time.Time) []*ending {
	l.mu.Lock()
	defer l.mu.Unlock()
	var due, left []*ending
	for _, e := range l.list {
		if now.Sub(e.began) >= repeats()[e.done] {
			due = append(due, e)
			e.done++
		}
		if e.done < len(repeats()) {
			left = append(left, e)
		}
	}
	l.list = left
	return due
}

var errUnchanged = errors.New("nothing to change")

// harmless are the errors of a write that has come too late.
func harmless(err error) bool {
	return errors.Is(err, errUnchanged) || errors.Is(err, parley.ErrNotFound) || errors.Is(err, parley.ErrConflict)
}
