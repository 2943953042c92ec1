package pebble_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// TestDamageCostsTheRead: whoever reads a damaged block gets an error, each
// time; the process goes on, other streams are read, messages are stored, and the
// log names the file once.
func TestDamageCostsTheRead(t *testing.T) {
	t.Parallel()
	c := buildStore(t, "d")
	largest := ""
	for name, p := range c.final {
		if kindOf(name) == "table" && len(p) > len(c.final[largest]) {
			largest = name
		}
	}
	c.final[largest][1400] ^= 1 // not in the first block, which is looked at when the store is opened
	fsys, err := c.final.put()
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	opt := sweepOptions(fsys)
	opt.Logger = slog.New(slog.NewTextHandler(&log, nil))
	opt.Fatal = func(message string) { t.Errorf("the process would end: %s", message) }
	db := mustOpen(t, "s", opt)
	for range 3 {
		if _, err := db.Read(t.Context(), backend.Query{Stream: "s0"}); err == nil {
			t.Error("a stream with a damaged block is read without an error")
		}
		if page, err := db.Read(t.Context(), backend.Query{Stream: "s2"}); err != nil || len(page.Messages) == 0 {
			t.Errorf("another stream is read as %d messages, %v", len(page.Messages), err)
		}
	}
	if n := db.Stats().DamagedFiles; n != 1 {
		t.Errorf("%d files are counted as damaged, want 1", n)
	}
	if n := strings.Count(log.String(), "is damaged"); n != 1 {
		t.Errorf("the log tells of damage %d times, want once:\n%s", n, &log)
	}
	appendOne(t, db, backend.Entry{Message: &parley.Message{Topic: "/s0", Body: []byte("goes on")}})
	mustClose(t, db)
}
