package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// A message is pending or a dead letter, and never both or neither, although the
// log and the record of a consumer are written one after the other: the dead
// letter first when a message dies, and the record first when it is replayed. What
// a crash leaves in between is a dead letter; the record tells where to look for
// it.

// burials are what a consumer knows of its dead letters. It is guarded by
// consumer.mu.
type burials struct {
	known    parley.Seq   // up to which dead letter they are not pending; of the record
	seen     parley.Seq   // what is known once the cursor has passed what is ahead
	replayed []parley.Seq // dead letters that are made pending and are not removed yet; in order
	ahead    []parley.Seq // messages beyond the cursor that are dead letters; in order, and not changed in place
}

// maxReplays bounds the dead letters of a consumer that are replayed at once.
const maxReplays = 1000

// passed forgets what lies at or below the cursor.
func (b *burials) passed(cursor parley.Seq) {
	i, is := slices.BinarySearch(b.ahead, cursor)
	if is {
		i++
	}
	b.ahead = b.ahead[i:]
	b.learn(0)
}

// learn notes that the dead letters up to through are not pending, but for those
// ahead: of these the record tells nothing.
func (b *burials) learn(through parley.Seq) {
	if b.seen = max(b.seen, through); len(b.ahead) == 0 {
		b.known = max(b.known, b.seen)
	}
}

// skips reports whether m is a dead letter although the cursor has not come to it.
func (p *passage) skips(m *parley.Message) bool {
	_, is := slices.BinarySearch(p.ahead, m.Seq)
	return is
}

// exhume takes from what was just loaded what is a dead letter. Nobody else uses c
// yet.
func (c *consumer) exhume(ctx context.Context) error {
	c.mu.Lock()
	replayed, known := c.replayed, c.known
	c.mu.Unlock()
	var dead []parley.Seq
	for _, seq := range replayed {
		letter, err := c.broker.deadLetter(ctx, c.id.Owner, seq)
		switch {
		case err == nil:
			dead = append(dead, letter.Message.Seq)
		case !errors.Is(err, parley.ErrNotFound):
			return err
		}
	}
	later, through, err := c.buriedAfter(ctx, known)
	if err != nil {
		return err
	}
	dead = append(dead, later...)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replayed = nil
	for _, seq := range ascending(dead) {
		if f := c.pending.find(seq); f != nil {
			c.pending.remove(f)
			c.changedLocked()
		} else if seq > c.cursor {
			c.ahead = append(c.ahead, seq)
		}
	}
	c.pending.tidy()
	c.learn(through)
	return nil
}

// buriedAfter finds which messages that may be pending have a dead letter beyond
// known, and up to where it has looked. A dead letter that was removed is in the
// log still while an older one is; its message may have been replayed.
func (c *consumer) buriedAfter(ctx context.Context, known parley.Seq) (dead []parley.Seq, through parley.Seq, err error) {
	var letters []parley.Seq // as in dead
	through = known
	for page := (backend.Page{More: true}); page.More; through = max(through, page.Next) {
		page, err = c.broker.log.Read(ctx, backend.Query{Stream: deadTopic(c.id.Owner).Stream(), After: through, MaxBytes: batchBytes})
		if err != nil {
			return nil, 0, err
		}
		for _, m := range page.Messages {
			if seq, is := c.own(m); is {
				dead, letters = append(dead, seq), append(letters, m.Seq)
			}
		}
	}
	if len(dead) == 0 { // as nearly always
		return nil, through, nil
	}
	removed, err := c.broker.removedLetters(ctx, c.id.Owner)
	if err != nil {
		return nil, 0, err
	}
	stays := dead[:0]
	for i, seq := range dead {
		if _, is := slices.BinarySearch(removed.Seqs, letters[i]); !is {
			stays = append(stays, seq)
		}
	}
	return stays, through, nil
}

// own reports whether the dead letter m is one of c's that may be pending, and of
// which message. One that cannot be read is nobody's: what it has may come again.
func (c *consumer) own(m *parley.Message) (seq parley.Seq, is bool) {
	n, err := strconv.ParseUint(m.ID, 10, 64)
	if err != nil {
		return 0, false // of no message of ours
	}
	seq = parley.Seq(n)
	c.mu.Lock()
	maybe := seq > c.cursor || c.pending.find(seq) != nil
	c.mu.Unlock()
	if !maybe {
		return 0, false
	}
	letter, err := readEnvelope(m)
	return seq, err == nil && letter.Consumer == c.id
}

// flush makes durable what becomes of messages that are dead letters already.
func (c *consumer) flush(ctx context.Context) error {
	c.mu.Lock()
	clean := !c.changed && !c.saving && !c.queued && len(c.dying) == 0
	c.mu.Unlock()
	if clean {
		return nil
	}
	return c.sync(ctx)
}

// flushAll flushes the consumers of an owner's dead letters, so that none of these
// is pending any more.
func (b *Broker) flushAll(ctx context.Context, owner string, r SeqRange) error {
	seen := map[ConsumerID]bool{}
	q := backend.Query{Stream: deadTopic(owner).Stream(), After: max(r.First, 1) - 1, Before: r.Last + 1, MaxBytes: batchBytes}
	for {
		page, err := b.log.Read(ctx, q)
		if err != nil {
			return err
		}
		for _, m := range page.Messages {
			letter, err := readEnvelope(m)
			if err != nil || seen[letter.Consumer] {
				continue // one that cannot be read can be removed
			}
			seen[letter.Consumer] = true
			if err := b.with(ctx, letter.Consumer, func(c *consumer) error { return c.flush(ctx) }); err != nil && !errors.Is(err, parley.ErrNotFound) {
				return err
			}
		}
		if q.After = page.Next; !page.More {
			return nil
		}
	}
}

// ReplayDeadLetter has a dead letter delivered again by its consumer, as if it
// had never failed, and removes it. The error wraps parley.ErrNotFound when the
// letter, its consumer or the message itself is gone.
func (b *Broker) ReplayDeadLetter(ctx context.Context, owner string, seq parley.Seq) error {
	letter, err := b.deadLetter(ctx, owner, seq)
	if err != nil {
		return err
	}
	return b.with(ctx, letter.Consumer, func(c *consumer) error {
		c.loading.Lock() // one at a time
		defer c.loading.Unlock()
		if err := c.flush(ctx); err != nil {
			return err
		}
		letter, err := b.deadLetter(ctx, owner, seq)
		if err != nil {
			return err // somebody was faster
		}
		ctx := context.WithoutCancel(ctx) // it is done whole
		ahead, err := c.revive(ctx, letter)
		removed := false
		if err == nil {
			removed, err = b.removeReplayed(ctx, owner, seq)
		}
		c.revived(letter, removed, ahead)
		return err
	})
}

// removeReplayed removes a dead letter whose message is pending again. Removed may
// be although that fails: rather is its message delivered twice than never.
func (b *Broker) removeReplayed(ctx context.Context, owner string, seq parley.Seq) (removed bool, err error) {
	if err = b.removeDeadLetters(ctx, owner, SeqRange{seq, seq}); err == nil {
		return true, nil
	}
	_, gone := b.deadLetter(ctx, owner, seq)
	if errors.Is(gone, parley.ErrNotFound) {
		return true, nil
	}
	return gone != nil, err
}

// untilRemoved is for how long a message that is replayed waits for its dead letter
// to be removed, unless that comes to an end before.
const untilRemoved = time.Hour

// revive makes the message of a dead letter pending again, durably; it is not
// delivered before revived says that the dead letter is no more. Ahead is that the
// cursor has yet to come to it: that may be before.
func (c *consumer) revive(ctx context.Context, l DeadLetter) (ahead bool, err error) {
	f, err := c.fetch(ctx, []again{{seq: l.Message.Seq}})
	if err != nil {
		return false, err
	}
	if len(f.messages) == 0 {
		return false, fmt.Errorf("the message of dead letter %d is no longer stored: %w", l.Seq, parley.ErrNotFound)
	}
	c.mu.Lock()
	i := c.pending.from(l.Message.Seq)
	switch {
	case l.Message.Seq > c.cursor || c.pending.find(l.Message.Seq) != nil:
		// It will be delivered anyway, unless somebody is reading past it just now.
		if i, ahead = slices.BinarySearch(c.ahead, l.Message.Seq); ahead {
			c.ahead = slices.Delete(slices.Clone(c.ahead), i, i+1)
			c.epoch++
		}
		c.mu.Unlock()
		return ahead, nil
	case c.pending.live >= c.broker.cfg.Limits.InFlight || len(c.replayed) >= maxReplays:
		c.mu.Unlock()
		return false, fmt.Errorf("too much is to be delivered already, try again: %w", parley.ErrUnavailable)
	}
	c.pending.insert(i, flight{
		seq: l.Message.Seq, state: waiting, deliveries: l.Attempts, asks: asks(f.messages[0]), due: c.broker.elapsed() + untilRemoved,
	})
	c.broker.stats.consumers.resumed.Add(1)
	c.replayed = ascending(append(c.replayed, l.Seq))
	c.mu.Unlock()
	return false, c.sync(ctx)
}

// revived has the message of a dead letter delivered again, which was removed; or
// not, for it was not.
func (c *consumer) revived(l DeadLetter, removed, ahead bool) {
	c.mu.Lock()
	i := slices.Index(c.replayed, l.Seq)
	if i >= 0 {
		c.replayed = slices.Delete(c.replayed, i, i+1)
		c.changedLocked()
	}
	f := c.pending.find(l.Message.Seq)
	if !removed {
		if ahead && l.Message.Seq > c.cursor {
			c.ahead = ascending(append(slices.Clone(c.ahead), l.Message.Seq))
		}
		if i >= 0 && f != nil {
			c.pending.remove(f)
			c.broker.stats.consumers.dropped.Add(1)
		}
		c.mu.Unlock()
		return
	}
	if f != nil && f.state == waiting {
		f.due = 0
		if c.mode == broadcast && len(c.members) > 0 {
			c.broker.tender.arm(c, c.broker.elapsed())
		}
	}
	ring := slices.Clone(c.members)
	c.mu.Unlock()
	ringMembers(ring)
}
