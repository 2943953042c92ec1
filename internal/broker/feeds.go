package broker

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/parley-im/parley"
)

// A batch ends at these bounds: what a session writes at once.
const (
	batchMessages = 1024
	batchBytes    = 256 << 10
)

// feeds is the memory of the newest messages, kept per subscribed topic: a
// message joins the feed of every subscribed topic that covers it, at most one
// for each of its segments, and nothing else. Sessions on other topics are not
// even looked at.
type feeds struct {
	dispatched atomic.Uint64 // all above it will join their feeds

	mu      sync.Mutex
	byTopic map[parley.Topic]*feed
	touched []*feed // scratch of add
	order   uint64  // of the newest subscription

	// The tail: all batches of all feeds, oldest first, within bound bytes.
	tail  []kept
	bytes int
	bound int
	dead  int // of bytes, in feeds that are gone
}

type kept struct {
	feed  *feed
	batch *Batch
	bytes int
}

// feed holds a topic's newest batches and the subscriptions to ring.
type feed struct {
	topic   parley.Topic
	pending []*parley.Message // of the commit being added; guarded by feeds.mu

	bytes int  // of the tail; guarded by feeds.mu
	gone  bool // likewise

	mu      sync.Mutex
	floor   parley.Seq // the feed has all above it
	batches []*Batch
	subs    []*Subscription
}

func newFeeds(bound int) *feeds {
	return &feeds{byTopic: map[parley.Topic]*feed{}, bound: bound}
}

// begin says that all up to end was stored before there was any feed.
func (f *feeds) begin(end parley.Seq) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dispatched.Store(max(f.dispatched.Load(), uint64(end)))
}

// attach rings u from now on, and sets u.attached: all above it will be in the
// feed, or have left it only to make room.
func (f *feeds) attach(u *Subscription) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := parley.Seq(f.dispatched.Load())
	d := f.byTopic[u.Topic]
	if d == nil {
		d = &feed{topic: u.Topic, floor: at}
		f.byTopic[u.Topic] = d
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	f.order++
	u.feed, u.attached, u.place, u.order = d, at, len(d.subs), f.order
	d.subs = append(d.subs, u)
}

// detach undoes attach. A feed that nobody listens to is forgotten.
func (f *feeds) detach(u *Subscription) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := u.feed
	d.mu.Lock()
	defer d.mu.Unlock()
	last := len(d.subs) - 1
	d.subs[u.place] = d.subs[last]
	d.subs[u.place].place = u.place
	d.subs[last] = nil
	d.subs = d.subs[:last]
	if len(d.subs) == 0 && f.byTopic[d.topic] == d {
		delete(f.byTopic, d.topic)
		d.batches, d.gone = nil, true
		if f.dead += d.bytes; f.dead > f.bytes/2 {
			f.bury()
		}
	}
}

// bury forgets what the tail has of feeds that are gone. Done when that is half
// of it, it costs each batch a constant.
func (f *feeds) bury() {
	f.tail = slices.DeleteFunc(f.tail, func(k kept) bool { return k.feed.gone })
	f.bytes, f.dead = f.bytes-f.dead, 0
}

// forget drops what the feeds have of s up to floor, because it was removed.
func (f *feeds) forget(s parley.Stream, floor parley.Seq) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for topic, d := range f.byTopic {
		if topic.Stream() != s {
			continue
		}
		d.mu.Lock()
		for len(d.batches) > 0 && d.batches[0].First() <= floor {
			d.floor = d.batches[0].Last()
			d.batches = d.batches[1:]
		}
		d.mu.Unlock()
	}
}

// reach says that messages were stored, before anybody learns of it: who then
// begins with what is published from now on does not get them.
func (f *feeds) reach(messages []*parley.Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last := parley.Seq(f.dispatched.Load())
	for _, m := range messages {
		last = max(last, m.Seq)
	}
	f.dispatched.Store(uint64(last))
}

// add gives stored messages that were reached, in the order of their streams, to
// their feeds and rings.
func (f *feeds) add(messages []*parley.Message) {
	if len(messages) == 0 {
		return
	}
	f.mu.Lock()
	var topic parley.Topic
	var found [parley.MaxTopicSegments]*feed
	n := 0
	for _, m := range messages {
		if m.Topic != topic {
			topic, n = m.Topic, f.find(m.Topic, &found)
		}
		for _, d := range found[:n] {
			if len(d.pending) == 0 {
				f.touched = append(f.touched, d)
			}
			d.pending = append(d.pending, m)
		}
	}
	for _, d := range f.touched {
		f.fill(d)
	}
	f.evict()
	touched := f.touched
	f.touched = nil
	f.mu.Unlock()
	for _, d := range touched {
		d.ring()
	}
	clear(touched)
	f.mu.Lock()
	f.touched = touched[:0]
	f.mu.Unlock()
}

// find looks up the feeds that cover t.
func (f *feeds) find(t parley.Topic, found *[parley.MaxTopicSegments]*feed) int {
	n := 0
	if len(f.byTopic) == 0 {
		return 0
	}
	for ; t != ""; t = t.Parent() {
		if d := f.byTopic[t]; d != nil {
			found[n] = d
			n++
		}
	}
	return n
}

// fill moves a feed's pending messages into batches.
func (f *feeds) fill(d *feed) {
	pending := d.pending
	d.pending = nil
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(pending) > 0 {
		n, bytes := 0, 0
		for n < len(pending) && n < batchMessages && (n == 0 || bytes < batchBytes) {
			bytes += pending[n].Size()
			n++
		}
		batch := NewBatch(pending[:n:n])
		pending = pending[n:]
		d.batches = append(d.batches, batch)
		f.tail = append(f.tail, kept{d, batch, bytes})
		f.bytes += bytes
		d.bytes += bytes
	}
}

// evict drops the oldest batches until the tail is within its bound.
func (f *feeds) evict() {
	n := 0
	for ; f.bytes > f.bound && n < len(f.tail); n++ {
		k := f.tail[n]
		f.bytes -= k.bytes
		k.feed.bytes -= k.bytes
		if k.feed.gone {
			f.dead -= k.bytes
		}
		k.feed.drop(k.batch)
		f.tail[n] = kept{}
	}
	f.tail = f.tail[n:]
}

func (d *feed) drop(b *Batch) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.batches) > 0 && d.batches[0] == b {
		d.batches[0] = nil
		d.batches = d.batches[1:]
		d.floor = b.Last()
	}
}

// ring wakes the feed's subscriptions.
func (d *feed) ring() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, u := range d.subs {
		u.session.ring(u)
	}
}

// next returns the first batch that goes beyond cursor, nil when there is none.
// Behind says that the feed does not reach back to cursor: the reader has to
// read the log.
func (d *feed) next(cursor parley.Seq) (b *Batch, behind bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if cursor < d.floor {
		return nil, true
	}
	i, _ := slices.BinarySearchFunc(d.batches, cursor, func(b *Batch, cursor parley.Seq) int {
		if b.Last() > cursor {
			return 1
		}
		return -1
	})
	if i == len(d.batches) {
		return nil, false
	}
	return d.batches[i], false
}

func (f *feeds) size() (feeds, bytes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.byTopic), f.bytes
}
