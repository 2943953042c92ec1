package pebble

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A manifest is the file in which Pebble notes which tables there are. When it
// reads one it takes a damaged record for the end of the file, and so forgets
// tables silently. Therefore the mark remembers which manifest counts and how
// much of it was synced, and at the next start that much must be readable.

// place is a position in a manifest: its number, and a length in bytes.
type place struct{ number, size uint64 }

// watchFS is between Pebble and the files. It sees how much of each manifest is
// synced. And it lets Pebble delete nothing before the store was found whole: of
// a damaged one Pebble would delete what could still be rescued.
type watchFS struct {
	vfs.FS
	bare vfs.FS // for the copies that a backup makes, see Create
	seen *manifests
	gate *gate
}

// gate holds up deletions until it is decided whether they may be.
type gate struct {
	decided chan struct{}
	once    sync.Once
	open    bool // set before decided is closed
}

func newGate() *gate { return &gate{decided: make(chan struct{})} }

// decide lets the deletions be done, or drops them.
func (g *gate) decide(open bool) {
	g.once.Do(func() {
		g.open = open
		close(g.decided)
	})
}

// Remove implements vfs.FS. Pebble deletes tables, logs and manifests in a
// goroutine of its own, which may wait.
func (fs watchFS) Remove(name string) error {
	if base := path.Base(name); strings.HasSuffix(base, ".sst") || strings.HasSuffix(base, ".log") || strings.HasPrefix(base, "MANIFEST-") {
		if <-fs.gate.decided; !fs.gate.open {
			return nil
		}
	}
	return fs.FS.Remove(name)
}

// manifests is what a watchFS has seen of them.
type manifests struct {
	mu      sync.Mutex
	current uint64            // the manifest that the database would be opened with
	synced  map[uint64]uint64 // by number
}

// place is how far the manifest that counts is synced.
func (m *manifests) place() place {
	m.mu.Lock()
	defer m.mu.Unlock()
	return place{m.current, m.synced[m.current]}
}

// created is called when a new manifest counts, durably.
func (m *manifests) created(i pebble.ManifestCreateInfo) {
	if i.Err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.current = uint64(i.FileNum)
	for number := range m.synced {
		if number < m.current {
			delete(m.synced, number)
		}
	}
}

// Create implements vfs.FS. The copies that a backup makes are no part of the
// store: one that cannot be written fails the backup, and does not end the
// process or cost the ballast.
func (fs watchFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if fs.PathBase(fs.PathDir(name)) == backupDir {
		return fs.bare.Create(name, c)
	}
	f, err := fs.FS.Create(name, c)
	number, ok := manifestNumber(path.Base(name))
	if err != nil || !ok {
		return f, err
	}
	return &manifestFile{File: f, fs: fs.FS, dir: fs.PathDir(name), seen: fs.seen, number: number}, nil
}

// manifestNumber reads the number of a manifest from its name.
func manifestNumber(base string) (uint64, bool) {
	digits, ok := strings.CutPrefix(base, "MANIFEST-")
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, ok && err == nil
}

// manifestFile counts what is written to a new manifest.
type manifestFile struct {
	vfs.File
	fs            vfs.FS
	dir           string
	seen          *manifests
	number, bytes uint64
	named         bool // its name is durable
}

// Write implements vfs.File.
func (f *manifestFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.bytes += uint64(n)
	return n, err
}

// Sync implements vfs.File. It makes the name durable, too: Pebble does that only
// together with the marker's, which says that this manifest counts, and where one
// of two names can be lost in a power cut, that may be the wrong one.
func (f *manifestFile) Sync() error {
	err := f.File.Sync()
	if err == nil && !f.named {
		err = syncDir(f.fs, f.dir)
		f.named = err == nil
	}
	if err == nil {
		f.seen.mu.Lock()
		f.seen.synced[f.number] = f.bytes
		f.seen.mu.Unlock()
	}
	return err
}

// checkManifest compares the manifest that counts with what the mark remembers.
func checkManifest(fsys vfs.FS, dir string, want place) error {
	if want.number == 0 {
		return nil
	}
	names, err := fsys.List(dir)
	if err != nil {
		return err
	}
	current, iter := "", uint64(0)
	for _, name := range names {
		rest, ok := strings.CutPrefix(name, "marker.manifest.")
		digits, manifest, _ := strings.Cut(rest, ".")
		if n, err := strconv.ParseUint(digits, 10, 64); ok && err == nil && n >= iter {
			current, iter = manifest, n
		}
	}
	number, ok := manifestNumber(current)
	switch {
	case !ok:
		return fmt.Errorf("no file marker.manifest names a manifest: %w", ErrDamaged)
	case number < want.number:
		return fmt.Errorf("marker.manifest names %s, an older manifest than the last one, %d: %w", current, want.number, ErrDamaged)
	case number > want.number:
		return nil // made after the mark was written
	}
	readable, err := readManifest(fsys, fsys.PathJoin(dir, current))
	if readable < want.size {
		return fmt.Errorf("%s can be read up to byte %d of %d (%w): %w", current, readable, want.size, err, ErrDamaged)
	}
	return nil
}

// readManifest tells how many bytes of a manifest make sense, and why not more.
func readManifest(fsys vfs.FS, name string) (uint64, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	r := record.NewReader(f, 0)
	whole := uint64(0)
	for {
		entry, err := r.Next()
		if err == nil {
			_, err = io.Copy(io.Discard, entry)
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("it ends there")
			}
			return whole, err
		}
		whole = uint64(r.Offset())
	}
}
