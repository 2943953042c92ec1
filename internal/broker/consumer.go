package broker

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/parley-im/parley"
)

// LegacyDevice is the name of the consumer that all sessions of a user share
// whose dialect knows no devices. No device can be called so.
const LegacyDevice = "$legacy"

// ConsumerID names a consumer: who has seen and acknowledged what of a topic. For
// an inbox the owner is the user and the name that of a device, or LegacyDevice;
// for any other topic the owner has a durable subscription of that name.
type ConsumerID struct {
	Topic parley.Topic
	Owner string
	Name  string
}

// mode is how the members of a consumer share its messages.
type mode int

const (
	exclusive mode = iota // a device: one member at a time, a newer one replaces it
	turns                 // a durable subscription: every message to one member at a time
	broadcast             // the legacy device: every message to all, and the first ack counts
)

func (id ConsumerID) mode() mode {
	switch owner, _ := id.Topic.Inbox(); {
	case owner == "":
		return turns
	case id.Name == LegacyDevice:
		return broadcast
	}
	return exclusive
}

// ErrReplaced ends the subscription of a device to its inbox when another session
// of the same device subscribes.
var ErrReplaced = fmt.Errorf("another session of the same device has taken its place: %w", parley.ErrConflict)

// errDeleted ends the subscriptions of a consumer that an operator has deleted.
var errDeleted = fmt.Errorf("the subscription was deleted: %w", parley.ErrNotFound)

// consumer is where a device or a durable subscription stands: all up to cursor
// was read, and what of that is not done is pending. What is pending and not out
// with a member waits to be delivered again. It is loaded while it has members,
// or something to save.
//
// Locks are taken in this order: consumers.mu, consumer.mu, Session.mu or
// tender.mu. No consumer is called with a lock of a feed or a session held.
type consumer struct {
	broker *Broker
	id     ConsumerID
	mode   mode

	users int // members and operations in progress; guarded by consumers.mu

	loading sync.Mutex // held while the record is read, or made
	loaded  bool       // guarded by loading

	mu      sync.Mutex // guards what follows
	cursor  parley.Seq
	pending pending
	paused  bool
	active  time.Time // when it last had a member
	members []*member
	turn    int           // whose turn it is: an index into members
	turnBy  time.Duration // when that one is passed over, if somebody waits for it
	reading *member       // who reads on beyond the cursor just now
	refused bool          // somebody came meanwhile
	epoch   int           // grows when what is read at that moment does not count

	rev     uint64 // of the record
	unmade  bool   // there is none, and the disk is too full to make it
	changed bool   // the record should be written within the batch interval
	unsaved int    // acknowledgements and refusals that the record does not have
	stale   bool   // it should be written when the last member leaves
	over    error  // why it is given up: nothing of it is delivered or saved any more
	dying   []death
	burials              // what of it became dead letters
	asked   []parley.Seq // acknowledged letters whose senders are due receipts
	owes    bool         // the record names such letters
	waiters []waiter
	trouble error         // why dead letters or receipts could not be stored
	delay   time.Duration // between attempts to store them; 0 is without trouble
	retryAt time.Duration // when the next one is due
	listed  bool          // in tender.dirty
	queued  bool          // in tender.saves
	saving  bool

	alarm time.Duration // when something is due; guarded by tender.mu
	place int           // in tender.alarms, from 1; guarded by tender.mu
}

// member is a consumer seen from a session that subscribes by it.
type member struct {
	consumer    *consumer
	sub         *Subscription
	ackWait     time.Duration
	maxInFlight int
	maxDeliver  int
	created     bool // the consumer did not exist before

	// Guarded by consumer.mu.
	gone    bool
	blocked bool // it has as much in flight as it may
	slow    bool // it did not come when it was its turn
	out     int  // how much is out with it
	cursor  parley.Seq
	again   []parley.Seq // what it is due to be delivered again; for a broadcast
}

// waiter is a request that is answered when the record is durable.
type waiter struct {
	dead    bool // and so are the dead letters
	session *Session
	ref     string
	count   int
	cursor  parley.Seq
	done    chan<- error // instead of a session
}

func (w waiter) answer(err error) {
	switch {
	case w.done != nil:
		w.done <- err
	case err != nil:
		w.session.answer(&Failed{w.ref, err}, ackCost)
	default:
		w.session.answer(&Acked{Ref: w.ref, Count: w.count, Cursor: w.cursor}, ackCost)
	}
}

// room is how many further messages m may be given.
func (c *consumer) roomLocked(m *member) int {
	if c.mode == turns {
		return min(m.maxInFlight-m.out, c.broker.cfg.Limits.InFlight-c.pending.live)
	}
	return m.maxInFlight - c.pending.live
}

// holderLocked is the member whose turn it is: the first from there that can
// take something.
func (c *consumer) holderLocked() *member {
	for range c.members {
		m := c.members[c.turn%len(c.members)]
		if !m.slow && c.roomLocked(m) > 0 {
			return m
		}
		c.turn = (c.turn + 1) % len(c.members)
		c.turnBy = 0
	}
	return nil
}

// turnPatience is how long a message waits for the member whose turn it is.
const turnPatience = 20 * time.Millisecond

// begin tells m after which seq to read on, and how much; nothing for now when ok
// is false: it will be rung. Finish or commit must follow.
func (c *consumer) begin(m *member) (p passage, ok bool) {
	c.mu.Lock()
	m.slow = false
	var ring []*member
	p, ring, ok = c.beginLocked(m)
	c.mu.Unlock()
	ringMembers(ring)
	return p, ok
}

// passage is what a member has to read.
type passage struct {
	after parley.Seq
	room  int
	share int // how many members there are to share it
	epoch int
	ahead []parley.Seq // not to be delivered, in order
}

func (c *consumer) beginLocked(m *member) (p passage, ring []*member, ok bool) {
	if m.gone || c.paused || c.over != nil {
		return passage{}, nil, false
	}
	p = passage{after: c.cursor, room: c.roomLocked(m), share: len(c.members), epoch: c.epoch, ahead: c.ahead}
	if c.mode == broadcast {
		if p.after, p.share = m.cursor, 1; m.cursor < c.cursor {
			p.room = max(p.room, batchMessages) // others have it in flight already
		}
	}
	if p.room <= 0 {
		m.blocked = true
		return passage{}, nil, false
	}
	if c.mode == broadcast {
		return p, nil, true
	}
	if c.reading != nil {
		c.refused = true
		return passage{}, nil, false
	}
	if len(c.members) > 1 {
		if holder := c.holderLocked(); holder != nil && holder != m {
			if c.turnBy == 0 {
				c.turnBy = c.broker.elapsed() + turnPatience
				c.broker.tender.arm(c, c.turnBy)
			}
			return passage{}, []*member{holder}, false
		}
	}
	c.reading = m
	return p, nil, true
}

// finishLocked ends m's reading, and returns who has to be rung: took says that it
// was given something.
func (c *consumer) finishLocked(m *member, took bool) (ring []*member) {
	if c.reading != m {
		return nil
	}
	c.reading = nil
	if took && len(c.members) > 1 {
		c.turn = (slices.Index(c.members, m) + 1) % len(c.members)
		c.turnBy = 0
		if next := c.holderLocked(); next != nil && next != m {
			ring = append(ring, next)
		}
	}
	if c.refused {
		c.refused = false
		ring = c.othersLocked(m)
	}
	return ring
}

func (c *consumer) othersLocked(m *member) []*member {
	return slices.DeleteFunc(slices.Clone(c.members), func(o *member) bool { return o == m })
}

// abort is called when reading failed.
func (c *consumer) abort(m *member) {
	c.mu.Lock()
	ring := c.finishLocked(m, false)
	c.mu.Unlock()
	ringMembers(ring)
}

// commit puts in flight what m has read, and returns what of it m is to be given:
// with how often each has been delivered, unless it is all for the first time.
func (c *consumer) commit(m *member, p passage, r reading) (messages []*parley.Message, attempts []int) {
	now := c.broker.elapsed()
	c.mu.Lock()
	if m.gone || c.epoch != p.epoch || c.over != nil {
		ring := c.finishLocked(m, false)
		c.mu.Unlock()
		ringMembers(ring)
		return nil, nil
	}
	var fresh int
	before := c.cursor
	if c.mode == broadcast && p.after < c.cursor {
		messages, attempts, fresh = c.mergeLocked(m, r, now)
	} else {
		messages = r.messages
		for _, msg := range messages {
			c.pending.add(c.flightOf(m, msg, now))
		}
		fresh = len(messages)
		c.cursor, m.cursor = max(c.cursor, r.through), r.through
	}
	if fresh > 0 {
		c.stale = true
		c.broker.tender.arm(c, now+m.ackWait)
	}
	if r.through > p.after {
		c.stale = true // what was skipped needs not be looked at again
	}
	ring := c.finishLocked(m, fresh > 0)
	c.passed(c.cursor)
	missed := 0 // by the consumer: what another member has looked at is counted already
	for _, seq := range r.missed {
		if before < seq && seq <= c.cursor {
			missed++
		}
	}
	c.mu.Unlock()
	ringMembers(ring)
	c.broker.stats.consumers.taken.Add(int64(fresh))
	c.broker.stats.consumers.missed.Add(int64(missed))
	return messages, attempts
}

func (c *consumer) flightOf(m *member, msg *parley.Message, now time.Duration) flight {
	f := flight{seq: msg.Seq, due: now + m.ackWait, deliveries: 1, state: out, asks: asks(msg)}
	if c.mode != broadcast {
		f.member = m
	}
	return f
}

// mergeLocked is commit for who shares messages with others that have come
// further: what is done was acknowledged by one of them.
func (c *consumer) mergeLocked(m *member, r reading, now time.Duration) (messages []*parley.Message, attempts []int, fresh int) {
	room := c.roomLocked(m)
	through := r.through
	for i, msg := range r.messages {
		if msg.Seq <= c.cursor {
			if f := c.pending.find(msg.Seq); f != nil && f.state == out {
				messages = append(messages, msg)
				attempts = append(attempts, f.deliveries)
			}
			continue
		}
		if fresh == room {
			m.blocked = true
			through = c.cursor
			if i > 0 {
				through = max(through, r.messages[i-1].Seq)
			}
			break
		}
		fresh++
		c.pending.add(c.flightOf(m, msg, now))
		messages = append(messages, msg)
		attempts = append(attempts, 1)
		c.cursor = msg.Seq
	}
	c.cursor, m.cursor = max(c.cursor, through), through
	return messages, attempts, fresh
}

// unblockLocked finds who waits for room and has enough of it now: an eighth, so
// that not every acknowledgement costs a delivery, or what there is when nothing
// more will be acknowledged.
func (c *consumer) unblockLocked() (ring []*member) {
	for _, m := range c.members {
		if !m.blocked {
			continue
		}
		room, out := c.roomLocked(m), m.out
		switch {
		case c.mode == broadcast:
			out = c.pending.live - c.pending.waiting
		case c.pending.waiting > 0:
			room = max(room, m.maxInFlight-m.out) // for what is delivered again
		}
		if room >= max(1, m.maxInFlight/8) || room > 0 && out == 0 {
			m.blocked = false
			ring = append(ring, m)
		}
	}
	return ring
}

func ringMembers(members []*member) {
	for _, m := range members {
		m.sub.session.ring(m.sub)
	}
}
