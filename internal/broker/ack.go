package broker

import (
	"fmt"
	"slices"
	"time"

	"github.com/parley-im/parley"
)

// ackCost is about what the answer to an acknowledgement holds.
const ackCost = 128

// The bounds of an Ack.
const (
	maxNakDelay    = 24 * time.Hour
	maxReasonBytes = 255
)

// Acknowledge does what a says; it is answered by Acked, or Failed, when it has a
// Ref: then it waits while too much of this session's is unanswered.
func (s *Session) Acknowledge(a *Ack) {
	if a.Ref != "" && !s.reserve(ackCost) {
		return
	}
	m, err := s.memberOf(a)
	if err != nil {
		if a.Ref != "" {
			s.answer(&Failed{a.Ref, err}, ackCost)
		}
		return
	}
	m.consumer.acknowledge(m, a)
}

// reserve takes room for an answer of that many bytes, which is due later. It
// reports whether there will be an answer.
func (s *Session) reserve(bytes int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.unsent > s.broker.cfg.SessionBytes && !s.closed && s.bye == nil {
		s.room.Wait()
	}
	if s.closed || s.bye != nil {
		return false
	}
	s.unsent += bytes
	return true
}

// memberOf finds the subscription of an acknowledgement and applies the rules.
func (s *Session) memberOf(a *Ack) (*member, error) {
	switch {
	case a.Delay < 0 || a.Delay > maxNakDelay:
		return nil, fmt.Errorf("the delay is not between 0 and %v: %w", maxNakDelay, parley.ErrInvalid)
	case len(a.Reason) > maxReasonBytes:
		return nil, fmt.Errorf("the reason is longer than %d bytes: %w", maxReasonBytes, parley.ErrInvalid)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.subs, func(u *Subscription) bool { return u.ID == a.Sub })
	switch {
	case s.caller.cut.Load():
		return nil, errCut
	case i < 0:
		return nil, fmt.Errorf("no such subscription: %w", parley.ErrNotFound)
	case s.subs[i].member == nil:
		return nil, fmt.Errorf("the subscription is not acknowledged: %w", parley.ErrInvalid)
	}
	return s.subs[i].member, nil
}

// acknowledge does what a, of the member m, says. What was meanwhile delivered
// again, to whomever, is acknowledged by a late acknowledgement too; but only who
// has a message can refuse it.
func (c *consumer) acknowledge(m *member, a *Ack) {
	var n, count int
	now := c.broker.elapsed()
	c.mu.Lock()
	for _, r := range a.Ranges {
		for i := c.pending.from(r.First); i < len(c.pending.list) && c.pending.list[i].seq <= r.Last; i++ {
			f := &c.pending.list[i]
			mine := f.state == out && (f.member == m || f.member == nil)
			switch {
			case f.state == done || f.state == perishing:
			case !a.Nak && !a.Dead:
				if f.asks {
					c.asked = append(c.asked, f.seq)
				}
				c.pending.remove(f)
				n++
				count++
			case mine && a.Dead:
				c.dieLocked(f, a.Reason)
				count++
			case mine:
				c.failLocked(f, m, now+a.Delay, a.Reason)
				count++
			}
		}
	}
	c.pending.tidy()
	if count > 0 {
		c.unsaved += count
		c.changedLocked()
	}
	if a.Ref != "" {
		c.waiters = append(c.waiters, waiter{dead: a.Dead, session: m.sub.session, ref: a.Ref, count: count, cursor: c.cursor})
	}
	if a.Ref != "" || len(c.asked) > maxAsked && c.delay == 0 {
		c.broker.tender.save(c)
	}
	ring := c.unblockLocked()
	if a.Nak && count > 0 {
		c.broker.tender.arm(c, now+a.Delay)
	}
	c.mu.Unlock()
	stats := &c.broker.stats.consumers
	stats.acked.Add(int64(n))
	if a.Nak && !a.Dead {
		stats.naks.Add(int64(count))
	}
	ringMembers(ring)
}

// maxAsked is how many receipts wait to be stored together; maxOwed is how many
// are kept while they cannot be stored.
const (
	maxAsked = 1000
	maxOwed  = 10_000
)

// failLocked has f, which was out with m, delivered again, not before due, or
// buries it when that was tried often enough.
func (c *consumer) failLocked(f *flight, m *member, due time.Duration, reason string) {
	f.failures++
	if m.maxDeliver > 0 && f.failures >= m.maxDeliver {
		if reason == "" {
			reason = fmt.Sprintf("delivered %d times without an acknowledgement", f.failures)
		}
		c.dieLocked(f, reason)
		return
	}
	c.pending.move(f, waiting, nil, due)
}

// expire takes back what was not acknowledged in time, looks for what may be
// delivered again now, and passes over a member that does not come.
func (c *consumer) expire() {
	now := c.broker.elapsed()
	next := time.Duration(0)
	late := 0
	soon := func(at time.Duration) {
		if next == 0 || at < next {
			next = at
		}
	}
	c.mu.Lock()
	if len(c.members) == 0 {
		c.mu.Unlock()
		return // when there is one again, the time begins anew
	}
	for i := range c.pending.list {
		f := &c.pending.list[i]
		switch {
		case f.state == done || f.state == perishing:
		case f.due > now:
			soon(f.due)
		case f.state == out:
			late++
			c.overdueLocked(f, now)
			if f.state == out {
				soon(f.due)
			}
		case c.mode == broadcast:
			c.pending.move(f, out, nil, now+c.members[0].ackWait)
			c.againLocked(f)
			soon(f.due)
		}
	}
	if late > 0 {
		c.changedLocked()
	}
	if c.turnBy != 0 {
		if c.turnBy <= now && c.reading == nil {
			c.members[c.turn%len(c.members)].slow = true
			c.turn, c.turnBy = (c.turn+1)%len(c.members), 0
		} else {
			soon(max(c.turnBy, now+turnPatience))
		}
	}
	if next != 0 {
		c.broker.tender.arm(c, next)
	}
	ring := slices.Clone(c.members)
	c.mu.Unlock()
	c.broker.stats.consumers.late.Add(int64(late))
	ringMembers(ring)
}

// overdueLocked takes back f.
func (c *consumer) overdueLocked(f *flight, now time.Duration) {
	m := f.member
	if c.mode == broadcast {
		m = c.members[0]
	}
	c.failLocked(f, m, now, "")
	if c.mode == broadcast && f.state == waiting {
		c.pending.move(f, out, nil, now+m.ackWait)
		c.againLocked(f)
	}
}

// againLocked has f delivered again to all members of a broadcast that have come
// so far.
func (c *consumer) againLocked(f *flight) {
	f.deliveries++
	for _, m := range c.members {
		if f.seq <= m.cursor && len(m.again) < 2*c.broker.cfg.Limits.InFlight {
			m.again = append(m.again, f.seq)
		}
	}
}
