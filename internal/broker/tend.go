package broker

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// saveInterval is how long acknowledgements that nobody wants confirmed wait to
// be saved together; savers is how many records are written at once, which share
// an fsync.
const (
	saveInterval = 500 * time.Millisecond
	savers       = 64
)

// tender knows which consumers have something due, or to be saved.
type tender struct {
	mu      sync.Mutex
	wake    chan struct{}
	alarms  alarms
	dirty   []*consumer   // to be saved at batchAt
	batchAt time.Duration // 0: nothing is
	saves   []*consumer   // to be saved now
	running int           // savers
	closed  bool
}

// alarms is a heap of consumers by their alarm.
type alarms []*consumer

func (a *alarms) Len() int           { return len(*a) }
func (a *alarms) Less(i, j int) bool { return (*a)[i].alarm < (*a)[j].alarm }
func (a *alarms) Swap(i, j int) {
	list := *a
	list[i], list[j] = list[j], list[i]
	list[i].place, list[j].place = i+1, j+1
}

func (a *alarms) Push(x any) {
	c, ok := x.(*consumer)
	if ok {
		*a = append(*a, c)
		c.place = len(*a)
	}
}

func (a *alarms) Pop() any {
	last := len(*a) - 1
	c := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	c.place = 0
	return c
}

// arm has c.expire called at the given time at the latest.
func (t *tender) arm(c *consumer, at time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case c.place == 0:
		c.alarm = at
		heap.Push(&t.alarms, c)
	case at < c.alarm:
		c.alarm = at
		heap.Fix(&t.alarms, c.place-1)
	default:
		return
	}
	if t.alarms[0] == c {
		t.signal()
	}
}

func (t *tender) disarm(c *consumer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.place > 0 {
		heap.Remove(&t.alarms, c.place-1)
	}
}

func (t *tender) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// save has c saved now. The caller holds c.mu.
func (t *tender) save(c *consumer) {
	if c.queued || c.saving {
		return // whoever saves it looks again
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		for _, w := range c.waiters {
			w.answer(errStopped)
		}
		c.waiters = nil
		return
	}
	c.queued = true
	t.saves = append(t.saves, c)
	t.signal()
}

// changedLocked has c saved with others.
func (c *consumer) changedLocked() {
	c.changed = true
	c.listLocked()
}

// listLocked has c looked at when others are saved.
func (c *consumer) listLocked() {
	if c.listed || c.queued {
		return
	}
	t := &c.broker.tender
	t.mu.Lock()
	defer t.mu.Unlock()
	c.listed = true
	t.dirty = append(t.dirty, c)
	if t.batchAt == 0 {
		t.batchAt = c.broker.elapsed() + saveInterval
		t.signal()
	}
}

// tend watches over the consumers until ctx ends, and then saves them.
func (b *Broker) tend(ctx context.Context) {
	t := &b.tender
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var saving sync.WaitGroup
	defer saving.Wait()
	last := context.WithoutCancel(ctx)
	for {
		timer.Reset(t.next(b.elapsed()))
		select {
		case <-ctx.Done():
			saving.Wait()
			b.saveAll(last)
			return
		case <-t.wake:
		case <-timer.C:
		}
		for _, c := range t.due(b.elapsed()) {
			c.expire()
		}
		for _, c := range t.batch(b.elapsed()) {
			c.mu.Lock()
			c.listed = false
			switch owing := len(c.dying)+len(c.asked) > 0; {
			case c.changed, owing && c.retryAt <= b.elapsed():
				t.save(c)
			case owing:
				c.listLocked()
			}
			c.mu.Unlock()
		}
		for range t.employ() {
			saving.Go(func() { b.saveOn(last) })
		}
	}
}

// next is how long to sleep.
func (t *tender) next(now time.Duration) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := now + time.Hour
	if len(t.alarms) > 0 {
		at = min(at, t.alarms[0].alarm)
	}
	if t.batchAt != 0 {
		at = min(at, t.batchAt)
	}
	return max(0, at-now)
}

func (t *tender) due(now time.Duration) (due []*consumer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.alarms) > 0 && t.alarms[0].alarm <= now {
		if c, ok := heap.Pop(&t.alarms).(*consumer); ok {
			due = append(due, c)
		}
	}
	return due
}

func (t *tender) batch(now time.Duration) []*consumer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.batchAt == 0 || t.batchAt > now {
		return nil
	}
	dirty := t.dirty
	t.dirty, t.batchAt = nil, 0
	return dirty
}

// employ is how many savers to begin.
func (t *tender) employ() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(len(t.saves), savers-t.running)
	t.running += n
	return n
}

// take is the next consumer to save, or nil: then the saver goes.
func (t *tender) take() *consumer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.saves) == 0 {
		t.running--
		return nil
	}
	c := t.saves[0]
	t.saves[0] = nil
	t.saves = t.saves[1:]
	return c
}

func (b *Broker) saveOn(ctx context.Context) {
	for c := b.tender.take(); c != nil; c = b.tender.take() {
		b.save(ctx, c)
	}
}

// saveAll saves every consumer with anything unsaved: the last thing that is
// done.
func (b *Broker) saveAll(ctx context.Context) {
	b.consumers.mu.Lock()
	all := make([]*consumer, 0, len(b.consumers.byID))
	for _, c := range b.consumers.byID {
		all = append(all, c)
	}
	b.consumers.mu.Unlock()
	var saving sync.WaitGroup
	defer saving.Wait()
	work := make(chan *consumer, len(all))
	for _, c := range all {
		c.mu.Lock()
		c.changed = c.changed || c.stale
		c.mu.Unlock()
		work <- c
	}
	close(work)
	for range min(savers, len(all)) {
		saving.Go(func() {
			for c := range work {
				b.save(ctx, c)
			}
		})
	}
	saving.Wait()
	t := &b.tender
	t.mu.Lock()
	t.closed = true
	rest := t.saves
	t.saves = nil
	t.mu.Unlock()
	for _, c := range rest { // those that somebody waits for since
		b.save(ctx, c)
	}
}

// errStopped refuses what could not be confirmed any more.
var errStopped = fmt.Errorf("the server is stopping: %w", parley.ErrUnavailable)

// save buries what is dying, has receipts stored, writes the record if it
// changed, and answers who waits for that. What is acknowledged does not wait for
// the others: where these cannot be stored, as when the disk is full, the record
// says that they are due, and they are tried again.
func (b *Broker) save(ctx context.Context, c *consumer) {
	c.mu.Lock()
	c.queued, c.saving = false, true
	early := len(c.waiters) // only their dead letters are stored by this
	c.mu.Unlock()
	ring, unburied := b.payOff(ctx, c)
	c.mu.Lock()
	waiters, changed, saved := c.takeWaitersLocked(early), c.changed, c.unsaved
	c.changed = false
	if changed {
		c.stale = false
	}
	if len(c.members) > 0 {
		c.active = b.cfg.Clock.Now()
	}
	failure, owes, record := c.over, len(c.asked) > 0, c.recordLocked()
	c.mu.Unlock()
	ringMembers(ring)
	if changed && b.cfg.KV != nil && failure == nil {
		record.Rev, failure = b.put(ctx, c, record)
	}
	c.mu.Lock()
	c.saving = false
	switch {
	case failure == nil:
		c.rev = record.Rev
		if changed {
			c.owes = owes
			c.unsaved -= saved
		}
	case c.over == nil:
		c.changed = true
	}
	c.unmade = c.rev == 0 && errors.Is(failure, backend.ErrStorageFull)
	switch {
	case len(c.waiters) > 0 || len(c.dying) > 0 && c.delay == 0:
		b.tender.save(c)
	case c.changed || len(c.dying)+len(c.asked) > 0:
		c.listLocked()
	}
	c.mu.Unlock()
	if failure != nil && !known(failure) {
		b.cfg.Logger.ErrorContext(ctx, "cannot save what was acknowledged", "topic", c.id.Topic, "name", c.id.Name, "error", failure)
		failure = fmt.Errorf("saving failed: %w", parley.ErrUnavailable)
	}
	for _, w := range waiters {
		if w.dead {
			w.answer(cmp.Or(failure, unburied))
			continue
		}
		w.answer(failure)
	}
	b.settle(c)
}

// takeWaitersLocked takes those who are answered by the save under way: of those
// who have come since it began, who does not wait for dead letters.
func (c *consumer) takeWaitersLocked(early int) (taken []waiter) {
	all := c.waiters
	c.waiters = nil
	for i, w := range all {
		if i < early || !w.dead {
			taken = append(taken, w)
		} else {
			c.waiters = append(c.waiters, w)
		}
	}
	return taken
}

// known reports whether err is one that whoever waits for a save may be told.
func known(err error) bool {
	return errors.Is(err, parley.ErrUnavailable) || errors.Is(err, errDeleted)
}

// maxRetryDelay bounds how long dead letters and receipts that could not be
// stored wait for the next attempt.
const maxRetryDelay = 10 * time.Second

// payOff stores the dead letters and receipts that are due, unless that has
// failed just now. It returns who has room now, and why dead letters were not
// stored.
func (b *Broker) payOff(ctx context.Context, c *consumer) (ring []*member, unburied error) {
	now := b.elapsed()
	c.mu.Lock()
	dying, asked := c.dying, c.asked
	if len(dying)+len(asked) == 0 || now < c.retryAt {
		if len(dying) > 0 {
			unburied = c.trouble
		}
		c.mu.Unlock()
		return nil, unburied
	}
	c.dying, c.asked = nil, nil
	c.mu.Unlock()
	buried, unburied := b.bury(ctx, c, dying)
	unsent, err := b.confirm(ctx, c, asked)
	failure := cmp.Or(unburied, err)
	if failure != nil && !known(failure) {
		b.cfg.Logger.ErrorContext(ctx, "cannot store dead letters or receipts", "topic", c.id.Topic, "name", c.id.Name, "error", failure)
		failure = fmt.Errorf("storing failed: %w", parley.ErrUnavailable)
		if unburied != nil {
			unburied = failure
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	ring = c.buriedLocked(dying, buried, unburied)
	if c.over == nil {
		c.asked = append(c.asked, unsent...)
	}
	if over := len(c.asked) - maxOwed; over > 0 {
		b.cfg.Logger.WarnContext(ctx, "receipts that cannot be stored are given up", "topic", c.id.Topic, "receipts", over)
		c.asked = c.asked[over:]
	}
	c.changed = c.changed || c.owes && len(unsent) == 0
	c.trouble, c.retryAt = failure, 0
	if failure == nil {
		c.delay = 0
		return ring, nil
	}
	c.delay = min(max(2*c.delay, saveInterval), maxRetryDelay)
	c.retryAt = now + c.delay
	return ring, unburied
}

// put writes the record of c. When somebody else has changed it, c is not this
// broker's any more, and its members have to come again.
func (b *Broker) put(ctx context.Context, c *consumer, r backend.Record) (uint64, error) {
	rev, err := b.cfg.KV.Put(ctx, r)
	if !errors.Is(err, parley.ErrConflict) {
		return rev, err
	}
	if _, err := b.cfg.KV.Get(ctx, r.Key); errors.Is(err, parley.ErrNotFound) {
		r.Rev = 0 // it has expired while there was nothing to save
		return b.cfg.KV.Put(ctx, r)
	}
	b.forget(c, fmt.Errorf("the record has changed meanwhile: %w", parley.ErrUnavailable))
	return 0, fmt.Errorf("the record has changed meanwhile: %w", parley.ErrUnavailable)
}

// confirm has receipts stored for acknowledged letters, before the record is. It
// returns those that were not.
func (b *Broker) confirm(ctx context.Context, c *consumer, asked []parley.Seq) (unsent []parley.Seq, err error) {
	slices.Sort(asked)
	due := make([]again, len(asked))
	for i, seq := range asked {
		due[i].seq = seq
	}
	for len(due) > 0 {
		n := min(len(due), againMessages)
		f, err := c.fetch(ctx, due[:n:n])
		if err == nil {
			err = b.delivered(ctx, c.id.Owner, f.messages)
		}
		if err != nil {
			return asked[len(asked)-len(due):], err
		}
		due = append(f.rest, due[n:]...)
	}
	return nil, nil
}

// forget ends the members of c and gives it up as it is.
func (b *Broker) forget(c *consumer, why error) {
	b.consumers.mu.Lock()
	if b.consumers.byID[c.id] == c {
		delete(b.consumers.byID, c.id)
	}
	c.mu.Lock()
	c.over, c.changed = why, false
	members := slices.Clone(c.members)
	b.stats.consumers.dropped.Add(int64(c.pending.live))
	c.pending = pending{}
	c.dying, c.asked = nil, nil
	for _, m := range members {
		m.out = 0
	}
	c.mu.Unlock()
	b.consumers.mu.Unlock()
	b.tender.disarm(c)
	for _, m := range members {
		m.sub.session.end(m.sub, &Ended{m.sub, why})
	}
}

// sync saves c and waits until it is durable.
func (c *consumer) sync(ctx context.Context) error {
	saved := make(chan error, 1)
	c.mu.Lock()
	c.changed = true
	c.waiters = append(c.waiters, waiter{done: saved})
	c.broker.tender.save(c)
	c.mu.Unlock()
	select {
	case err := <-saved:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
