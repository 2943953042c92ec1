package account

import (
	"context"
	"hash/maphash"
	"sync"

	"github.com/parley-im/parley/internal/backend"
)

// revocations spare nearly every client that shows a token a look into the store,
// where its revocation would be: they are hashes of the keys of those records, and
// what is not among them is not there. There may be more of them than records.
type revocations struct {
	kv   backend.KV
	seed maphash.Seed
	most int // hashes; with more every token is looked for

	mu     sync.RWMutex // guards what follows
	loaded bool
	hashes map[uint64]struct{}
}

// usualRevocations bounds the hashes to a few MB.
const usualRevocations = 100_000

// mayHold reports whether there may be a record with that key.
func (r *revocations) mayHold(ctx context.Context, key string) (bool, error) {
	hash := maphash.String(r.seed, key)
	r.mu.RLock()
	loaded, held := r.loaded, r.holdsLocked(hash)
	r.mu.RUnlock()
	if loaded {
		return held, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.loadLocked(ctx); err != nil {
		return false, err
	}
	return r.holdsLocked(hash), nil
}

func (r *revocations) holdsLocked(hash uint64) bool {
	_, held := r.hashes[hash]
	return held || len(r.hashes) > r.most
}

// loadLocked reads which records there are, once.
func (r *revocations) loadLocked(ctx context.Context) error {
	if r.loaded {
		return nil
	}
	for record, err := range r.kv.Scan(ctx, revokedKeys) {
		if err != nil {
			return err
		}
		if r.addLocked(record.Key); len(r.hashes) > r.most {
			break
		}
	}
	r.loaded = true
	return nil
}

// add is called before a record with that key is written.
func (r *revocations) add(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addLocked(key)
}

func (r *revocations) addLocked(key string) {
	if len(r.hashes) <= r.most {
		r.hashes[maphash.String(r.seed, key)] = struct{}{}
	}
}
