package wire

import (
	crand "crypto/rand"
	"encoding/binary"
	"math/rand/v2"
	"sync"
)

// masks makes the masking keys of a client's frames. RFC 6455 section 5.3 wants
// them unpredictable, and section 10.3 says why: whoever chooses the payload
// must not choose what passes through a proxy.
type masks struct {
	mu     sync.Mutex
	source *rand.ChaCha8
}

func newMasks() *masks {
	var seed [32]byte
	// It does not fail: crypto/rand ends the program instead.
	_, _ = crand.Read(seed[:])
	return &masks{source: rand.NewChaCha8(seed)}
}

func (m *masks) next() (mask [maskBytes]byte) {
	m.mu.Lock()
	n := m.source.Uint64()
	m.mu.Unlock()
	binary.LittleEndian.PutUint32(mask[:], uint32(n>>32))
	return mask
}
