package pebble

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
)

var _ pebble.Logger = logger{}

// logger takes what Pebble says. Its Infof is about every flush and compaction,
// which nobody needs; Fatalf means that the WAL could not be written.
type logger struct{ opt Options }

func (l logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	for _, a := range args {
		if err, ok := a.(error); ok && errors.Is(err, syscall.ENOSPC) {
			return // A full disk is logged once, see space; Pebble tries every second.
		}
	}
	l.opt.Logger.Error("pebble reports an error", "error", fmt.Sprintf(format, args...))
}

func (l logger) Fatalf(format string, args ...any) {
	l.opt.Fatal(fmt.Sprintf(format, args...))
}

func noCompression() *sstable.CompressionProfile { return sstable.NoCompression }
