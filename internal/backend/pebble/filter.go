package pebble

import (
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parley-im/parley"
)

// keyFilter says of most idempotency keys that are not in the index that they
// are not, without looking there. It is a Bloom filter in generations: one is
// filled at a time, and dropped when all its keys have been forgotten. A key that
// is in the index is never said to be missing.
//
// It is made of what the store holds after it was opened; what is committed
// meanwhile is added to it as well, and until all is there nothing is said to be
// missing.
type keyFilter struct {
	complete    bool
	generations []*generation // in ascending order of last
}

// A generation has room for generationKeys, with keyBits for each:
// about one in 200 that are not in it passes for one that is.
const (
	generationKeys = 1 << 20
	keyBits        = 12
	filterWords    = 8 // of a block, which is one cache line
	filterBlocks   = generationKeys * keyBits / 64 / filterWords
	filterProbes   = 7 // bits of one key; each takes 9 bits of its hash
)

type generation struct {
	blocks [][filterWords]uint64
	keys   int
	last   parley.Seq // of the newest commit that has keys in it
}

// add notes a key of the commit that ends at seq.
func (f *keyFilter) add(h dedupHash, seq parley.Seq) {
	n := len(f.generations)
	if n == 0 || f.generations[n-1].keys == generationKeys {
		f.generations = append(f.generations, &generation{blocks: make([][filterWords]uint64, filterBlocks)})
		n++
	}
	g := f.generations[n-1]
	g.keys++
	g.last = max(g.last, seq)
	at, probes := slot(h)
	block := &g.blocks[at]
	for range filterProbes {
		block[probes>>6&(filterWords-1)] |= 1 << (probes & 63)
		probes >>= 9
	}
}

// missing reports whether the key is certainly not in the index.
func (f *keyFilter) missing(h dedupHash) bool {
	if !f.complete {
		return false
	}
	for _, g := range slices.Backward(f.generations) {
		if g.has(h) {
			return false
		}
	}
	return true
}

func (g *generation) has(h dedupHash) bool {
	at, probes := slot(h)
	block := &g.blocks[at]
	for range filterProbes {
		if block[probes>>6&(filterWords-1)]&(1<<(probes&63)) == 0 {
			return false
		}
		probes >>= 9
	}
	return true
}

// slot is the block of a key, and the positions of its bits in there. The hash
// is a good one already.
func slot(h dedupHash) (block int, probes uint64) {
	at, _ := bits.Mul64(binary.BigEndian.Uint64(h[:8]), filterBlocks)
	return int(at), binary.BigEndian.Uint64(h[8:])
}

// forget drops the generations whose keys have all left the index: those of
// commits up to until.
func (f *keyFilter) forget(until parley.Seq) {
	n := 0
	for n < len(f.generations) && f.generations[n].last <= until {
		f.generations[n] = nil
		n++
	}
	f.generations = f.generations[n:]
}

// loadFilter fills the filter with the keys that were in the index before.
func (db *DB) loadFilter() {
	db.mu.Lock()
	// What is committed from now on is added by its commit.
	want := db.keys
	it, err := db.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindWindow}, UpperBound: []byte{kindWindow + 1}})
	db.mu.Unlock()
	if err != nil {
		db.opt.Logger.Error("cannot read the idempotency keys", "error", err)
		return
	}
	var old keyFilter
	var h dedupHash
	for it.First(); it.Valid(); it.Next() {
		select {
		case <-db.stop:
			_ = it.Close()
			return
		default:
		}
		seq := seqOf(it.Key())
		for hashes := it.Value(); len(hashes) >= len(h); hashes = hashes[len(h):] {
			copy(h[:], hashes)
			old.add(h, seq)
			want--
		}
	}
	if err := it.Close(); err != nil {
		db.opt.Logger.Error("cannot read the idempotency keys", "error", err)
		return
	}
	if want > 0 {
		// Some are not on the list of those to forget: only the index knows.
		db.opt.Logger.Warn("idempotency keys are missing on the list by which they expire: publishing with ids will be slower", "keys", want)
		return
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	db.known.generations = append(old.generations, db.known.generations...)
	db.known.complete = true
}
