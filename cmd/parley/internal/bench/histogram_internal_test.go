package bench

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBucketsFollowEachOther(t *testing.T) {
	for i := range len(histogram{}.buckets) {
		if got := bucket(least(i)); got != i {
			t.Fatalf("bucket %d begins at %d, which belongs to %d", i, least(i), got)
		}
		if i > 0 {
			if got := bucket(least(i) - 1); got != i-1 {
				t.Fatalf("%d belongs to bucket %d, want %d", least(i)-1, got, i-1)
			}
		}
	}
}

func TestQuantilesAreCloseToTheTruth(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var a, b histogram
	var all []int64
	for i := range 10_000 {
		v := r.Int64N(1 << r.IntN(37))
		all = append(all, v)
		if i%2 == 0 {
			a.add(v)
		} else {
			b.add(v)
		}
	}
	a.merge(&b)
	slices.Sort(all)
	for _, q := range []float64{0, 0.5, 0.9, 0.99, 0.999} {
		want := all[int(q*float64(len(all)))]
		got := a.quantile(q).Microseconds()
		if got > want || float64(got) < float64(want)*31/32-1 {
			t.Errorf("quantile %v is %d, want %d or up to 1/32 less", q, got, want)
		}
	}
	if got := a.quantile(1); got != time.Duration(all[len(all)-1])*time.Microsecond {
		t.Errorf("largest is %v, want %d µs", got, all[len(all)-1])
	}
}
