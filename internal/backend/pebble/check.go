package pebble

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
)

// ErrDamaged is wrapped by the errors about a store that does not hold what it
// was given.
var ErrDamaged = errors.New("the store is damaged")

// CheckOptions have a useful zero value.
type CheckOptions struct {
	// FS holds the files; nil is the operating system's.
	FS vfs.FS
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Progress is called now and then with how many bytes of how many have been
	// read.
	Progress func(done, total int64)
}

// Report says what a store holds and what is wrong with it.
type Report struct {
	Dir string `json:"dir"`
	// Format is the store's format version, Last the last seq that it gave, and
	// Mark the one that it had acknowledged by its mark.
	Format int        `json:"format"`
	Last   parley.Seq `json:"last"`
	Mark   parley.Seq `json:"mark"`
	// What it holds.
	Files    int   `json:"files"`
	Bytes    int64 `json:"bytes"`
	Streams  int   `json:"streams"`
	Messages int64 `json:"messages"` // the expired ones too
	Records  int64 `json:"records"`
	Keys     int64 `json:"keys"` // of idempotent publishes
	// Faults are the first of what is damaged, and More how many there are
	// beyond.
	Faults []Fault `json:"faults"`
	More   int     `json:"more"`
	// Notes are about what is unusual and no damage.
	Notes []string `json:"notes"`
}

// Sound reports whether nothing is damaged.
func (r *Report) Sound() bool { return len(r.Faults) == 0 }

// Fault is one thing that is damaged. Its fields are empty where they say
// nothing.
type Fault struct {
	// File is relative to the store.
	File string `json:"file,omitempty"`
	// Stream, and the seqs in it, both inclusive, that are concerned. To is 0
	// when it is not known how far it goes.
	Stream parley.Stream `json:"stream,omitempty"`
	From   parley.Seq    `json:"from,omitempty"`
	To     parley.Seq    `json:"to,omitempty"`
	// Problem says what is wrong, Advice what to do.
	Problem string `json:"problem"`
	Advice  string `json:"advice"`
}

func (f Fault) String() string {
	var b strings.Builder
	if f.File != "" {
		fmt.Fprintf(&b, "file %s: ", f.File)
	}
	if f.Stream != "" {
		fmt.Fprintf(&b, "stream %s", f.Stream)
		switch {
		case f.To != 0 && f.To != f.From:
			fmt.Fprintf(&b, ", seq %d to %d", f.From, f.To)
		case f.To != 0:
			fmt.Fprintf(&b, ", seq %d", f.From)
		case f.From != 0:
			fmt.Fprintf(&b, ", from seq %d on", f.From)
		}
		b.WriteString(": ")
	}
	b.WriteString(f.Problem)
	return b.String()
}

// What to do about a fault.
const (
	adviseRestore = "keep a copy of the directory and restore the newest backup"
	adviseIndex   = "the messages are whole, but reading by topic or counting may leave some out: restore a backup"
	adviseKeys    = "the messages are whole, but a publish that is sent again may be stored twice: restore a backup, or live with it for 24 hours"
	adviseRecord  = "what was kept under that key is lost: restore a backup"
	adviseUsage   = "the messages are whole, but that user may have more stored than the quota: restore a backup, or live with it"
	adviseNewer   = "use a newer program"
)

// maxFaults bounds what a report lists.
const maxFaults = 100

// checker looks through one store.
type checker struct {
	ctx      context.Context //nolint:containedctx // lives within one call, whose context it is
	dir      string
	fs       vfs.FS
	opt      CheckOptions
	db       *pebble.DB // nil when it cannot be opened
	report   Report
	postings int64 // that the blocks say there are
	broken   bool  // a table is damaged: what belongs together is not compared
	done     int64
	total    int64
}

// Check verifies the store in dir without changing it, and reports what is
// damaged. It reads every byte more than once and takes little memory. The error
// says why it could not be done: it wraps parley.ErrUnavailable when the store is
// in use and parley.ErrNotFound when there is none.
func Check(ctx context.Context, dir string, opt CheckOptions) (Report, error) {
	if opt.FS == nil {
		opt.FS = vfs.Default
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	c := &checker{ctx: ctx, dir: dir, opt: opt, fs: readOnlyFS{opt.FS}}
	c.report = Report{Dir: dir, Faults: []Fault{}, Notes: []string{}}
	if err := c.exists(); err != nil {
		return Report{}, err
	}
	if err := c.run(); err != nil {
		return Report{}, fmt.Errorf("pebble: check store %s: %w", dir, err)
	}
	return c.report, nil
}

// exists reports whether there is anything like a store.
func (c *checker) exists() error {
	for _, name := range []string{logName, markName} {
		_, err := c.fs.Stat(c.fs.PathJoin(c.dir, name))
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return fmt.Errorf("pebble: check: %w", err)
		}
	}
	return fmt.Errorf("there is no store in %s: %w", c.dir, parley.ErrNotFound)
}

func (c *checker) run() error {
	lock, err := c.lock()
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	c.files()
	if _, _, err := before(c.fs, c.dir); err != nil && c.report.Mark != 0 {
		c.fault(Fault{File: logName, Problem: err.Error(), Advice: adviseRestore})
	}
	if err := c.open(); err != nil {
		return err
	}
	if c.db == nil {
		return c.looseTables()
	}
	defer func() { _ = c.db.Close() }()
	faults := len(c.report.Faults)
	if err := c.tables(); err != nil {
		return err
	}
	// Pebble takes a second over each damaged block that it meets, to find out
	// how it differs from a whole one. So with a damaged table each block is read
	// once, and what belongs together is not compared.
	c.broken = len(c.report.Faults) > faults
	if !c.broken {
		if err := c.db.CheckLevels(nil); err != nil {
			c.fault(Fault{Problem: "the tables contradict each other: " + err.Error(), Advice: adviseRestore})
		}
	}
	return c.keys()
}

// lock keeps other processes from opening the store while it is checked.
func (c *checker) lock() (io.Closer, error) {
	lock, err := c.fs.Lock(c.fs.PathJoin(c.dir, logName, "LOCK"))
	if err != nil && (errors.Is(err, syscall.EAGAIN) || strings.Contains(err.Error(), "lock held by current process")) {
		return nil, fmt.Errorf("it is in use by another process: stop that first, or check a backup: %w", parley.ErrUnavailable)
	}
	return lock, err
}

// open opens the database for reading. What keeps it from opening is damage.
func (c *checker) open() error {
	fsys := unlockedFS{c.fs}
	o := pebbleOptions(Options{FS: fsys, Logger: slog.New(slog.DiscardHandler), Fatal: func(string) {}}, largestMemTable)
	defer o.Cache.Unref()
	o.ReadOnly = true
	db, err := pebble.Open(c.fs.PathJoin(c.dir, logName), o)
	if err != nil {
		c.fault(Fault{File: logName, Problem: "the database cannot be opened: " + err.Error(), Advice: adviseRestore})
		return c.ctx.Err()
	}
	c.db = db
	return nil
}

// fault reports one thing that is damaged.
func (c *checker) fault(f Fault) {
	if len(c.report.Faults) == maxFaults {
		c.report.More++
		return
	}
	c.report.Faults = append(c.report.Faults, f)
}

func (c *checker) note(format string, args ...any) {
	if len(c.report.Notes) < maxFaults {
		c.report.Notes = append(c.report.Notes, fmt.Sprintf(format, args...))
	}
}

// progress counts what was read.
func (c *checker) progress(n int) {
	const step = 4 << 20
	before := c.done / step
	c.done += int64(n)
	if c.opt.Progress != nil && c.done/step != before {
		c.opt.Progress(min(c.done, c.total), cmp.Or(c.total, 1))
	}
}

// readOnlyFS refuses whatever would change a file.
type readOnlyFS struct{ vfs.FS }

var errReadOnly = errors.New("a check changes nothing")

func (readOnlyFS) Create(string, vfs.DiskWriteCategory) (vfs.File, error) { return nil, errReadOnly }
func (readOnlyFS) Link(string, string) error                              { return errReadOnly }
func (readOnlyFS) Remove(string) error                                    { return errReadOnly }
func (readOnlyFS) RemoveAll(string) error                                 { return errReadOnly }
func (readOnlyFS) Rename(string, string) error                            { return errReadOnly }
func (readOnlyFS) MkdirAll(string, fs.FileMode) error                     { return errReadOnly }

func (readOnlyFS) OpenReadWrite(string, vfs.DiskWriteCategory, ...vfs.OpenOption) (vfs.File, error) {
	return nil, errReadOnly
}

func (readOnlyFS) ReuseForWrite(string, string, vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, errReadOnly
}

// Lock locks a file that is there; where there is none nothing is locked,
// because nothing uses it.
func (r readOnlyFS) Lock(name string) (io.Closer, error) {
	if _, err := r.Stat(name); err != nil {
		return unlocked{}, nil //nolint:nilerr // it is said above
	}
	return r.FS.Lock(name)
}

// unlockedFS is for the database that the checker opens: the checker itself
// holds the lock.
type unlockedFS struct{ vfs.FS }

func (unlockedFS) Lock(string) (io.Closer, error) { return unlocked{}, nil }

type unlocked struct{}

func (unlocked) Close() error { return nil }
