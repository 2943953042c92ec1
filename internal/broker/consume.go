package broker

import (
	"context"
	"slices"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// reading is what a member has found beyond a cursor.
type reading struct {
	messages []*parley.Message
	missed   []parley.Seq // of messages whose time has passed
	through  parley.Seq   // all up to it was considered
	floor    parley.Seq   // of the stream
	live     bool         // it is from the feed
}

// startConsuming tells where a subscription by a consumer begins.
func (u *Subscription) startConsuming(ctx context.Context, dst []Event) ([]Event, error) {
	m := u.member
	c := m.consumer
	c.mu.Lock()
	gone, over, cursor, count, alone := m.gone, c.over, c.cursor, c.pending.live, len(c.members) == 1
	floor := cursor
	if first := c.pending.first(); first != 0 {
		floor = first - 1
	}
	c.mu.Unlock()
	switch {
	case over != nil: // before it was one of the session's, where its end would have found it
		return dst, over
	case gone:
		return dst, ErrReplaced
	}
	behind := !m.created || u.request.Start.Kind != FromNow || c.mode != turns
	if behind && alone {
		q := c.query(cursor)
		q.Limit = 0
		span, err := u.session.broker.log.Count(ctx, q)
		if err != nil {
			return dst, err
		}
		count += span.Count
	}
	u.phase = phaseConsume
	dst = append(dst, &Subscribed{Ref: u.Ref, Sub: u, Cursor: floor})
	dst = append(dst, u.notices...)
	u.notices = nil
	if !behind || !alone {
		return append(dst, &Live{Sub: u, Cursor: cursor}), nil
	}
	u.told = true
	return append(dst, &ReplayStart{Sub: u, Count: count}), nil
}

// query selects what the consumer has yet to read.
func (c *consumer) query(after parley.Seq) backend.Query {
	return backend.Query{
		Stream: c.id.Topic.Stream(), Topic: c.id.Topic, After: after,
		Now: c.broker.cfg.Clock.Past(), Params: c.params(), Limit: batchMessages, MaxBytes: batchBytes,
	}
}

// params are what filters of messages are compared with. The members of a
// durable subscription may be any devices.
func (c *consumer) params() map[string]string {
	device := ""
	if c.mode == exclusive {
		device = c.id.Name
	}
	return paramsOf(parley.Identity{User: c.id.Owner, Device: device})
}

// consume delivers again what is due, and then what there is beyond the cursor.
func (u *Subscription) consume(ctx context.Context, dst []Event, budget *int) (events []Event, more bool, err error) {
	m := u.member
	c := m.consumer
	for *budget > 0 {
		var some bool
		if dst, some, err = u.redeliver(ctx, dst, budget); err != nil {
			return dst, false, err
		}
		if !some {
			break
		}
	}
	for *budget > 0 {
		p, ok := c.begin(m)
		if !ok {
			return dst, false, nil
		}
		r, err := u.readOn(ctx, p)
		if err != nil {
			c.abort(m)
			return dst, false, err
		}
		*budget -= pageCost
		if r.floor > p.after && p.after != 0 {
			dst = append(dst, &Gap{Sub: u, From: p.after, To: r.floor})
		}
		if r.live && u.told {
			u.told = false
			dst = append(dst, &ReplayEnd{Sub: u, Cursor: p.after}, &Live{Sub: u, Cursor: p.after})
		}
		messages, attempts := c.commit(m, p, r)
		dst = u.handOut(dst, messages, attempts, budget)
		if r.live && r.through == p.after {
			return dst, false, nil
		}
		u.cursor = r.through
	}
	return dst, true, nil
}

// pageCost is what looking for messages counts, so that it ends though there are
// none.
const pageCost = 256

// handOut appends what is delivered.
func (u *Subscription) handOut(dst []Event, messages []*parley.Message, attempts []int, budget *int) []Event {
	if len(messages) == 0 {
		return dst
	}
	for _, m := range messages {
		*budget -= m.Size()
	}
	if !slices.ContainsFunc(attempts, func(n int) bool { return n > 1 }) {
		attempts = nil
	}
	u.session.broker.stats.delivered.Add(int64(len(messages)))
	return append(dst, &Deliveries{Sub: u, Messages: messages, Attempts: attempts})
}

// readOn reads a part of what there is: from the feed, or from the log if the
// feed does not reach back that far.
func (u *Subscription) readOn(ctx context.Context, p passage) (reading, error) {
	c := u.member.consumer
	batch, behind := u.feed.next(p.after)
	if !behind {
		if batch == nil {
			return reading{through: p.after, live: true}, nil
		}
		r := c.part(batch, p)
		r.live = true
		return r, nil
	}
	q := c.query(p.after)
	q.Now = time.Unix(0, 0) // what has expired too: it is counted
	q.Limit = min(q.Limit, p.room)
	if p.share > 1 {
		q.Limit = min(q.Limit, bite)
	}
	page, err := c.broker.readAnswered(ctx, q)
	if err != nil {
		return reading{}, err
	}
	r := reading{through: max(page.Next, p.after, page.Floor), floor: page.Floor}
	now := c.broker.cfg.Clock.Past()
	r.messages = slices.DeleteFunc(page.Messages, func(m *parley.Message) bool { return p.skips(m) || c.unwanted(m) || r.misses(m, now) })
	return r, nil
}

// misses reports whether the time of m has passed, and notes it.
func (r *reading) misses(m *parley.Message, now time.Time) bool {
	if !m.Expired(now) {
		return false
	}
	r.missed = append(r.missed, m.Seq)
	return true
}

// bite bounds what a member takes at once while there are others.
const bite = 64

// part is what of a batch lies beyond the cursor and is wanted, as far as there
// is room; most often the whole, which is shared.
func (c *consumer) part(b *Batch, p passage) reading {
	all := b.Messages
	i, _ := slices.BinarySearchFunc(all, p.after+1, func(m *parley.Message, seq parley.Seq) int {
		if m.Seq < seq {
			return -1
		}
		return 1
	})
	all = all[i:]
	if p.share > 1 {
		p.room = min(p.room, bite, (len(all)+p.share-1)/p.share)
	}
	now, params := c.broker.cfg.Clock.Past(), c.params()
	foreign := func(m *parley.Message) bool {
		return p.skips(m) || c.unwanted(m) || b.conditional && !m.Matches(params)
	}
	if !slices.ContainsFunc(all, func(m *parley.Message) bool { return foreign(m) || b.conditional && m.Expired(now) }) {
		all = all[:min(len(all), p.room)]
		return reading{messages: slices.Clip(all), through: all[len(all)-1].Seq}
	}
	r := reading{}
	for _, m := range all {
		if !foreign(m) && !r.misses(m, now) {
			if len(r.messages) == p.room {
				break
			}
			r.messages = append(r.messages, m)
		}
		r.through = m.Seq
	}
	return r
}

// unwanted reports whether m is the copy of what this very device has sent, which
// it knows, or of what a dialect without devices has.
func (c *consumer) unwanted(m *parley.Message) bool {
	if c.mode == turns || m.Sender.User != c.id.Owner {
		return false
	}
	if _, peer := m.Topic.Inbox(); peer == c.id.Owner {
		return false
	}
	return c.mode == broadcast && m.Sender.Device == "" || m.Sender.Device == c.id.Name
}
