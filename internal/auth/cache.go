package auth

import (
	"crypto/sha256"
	"sync"
	"time"
)

// cache remembers tokens that were verified, so that a client that connects
// again costs one hash. It holds two generations, of which the older goes when
// the younger is full: so it is bounded, and what is used stays.
type cache struct {
	most int // of one generation

	mu         sync.Mutex
	young, old map[cacheKey]*verified
}

// cacheKey is a hash of the whole token: nothing shorter tells two apart.
type cacheKey [sha256.Size]byte

// verified is a token that was found good.
type verified struct {
	claims *claims
	// until is when the verdict ends, with the token or before.
	until time.Time
	// holds reports whether the key that verified it is still one; nil when that
	// cannot change.
	holds func() bool
}

// maxTrust bounds how long a verdict is believed without looking at the
// signature again.
const maxTrust = 5 * time.Minute

func newCache(most int) *cache {
	return &cache{most: max(1, most/2), young: make(map[cacheKey]*verified)}
}

// get returns what is known of a token, or nil.
func (c *cache) get(key cacheKey, now time.Time) *verified {
	v := c.lookup(key)
	if v == nil || !now.Before(v.until) || v.holds != nil && !v.holds() {
		return nil
	}
	return v
}

func (c *cache) lookup(key cacheKey) *verified {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.young[key]; ok {
		return v
	}
	v, ok := c.old[key]
	if ok {
		c.putLocked(key, v)
	}
	return v
}

func (c *cache) put(key cacheKey, v *verified) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putLocked(key, v)
}

func (c *cache) putLocked(key cacheKey, v *verified) {
	if len(c.young) >= c.most {
		c.old, c.young = c.young, make(map[cacheKey]*verified)
	}
	c.young[key] = v
}
