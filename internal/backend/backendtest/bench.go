package backendtest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// BenchLog measures a log: messages appended per second by one caller in
// batches of 1, 100 and 1000, by many callers at once, and messages read per
// second in pages of 1000, of a stream and of one topic in ten. open returns a
// new, empty log and closes it when the benchmark ends.
func BenchLog(b *testing.B, open func(b *testing.B) backend.Log) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("Append/%d", n), func(b *testing.B) { benchAppend(b, open(b), n) })
	}
	b.Run("Append/Parallel", func(b *testing.B) { benchParallel(b, open(b)) })
	b.Run("Read/Stream", func(b *testing.B) { benchRead(b, open(b), "") })
	b.Run("Read/Topic", func(b *testing.B) { benchRead(b, open(b), "/a/b3") })
}

// benchBatch makes n entries of 100 bytes, spread over ten topics.
func benchBatch(n int) []backend.Entry {
	list := make([]backend.Entry, n)
	for i := range list {
		list[i].Message = &parley.Message{Topic: parley.Topic(fmt.Sprint("/a/b", i%10)), Body: pattern(100)}
	}
	return list
}

func benchAppend(b *testing.B, log backend.Log, n int) {
	done := 0
	for b.Loop() {
		b.StopTimer()
		batch := benchBatch(n)
		b.StartTimer()
		if _, err := log.Append(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
		done += n
	}
	perSecond(b, done)
}

func benchParallel(b *testing.B, log backend.Log) {
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := log.Append(b.Context(), benchBatch(1)); err != nil {
				b.Error(err)
				return
			}
		}
	})
	perSecond(b, b.N)
}

func benchRead(b *testing.B, log backend.Log, topic parley.Topic) {
	for range 20 {
		if _, err := log.Append(b.Context(), benchBatch(1000)); err != nil {
			b.Fatal(err)
		}
	}
	q := backend.Query{Stream: "a", Topic: topic, Limit: 1000}
	read := 0
	for b.Loop() {
		page, err := log.Read(b.Context(), q)
		if err != nil {
			b.Fatal(err)
		}
		read += len(page.Messages)
		q.After = page.Next
		if !page.More {
			q.After = 0
		}
	}
	perSecond(b, read)
}

func perSecond(b *testing.B, messages int) {
	b.ReportMetric(float64(messages)/b.Elapsed().Seconds(), "msgs/s")
}

// BenchKV measures a KV: records put per second by one caller, and by 64 at once
// of whom each has a key of its own, who should share an fsync. open returns a
// new, empty KV and closes it when the benchmark ends.
func BenchKV(b *testing.B, open func(b *testing.B) backend.KV) {
	b.Run("Put", func(b *testing.B) { benchPut(b, open(b), 1) })
	b.Run("Put/Parallel", func(b *testing.B) { benchPut(b, open(b), 64) })
}

func benchPut(b *testing.B, kv backend.KV, callers int) {
	var wg sync.WaitGroup
	share := b.N/callers + 1
	b.ResetTimer()
	for i := range callers {
		wg.Go(func() {
			r := backend.Record{Key: fmt.Sprint("bench/", i), Value: pattern(100)}
			for range share {
				rev, err := kv.Put(b.Context(), r)
				if err != nil {
					b.Error(err)
					return
				}
				r.Rev = rev
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(share*callers)/b.Elapsed().Seconds(), "puts/s")
}
