package pebble_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/pebble"
)

// BenchmarkAppend commits 500 messages at a time; a figure is for one message.
func BenchmarkAppend(b *testing.B) {
	for _, bench := range []struct {
		name   string
		topics int
		format string
	}{
		{"4 roots", 4, "/r%d"},
		{"1M roots", 1_000_000, "/r%d"},
		{"4 topics of one root", 4, "/root/x%d"},
		{"1k topics of one root", 1000, "/root/x%d"},
		{"1M topics of one root", 1_000_000, "/root/x%d"},
		{"1M topics at depth 4", 1_000_000, "/root/a/b/x%d"},
		{"1M topics at depth 16", 1_000_000, "/root/1/2/3/4/5/6/7/8/9/0/a/b/c/d/x%d"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			db, err := pebble.Open("store", pebble.Options{FS: vfs.NewMem()})
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			topics := make([]parley.Topic, 100_000)
			for i := range topics {
				topics[i] = parley.Topic(fmt.Sprintf(bench.format, rand.IntN(bench.topics)))
			}
			body := []byte("a message of thirty-two bytes...")
			b.ResetTimer()
			for n := 0; n < b.N; n += 500 {
				entries := make([]backend.Entry, 500)
				messages := make([]parley.Message, 500)
				for i := range entries {
					messages[i] = parley.Message{Topic: topics[(n+i)%len(topics)], Body: body}
					entries[i].Message = &messages[i]
				}
				if _, err := db.Append(b.Context(), entries); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(db.Stats().DiskBytes)/float64(b.N), "disk-B/op")
		})
	}
}
