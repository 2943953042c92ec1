package bench

import (
	"math/bits"
	"time"
)

// subBuckets is how many buckets each power of two is divided into: a duration
// is known to one part in 32.
const subBuckets = 32

// histogram counts durations in microseconds. It is for one goroutine; the
// workers' histograms are merged when they are done.
type histogram struct {
	buckets [subBuckets * 33]uint32 // up to 2^37 µs, 38 hours
	count   uint64
	most    int64
}

// bucket is where v belongs, which is not negative: each below 64 by itself,
// then 32 to a power of two.
func bucket(v int64) int {
	if v < 2*subBuckets {
		return int(v)
	}
	shift := bits.Len64(uint64(v)) - 6
	return shift*subBuckets + int(v>>shift)
}

// least is the smallest value of bucket i.
func least(i int) int64 {
	if i < 2*subBuckets {
		return int64(i)
	}
	shift := i/subBuckets - 1
	return int64(i%subBuckets+subBuckets) << shift
}

// add counts one duration of µs; a negative one, from a clock read out of
// order, counts as 0.
func (h *histogram) add(µs int64) {
	µs = max(µs, 0)
	h.buckets[min(bucket(µs), len(h.buckets)-1)]++
	h.count++
	h.most = max(h.most, µs)
}

// merge adds what o counted.
func (h *histogram) merge(o *histogram) {
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
	h.count += o.count
	h.most = max(h.most, o.most)
}

// quantile is the duration that the share q of all does not exceed.
func (h *histogram) quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.count))
	for i, n := range h.buckets {
		if rank < uint64(n) {
			return time.Duration(min(least(i), h.most)) * time.Microsecond
		}
		rank -= uint64(n)
	}
	return time.Duration(h.most) * time.Microsecond
}
