package pebble

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/parley-im/parley"
)

// files looks at which files there are, and reads the mark.
func (c *checker) files() {
	for _, name := range c.list("") {
		switch name {
		case logName, markName, ballastName:
		case backupDir:
			c.note("%s is left from a backup that was broken off; the next start removes it", name)
		default:
			c.note("%s is not the store's", name)
		}
	}
	for _, name := range c.list(logName) {
		if isStoreFile(name) {
			c.report.Files++
			c.report.Bytes += c.size(name)
		} else if name != "LOCK" && !strings.HasSuffix(name, ".dbtmp") {
			c.note("%s is not the store's", filepath.Join(logName, name))
		}
	}
	m, err := readMarkFile(c.fs, c.fs.PathJoin(c.dir, markName))
	switch {
	case errors.Is(err, errNewerMark):
		c.fault(Fault{File: markName, Problem: err.Error(), Advice: adviseNewer})
	case err != nil:
		c.fault(Fault{File: markName, Problem: err.Error(), Advice: adviseRestore})
	}
	c.report.Mark = m.seq
	if m.slots == 1 {
		c.note("one of the two slots of the mark cannot be read: torn by a crash, or damaged; the other one counts")
	}
}

// list is what a directory of the store has.
func (c *checker) list(dir string) []string {
	names, err := c.fs.List(c.fs.PathJoin(c.dir, dir))
	if err != nil {
		c.fault(Fault{File: dir, Problem: err.Error(), Advice: adviseRestore})
	}
	slices.Sort(names)
	for _, name := range names {
		c.looks(filepath.Join(dir, name))
	}
	return names
}

// looks notes what is strange about a file on a real file system.
func (c *checker) looks(name string) {
	info, err := os.Lstat(filepath.Join(c.dir, name))
	switch {
	case errors.Is(err, fs.ErrNotExist): // not on a real file system
	case err != nil:
		c.note("%v", err)
	case info.Mode()&fs.ModeSymlink != 0:
		c.note("%s is a symbolic link: the store itself makes none", name)
	case !info.IsDir() && !info.Mode().IsRegular():
		c.fault(Fault{File: name, Problem: "it is no file but " + info.Mode().Type().String(), Advice: adviseRestore})
	}
}

// size is that of a file of the database, or 0.
func (c *checker) size(name string) int64 {
	info, err := c.fs.Stat(c.fs.PathJoin(c.dir, logName, name))
	if err != nil {
		c.fault(Fault{File: filepath.Join(logName, name), Problem: err.Error(), Advice: adviseRestore})
		return 0
	}
	return info.Size()
}

// tables reads every block of every table that the database has.
func (c *checker) tables() error {
	levels, err := c.db.SSTables()
	if err != nil {
		return err
	}
	for _, level := range levels {
		for _, t := range level {
			c.total += 2 * int64(t.Size) // now, and when the keys are read
		}
	}
	for _, level := range levels {
		for _, t := range level {
			if err := c.ctx.Err(); err != nil {
				return err
			}
			name := tableName(t)
			err := errors.Join(checkBlocks(c.fs, c.fs.PathJoin(c.dir, logName, name)), checkBounds(c.fs, c.fs.PathJoin(c.dir, logName, name), t))
			if err != nil {
				c.tableFault(name, err, t.Smallest.UserKey, t.Largest.UserKey)
			}
			c.progress(int(t.Size))
		}
	}
	return nil
}

// tableFault reports a damaged table, and what should be in it.
func (c *checker) tableFault(name string, err error, smallest, largest []byte) {
	f := Fault{File: filepath.Join(logName, name), Problem: err.Error(), Advice: adviseRestore}
	s1, from := blockOf(smallest)
	s2, to := blockOf(largest)
	if s1 != "" && s1 == s2 {
		f.Stream, f.From, f.To = s1, from, to
	} else {
		f.Problem += fmt.Sprintf(" (it holds what lies between %s and %s)", describeKey(smallest), describeKey(largest))
	}
	c.fault(f)
}

// looseTables reads the tables of a database that cannot be opened.
func (c *checker) looseTables() error {
	for _, name := range c.list(logName) {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		if err := checkBlocks(c.fs, c.fs.PathJoin(c.dir, logName, name)); err != nil {
			c.fault(Fault{File: filepath.Join(logName, name), Problem: err.Error(), Advice: adviseRestore})
		}
	}
	return nil
}

// blockOf reads the key of a block; the stream is empty for other keys.
func blockOf(key []byte) (parley.Stream, parley.Seq) {
	if len(key) < 1+1+1+seqBytes || key[0] != kindBlock || key[len(key)-seqBytes-1] != 0 {
		return "", 0
	}
	return streamOf(key), seqOf(key)
}

// describeKey says in words what a key is for.
func describeKey(key []byte) string {
	if len(key) == 0 {
		return "nothing"
	}
	if s, seq := blockOf(key); s != "" {
		return fmt.Sprintf("seq %d of stream %s", seq, s)
	}
	name, _, _ := strings.Cut(string(key[1:]), "\x00")
	switch key[0] {
	case kindTopic:
		return fmt.Sprintf("the topics of stream %s", name)
	case kindFloor:
		return fmt.Sprintf("the floor of stream %s", name)
	case kindDedup:
		return "the idempotency keys"
	case kindWindow:
		return "the order of the idempotency keys"
	case kindRecord:
		return fmt.Sprintf("record %q", key[1:])
	case kindUsage:
		return fmt.Sprintf("the usage of user %x", key[1:])
	case kindMeta:
		return fmt.Sprintf("the store's %q", key[1:])
	}
	return fmt.Sprintf("key %q", key)
}
