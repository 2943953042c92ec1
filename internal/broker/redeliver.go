package broker

import (
	"cmp"
	"context"
	"slices"

	"github.com/parley-im/parley"
)

// againMessages bounds what is delivered again at once.
const againMessages = 256

// again is a message that is due to be delivered again.
type again struct {
	seq     parley.Seq
	attempt int
}

// redeliver delivers again what m's turn is to get, and reports whether there was
// something.
func (u *Subscription) redeliver(ctx context.Context, dst []Event, budget *int) (events []Event, some bool, err error) {
	m := u.member
	c := m.consumer
	due := c.takeAgain(m)
	if len(due) == 0 {
		return dst, false, nil
	}
	f, err := c.fetch(ctx, due)
	if err != nil {
		c.putBack(m, due)
		return dst, false, err
	}
	c.putBack(m, f.rest)
	c.lost(f.lost)
	if len(f.lost) > 0 && f.lost[0] <= f.floor {
		dst = append(dst, &Gap{Sub: u, From: f.lost[0] - 1, To: f.floor})
	}
	c.broker.stats.consumers.redelivered.Add(int64(len(f.messages)))
	return u.handOut(dst, f.messages, f.attempts, budget), true, nil
}

// takeAgain takes what may be delivered again to m now.
func (c *consumer) takeAgain(m *member) []again {
	now := c.broker.elapsed()
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.gone || c.paused || c.over != nil {
		return nil
	}
	if c.mode == broadcast {
		return c.takeSharedLocked(m)
	}
	room := min(againMessages, m.maxInFlight-m.out)
	if len(c.members) > 1 {
		room = min(room, max(1, min(bite, (c.pending.waiting+len(c.members)-1)/len(c.members))))
	}
	if c.pending.waiting > 0 && room <= 0 {
		m.blocked = true
		return nil
	}
	var due []again
	for i := 0; i < len(c.pending.list) && c.pending.waiting > 0 && len(due) < room; i++ {
		f := &c.pending.list[i]
		if f.state != waiting || f.due > now {
			continue
		}
		c.pending.move(f, out, m, now+m.ackWait)
		f.deliveries++
		due = append(due, again{f.seq, f.deliveries})
	}
	if len(due) > 0 {
		c.stale = true
		c.broker.tender.arm(c, now+m.ackWait)
	}
	return due
}

// takeSharedLocked is takeAgain for a broadcast: each member has a list of its
// own.
func (c *consumer) takeSharedLocked(m *member) []again {
	var due []again
	n := 0
	for _, seq := range m.again {
		if len(due) == againMessages {
			break
		}
		n++
		if f := c.pending.find(seq); f != nil && f.state == out {
			due = append(due, again{f.seq, f.deliveries})
		}
	}
	if m.again = m.again[n:]; len(m.again) == 0 {
		m.again = nil
	}
	sortAgain(due) // by when they are due
	return slices.Compact(due)
}

// putBack undoes takeAgain.
func (c *consumer) putBack(m *member, due []again) {
	if len(due) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mode == broadcast {
		seqs := make([]parley.Seq, 0, len(due)+len(m.again))
		for _, a := range due {
			seqs = append(seqs, a.seq)
		}
		m.again = append(seqs, m.again...)
		return
	}
	for _, a := range due {
		if f := c.pending.find(a.seq); f != nil && f.state == out && f.member == m {
			f.deliveries--
			c.pending.move(f, waiting, nil, 0)
		}
	}
}

// fetched is what fetch found.
type fetched struct {
	messages []*parley.Message
	attempts []int
	lost     []parley.Seq // trimmed or expired meanwhile
	rest     []again      // not looked at, because it was enough
	floor    parley.Seq
}

// fetch reads messages that are due again from the log.
func (c *consumer) fetch(ctx context.Context, due []again) (f fetched, err error) {
	q := c.query(0)
	q.Params = nil
	q.Before = due[len(due)-1].seq + 1
	bytes := 0
	for len(due) > 0 && bytes < batchBytes {
		q.After, q.Limit, q.MaxBytes = due[0].seq-1, len(due), batchBytes-bytes
		page, err := c.broker.log.Read(ctx, q)
		if err != nil {
			return fetched{}, err
		}
		f.floor = page.Floor
		through := page.Next
		if !page.More {
			through = q.Before
		}
		found := page.Messages
		for len(due) > 0 && due[0].seq <= through {
			for len(found) > 0 && found[0].Seq < due[0].seq {
				found = found[1:]
			}
			if len(found) > 0 && found[0].Seq == due[0].seq {
				bytes += found[0].Size()
				f.messages = append(f.messages, found[0])
				f.attempts = append(f.attempts, due[0].attempt)
			} else {
				f.lost = append(f.lost, due[0].seq)
			}
			due = due[1:]
		}
	}
	f.rest = slices.Clone(due)
	return f, nil
}

// lost takes out of the flight what is gone from the log.
func (c *consumer) lost(seqs []parley.Seq) {
	if len(seqs) == 0 {
		return
	}
	c.mu.Lock()
	n := 0
	for _, seq := range seqs {
		if f := c.pending.find(seq); f != nil {
			c.pending.remove(f)
			n++
		}
	}
	c.pending.tidy()
	if n > 0 {
		c.changedLocked()
	}
	ring := c.unblockLocked()
	c.mu.Unlock()
	c.broker.stats.consumers.expired.Add(int64(n))
	ringMembers(ring)
}

func sortAgain(due []again) {
	slices.SortFunc(due, func(a, b again) int { return cmp.Compare(a.seq, b.seq) })
}
