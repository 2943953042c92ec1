package titan

import "sync"

// batches collects the answers to the requests that came in one array, for
// clients that get them in one array. Decode begins a batch, Encode ends it.
type batches struct {
	mu   sync.Mutex
	last uint64
	open map[uint64]*batch
}

type batch struct {
	left    int // answers that are due
	answers []byte
}

// begin makes a batch of n requests that will be answered; n is positive.
func (b *batches) begin() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open == nil {
		b.open = make(map[uint64]*batch)
	}
	b.last++
	b.open[b.last] = &batch{}
	return b.last
}

// expect says that one more answer is due; it is called before it can be given.
func (b *batches) expect(id uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if one := b.open[id]; one != nil {
		one.left++
	}
}

// settle forgets a batch of which nothing is to be answered.
func (b *batches) settle(id uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if one := b.open[id]; one != nil && one.left == 0 {
		delete(b.open, id)
	}
}

// answer adds one answer and returns the whole array when it was the last that is
// due, or that will be given; otherwise nil.
func (b *batches) answer(id uint64, p []byte, last bool) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	one := b.open[id]
	if one == nil {
		return p
	}
	before := byte('[')
	if len(one.answers) > 0 {
		before = ','
	}
	one.answers = append(append(one.answers, before), p...)
	if one.left--; one.left > 0 && !last {
		return nil
	}
	delete(b.open, id)
	return append(one.answers, ']')
}
