package pebble

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// damage remembers which files turned out to be damaged when they were read. The
// read gets an error and nothing else suffers: what is whole is served on, and
// the operator decides. (By default Pebble would end the process, and again each
// time that somebody reads there.)
type damage struct {
	opt *Options

	mu    sync.Mutex
	files map[string]struct{}
}

// found is told by Pebble of each read that finds damage; each file is logged
// once.
func (d *damage) found(info pebble.DataCorruptionInfo) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.files[info.Path]; known {
		return
	}
	if d.files == nil {
		d.files = map[string]struct{}{}
	}
	d.files[info.Path] = struct{}{}
	d.opt.Logger.Error("a file of the store is damaged; reads that need it fail; parley doctor says more", "file", info.Path, "error", info.Details)
}

func (d *damage) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.files)
}
