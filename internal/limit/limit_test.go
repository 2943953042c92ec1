package limit_test

import (
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/limit"
)

// TestRate: a burst at once, then the rate, and never more than both in any
// stretch of time.
func TestRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table := limit.NewTable[string](0)
		rate := limit.Rate{Count: 10, Per: time.Second, Burst: 5}
		for i := range 5 {
			if wait := table.Spend("ann", rate, 1); wait != 0 {
				t.Fatalf("number %d of the burst waits %v", i+1, wait)
			}
		}
		if wait := table.Spend("ann", rate, 1); wait != 100*time.Millisecond {
			t.Errorf("after the burst the wait is %v, want 100ms", wait)
		}
		if wait := table.Spend("bob", rate, 1); wait != 0 {
			t.Errorf("Bob waits %v for Ann", wait)
		}
		time.Sleep(100 * time.Millisecond) // in the bubble
		if wait := table.Spend("ann", rate, 1); wait != 0 {
			t.Errorf("who has waited waits %v", wait)
		}
		time.Sleep(time.Hour)
		done := 0
		for table.Spend("ann", rate, 1) == 0 {
			done++
		}
		if done != 5 {
			t.Errorf("after an hour %d at once, want the burst of 5", done)
		}
	})
}

// TestMoreThanABurst: one request for more than the burst is let through when
// nothing is used, and paid for by who comes next.
func TestMoreThanABurst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table := limit.NewTable[int](0)
		rate := limit.Rate{Count: 100, Per: time.Second, Burst: 100}
		if wait := table.Spend(1, rate, 1000); wait != 0 {
			t.Fatalf("the first waits %v", wait)
		}
		if wait := table.Spend(1, rate, 1); wait < 9*time.Second || wait > 10*time.Second {
			t.Errorf("the next waits %v, want about 9 s", wait)
		}
		for range 3 {
			table.Spend(2, rate, 1<<62)
		}
		if wait := table.Spend(2, rate, 1); wait <= 0 {
			t.Errorf("after everything the wait is %v", wait)
		}
	})
}

// TestSpentAndReturn: looking costs nothing, and what is given back can be used.
func TestSpentAndReturn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table := limit.NewTable[int](0)
		rate := limit.Rate{Count: 1, Per: time.Minute, Burst: 2}
		for range 5 {
			if wait := table.Spent(1, rate, 2); wait != 0 {
				t.Fatalf("looking costs %v", wait)
			}
		}
		table.Spend(1, rate, 2)
		if wait := table.Spent(1, rate, 1); wait != time.Minute {
			t.Errorf("the wait is %v, want 1m", wait)
		}
		table.Return(1, rate, 1)
		if wait := table.Spend(1, rate, 1); wait != 0 {
			t.Errorf("what was given back waits %v", wait)
		}
		table.Return(7, rate, 1) // unknown: nothing to give back
		if n := table.Len(); n != 1 {
			t.Errorf("%d keys, want 1", n)
		}
		if wait := table.Spend(1, limit.Rate{}, 1<<40); wait != 0 {
			t.Errorf("no limit waits %v", wait)
		}
	})
}

// TestTableIsBounded: made-up keys cost no memory beyond the table, and those
// that are held back stay so while others come and go.
func TestTableIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const most = 1024
		table := limit.NewTable[string](most)
		rate := limit.Rate{Count: 1, Per: time.Second, Burst: 1}
		held := limit.Rate{Count: 1, Per: time.Hour, Burst: 1}
		for i := range 8 {
			table.Spend("held"+strconv.Itoa(i), held, 1)
		}
		for i := range 100 * most {
			table.Spend("key"+strconv.Itoa(i), rate, 1)
			if i%most == 0 {
				time.Sleep(2 * time.Second)
			}
		}
		if n := table.Len(); n > most {
			t.Errorf("%d keys, want at most %d", n, most)
		}
		for i := range 8 {
			if table.Spent("held"+strconv.Itoa(i), held, 1) == 0 {
				t.Errorf("held%d was forgotten", i)
			}
		}
	})
}

// TestConcurrent: a burst is given once, whoever asks at the same time.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	table := limit.NewTable[int](0)
	rate := limit.Rate{Count: 1, Per: 24 * time.Hour, Burst: 100}
	var given atomic.Int64
	var asking sync.WaitGroup
	for range 8 {
		asking.Go(func() {
			for range 1000 {
				if table.Spend(1, rate, 1) == 0 {
					given.Add(1)
				}
			}
		})
	}
	asking.Wait()
	if n := given.Load(); n != 100 {
		t.Errorf("%d were given, want 100", n)
	}
}

func TestExceededError(t *testing.T) {
	t.Parallel()
	err := error(&limit.ExceededError{What: "publishes of this user", After: 1234 * time.Millisecond})
	if !errors.Is(err, parley.ErrUnavailable) || !strings.HasPrefix(err.Error(), "too many publishes of this user, try again in 2s") {
		t.Errorf("%v", err)
	}
}

func BenchmarkSpend(b *testing.B) {
	table := limit.NewTable[string](0)
	rate := limit.Rate{Count: 1 << 40, Per: time.Second, Burst: 1 << 40}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			table.Spend("ann", rate, 1)
		}
	})
}
