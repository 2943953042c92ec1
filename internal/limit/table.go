package limit

import (
	"hash/maphash"
	"sync"
	"time"
)

const (
	shards = 16
	// DefaultKeys is how many keys a table remembers unless told otherwise: a few
	// megabytes.
	DefaultKeys = 1 << 16
	// examined is how many keys are looked at to make room for one.
	examined = 8
)

// Table remembers for each key how much of its rate is used. Its methods may be
// called concurrently.
//
// A key that has used nothing lately is as good as one that was never seen, and
// is forgotten first. When all keys are busy, the least busy of a few is: who
// can make up that many keys is not held back by a rate for each key anyway.
type Table[K comparable] struct {
	began  time.Time
	seed   maphash.Seed
	most   int // keys of one shard
	shards [shards]shard[K]
}

type shard[K comparable] struct {
	mu sync.Mutex
	// paid is the time since the table began up to which a key has used its
	// rate. The rate itself may change at any time.
	paid map[K]time.Duration
}

// NewTable makes a table of at most so many keys, rounded up to shards; 0 is
// DefaultKeys.
func NewTable[K comparable](keys int) *Table[K] {
	if keys <= 0 {
		keys = DefaultKeys
	}
	return &Table[K]{began: time.Now(), seed: maphash.MakeSeed(), most: (keys + shards - 1) / shards}
}

// Spend uses n of what key may have, if there is that much, and otherwise nothing
// and tells how long to wait. More than a whole burst may be used by who has used
// nothing, and is then waited for.
func (t *Table[K]) Spend(key K, r Rate, n int64) (wait time.Duration) {
	if !r.Limited() || n <= 0 {
		return 0
	}
	burst, cost := r.spacing(max(r.Burst, 1)), r.spacing(n)
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Since(t.began)
	paid := max(s.paid[key], now)
	if wait := paid + min(cost, burst) - burst - now; wait > 0 {
		return wait
	}
	s.put(key, min(paid+cost, now+maxDebt), now, t.most)
	return 0
}

// Spent tells how long key would have to wait for n, and uses nothing.
func (t *Table[K]) Spent(key K, r Rate, n int64) (wait time.Duration) {
	if !r.Limited() || n <= 0 {
		return 0
	}
	burst := r.spacing(max(r.Burst, 1))
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Since(t.began)
	return max(max(s.paid[key], now)+min(r.spacing(n), burst)-burst-now, 0)
}

// Return gives back n that was used for nothing.
func (t *Table[K]) Return(key K, r Rate, n int64) {
	if !r.Limited() || n <= 0 {
		return
	}
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if paid, ok := s.paid[key]; ok {
		s.paid[key] = paid - r.spacing(n)
	}
}

// Len is how many keys are remembered.
func (t *Table[K]) Len() int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += len(s.paid)
		s.mu.Unlock()
	}
	return n
}

func (t *Table[K]) shard(key K) *shard[K] {
	return &t.shards[maphash.Comparable(t.seed, key)%shards]
}

// put notes what key has paid, with room made for it if there is none.
func (s *shard[K]) put(key K, paid, now time.Duration, most int) {
	if s.paid == nil {
		s.paid = make(map[K]time.Duration)
	}
	if _, known := s.paid[key]; !known && len(s.paid) >= most {
		s.evict(now)
	}
	s.paid[key] = paid
}

// evict forgets the idle ones of a few keys, or the least busy of them. Maps are
// walked from a random place.
func (s *shard[K]) evict(now time.Duration) {
	var least K
	lowest := time.Duration(-1)
	seen := 0
	for key, paid := range s.paid {
		if paid <= now {
			delete(s.paid, key)
			lowest = 0
		} else if lowest < 0 || paid < lowest {
			least, lowest = key, paid
		}
		if seen++; seen == examined {
			break
		}
	}
	if lowest > 0 {
		delete(s.paid, least)
	}
}
