package pebble_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/backendtest"
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

// BenchmarkKV puts records on a real disk, where an fsync takes its time.
func BenchmarkKV(b *testing.B) {
	backendtest.BenchKV(b, func(b *testing.B) backend.KV {
		db, err := pebble.Open(filepath.Join(b.TempDir(), "store"), pebble.Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			if err := db.Close(); err != nil {
				b.Error(err)
			}
		})
		return db
	})
}

// BenchmarkBackup reads a store of 64 MiB on disk while somebody publishes, and
// says what that costs the publisher: p99 of a commit with and without a backup.
// The second figure is that of "parley backup --rate 50MiB".
func BenchmarkBackup(b *testing.B) {
	db, err := pebble.Open(filepath.Join(b.TempDir(), "store"), pebble.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	body := make([]byte, 16<<10)
	r := rand.NewChaCha8([32]byte{})
	for range 64 {
		var batch []backend.Entry
		for range 64 {
			_, _ = r.Read(body)
			batch = append(batch, backend.Entry{Message: &parley.Message{Topic: "/a/b", Body: bytes.Clone(body)}})
		}
		if _, err := db.Append(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	for _, rate := range []int64{0, 50 << 20} {
		b.Run(fmt.Sprintf("%d MiB a second", rate>>20), func(b *testing.B) {
			quiet := commits(b, db, func() { <-time.After(time.Second) })
			var size int64
			busy := commits(b, db, func() {
				for b.Loop() {
					a, err := db.Backup(b.Context(), io.Discard, pebble.BackupOptions{Rate: rate})
					if err != nil {
						b.Fatal(err)
					}
					size = a.Bytes
				}
			})
			b.SetBytes(size)
			b.ReportMetric(float64(quiet.Microseconds()), "quiet-p99-µs")
			b.ReportMetric(float64(busy.Microseconds()), "busy-p99-µs")
		})
	}
}

// commits publishes one message after the other while do runs, and returns the
// 99th percentile of how long one took.
func commits(b *testing.B, db *pebble.DB, do func()) time.Duration {
	ctx, stop := context.WithCancel(b.Context())
	var load sync.WaitGroup
	var took []time.Duration
	load.Go(func() {
		for ctx.Err() == nil {
			began := time.Now()
			if _, err := db.Append(context.WithoutCancel(ctx), []backend.Entry{newEntry("x")}); err != nil {
				b.Error(err)
				return
			}
			took = append(took, time.Since(began))
		}
	})
	do()
	stop()
	load.Wait()
	slices.Sort(took)
	if len(took) == 0 {
		return 0
	}
	return took[len(took)*99/100]
}
