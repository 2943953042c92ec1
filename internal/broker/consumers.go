package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/parley-im/parley"
)

// consumers are those that are in use, or have something to save.
type consumers struct {
	mu   sync.Mutex
	byID map[ConsumerID]*consumer
}

// elapsed is the time since the broker was made, which nobody can set.
func (b *Broker) elapsed() time.Duration { return time.Since(b.began) }

// The bounds of a Delivery.
const (
	defaultAckWait  = 30 * time.Second
	maxAckWait      = 24 * time.Hour
	defaultInFlight = 1000
)

// consumerOf is the consumer that a request asks for, with the defaults set.
func (s *Session) consumerOf(r *Subscribe) (ConsumerID, Delivery, error) {
	d, id := *r.Delivery, s.Identity()
	c := ConsumerID{Topic: r.Topic, Owner: id.User, Name: d.Name}
	most := s.broker.cfg.Limits.InFlight
	if d.AckWait == 0 {
		d.AckWait = defaultAckWait
	}
	if d.MaxInFlight == 0 {
		d.MaxInFlight = min(defaultInFlight, most)
	}
	var err error
	switch owner, peer := r.Topic.Inbox(); {
	case r.ReplayOnly:
		err = fmt.Errorf("what only replays is not acknowledged: %w", parley.ErrInvalid)
	case d.AckWait < 0 || d.AckWait > maxAckWait:
		err = fmt.Errorf("the time to acknowledge is not between 0 and %v: %w", maxAckWait, parley.ErrInvalid)
	case d.MaxInFlight < 0 || d.MaxInFlight > most:
		err = fmt.Errorf("the bound of what is in flight is not between 0 and %d: %w", most, parley.ErrInvalid)
	case d.MaxDeliver < 0:
		err = fmt.Errorf("the bound of deliveries is negative: %w", parley.ErrInvalid)
	case owner != "" && (peer != "" || owner != id.User || r.Topic != parley.InboxTopic(owner)):
		err = fmt.Errorf("only the whole of an own inbox is acknowledged: %w", parley.ErrInvalid)
	case owner != "" && d.Name != "":
		err = fmt.Errorf("the name of a device's subscription to an inbox is the device: %w", parley.ErrInvalid)
	case owner != "":
		if c.Name = id.Device; d.Shared || c.Name == "" {
			c.Name = LegacyDevice
		}
	default:
		_, err = parley.ParseDevice(d.Name)
	}
	if err == nil {
		err = c.check()
	}
	return c, d, err
}

// check refuses what cannot be the key of a record.
func (id ConsumerID) check() error {
	switch {
	case id.Owner != "" && isName(id.Owner) != nil:
		return fmt.Errorf("only a user with a proper name has durable subscriptions: %w", parley.ErrInvalid)
	case strings.ContainsAny(id.Name, "/\x00") || len(id.key()) > maxKeyBytes:
		return fmt.Errorf("topic and name are longer than %d bytes together: %w", maxKeyBytes-len(consumerKeys)-len(id.Owner)-1, parley.ErrInvalid)
	}
	return nil
}

// open finds a consumer and keeps it loaded until release. It need not exist.
func (b *Broker) open(ctx context.Context, id ConsumerID) (*consumer, error) {
	b.consumers.mu.Lock()
	c := b.consumers.byID[id]
	if c == nil {
		c = &consumer{broker: b, id: id, mode: id.mode()}
		b.consumers.byID[id] = c
	}
	c.users++
	b.consumers.mu.Unlock()
	c.loading.Lock()
	defer c.loading.Unlock()
	if c.loaded || b.cfg.KV == nil {
		c.loaded = true
		return c, nil
	}
	record, err := b.cfg.KV.Get(ctx, id.key())
	if err == nil {
		err = c.load(ctx, record)
	}
	if err != nil && !errors.Is(err, parley.ErrNotFound) {
		b.release(c)
		return nil, err
	}
	c.loaded = true
	return c, nil
}

// release undoes open.
func (b *Broker) release(c *consumer) {
	b.consumers.mu.Lock()
	c.users--
	b.consumers.mu.Unlock()
	b.settle(c)
}

// settle forgets a consumer that nobody uses and that has nothing to save.
func (b *Broker) settle(c *consumer) {
	b.consumers.mu.Lock()
	defer b.consumers.mu.Unlock()
	if c.users > 0 || b.consumers.byID[c.id] != c || b.cfg.KV == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unmade && !c.saving && !c.queued && len(c.waiters) == 0 {
		// Whoever it was comes back as somebody new, and nothing is lost: on a full
		// disk they must not gather here.
		c.over, c.changed, c.dying, c.asked = errDeleted, false, nil, nil
	}
	if c.changed || c.saving || c.queued || len(c.waiters) > 0 || len(c.dying) > 0 || len(c.asked) > 0 {
		return
	}
	delete(b.consumers.byID, c.id)
	b.tender.disarm(c)
	b.stats.consumers.suspended.Add(int64(c.pending.live))
}

// join makes u a member of the consumer that it asks for.
func (b *Broker) join(ctx context.Context, u *Subscription) error {
	id, d, err := u.session.consumerOf(&u.request)
	if err != nil {
		return err
	}
	c, err := b.open(ctx, id)
	if err != nil {
		return err
	}
	m := &member{consumer: c, sub: u, ackWait: d.AckWait, maxInFlight: d.MaxInFlight, maxDeliver: d.MaxDeliver}
	if err := c.prepare(ctx, u, m); err != nil {
		b.release(c)
		return err
	}
	replaced, err := c.enter(m)
	if err != nil {
		b.release(c)
		return err
	}
	u.member = m
	if replaced != nil {
		b.release(c)
		old := replaced.sub
		var why Event
		if old.session != u.session || !u.request.Replace {
			why = &Ended{old, ErrReplaced}
		}
		old.session.end(old, why)
	}
	return nil
}

// enter adds m, and returns whom it replaces.
func (c *consumer) enter(m *member) (replaced *member, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over != nil {
		return nil, c.over
	}
	if c.mode == exclusive && len(c.members) > 0 {
		replaced = c.members[0]
		c.removeLocked(replaced)
	}
	if len(c.members) >= maxMembers {
		return nil, fmt.Errorf("the subscription has %d members already: %w", maxMembers, parley.ErrUnavailable)
	}
	if c.mode == broadcast {
		m.cursor = c.cursor
		now := c.broker.elapsed()
		for i := range c.pending.list {
			f := &c.pending.list[i]
			if f.state == waiting && f.due <= now {
				c.pending.move(f, out, nil, now+m.ackWait)
				f.deliveries++
				c.broker.tender.arm(c, f.due)
			}
			if f.state == out {
				m.again = append(m.again, f.seq)
			}
		}
	}
	c.members = append(c.members, m)
	c.broker.stats.consumers.members.Add(1)
	for i := range c.pending.list { // those that were asked for with a delay
		if f := &c.pending.list[i]; f.state == waiting && f.due > 0 {
			c.broker.tender.arm(c, f.due)
		}
	}
	return replaced, nil
}

// maxMembers bounds the sessions that share a consumer.
const maxMembers = 1000

// leave takes m out. What is out with it is delivered again to the others, or
// to who comes next, and that counts as no attempt.
func (m *member) leave() {
	c := m.consumer
	c.mu.Lock()
	if m.gone {
		c.mu.Unlock()
		return
	}
	c.removeLocked(m)
	if len(c.members) == 0 {
		if now := c.broker.cfg.Clock.Now(); c.stale || now.Sub(c.active) > activeInterval {
			c.active, c.stale = now, false
			c.changed = true
			c.broker.tender.save(c)
		}
	}
	ring := append([]*member(nil), c.members...)
	c.mu.Unlock()
	ringMembers(ring)
	c.broker.release(c)
}

// activeInterval is how exactly it is kept when a consumer was last used.
const activeInterval = time.Hour

func (c *consumer) removeLocked(m *member) {
	m.gone, m.again = true, nil
	for i, o := range c.members {
		if o == m {
			c.members = append(c.members[:i:i], c.members[i+1:]...)
			c.broker.stats.consumers.members.Add(-1)
			if c.turn > i {
				c.turn--
			}
			break
		}
	}
	if c.turn >= len(c.members) {
		c.turn = 0
	}
	if c.reading == m {
		c.reading = nil
	}
	for i := range c.pending.list {
		f := &c.pending.list[i]
		if f.state == out && (f.member == m || c.mode == broadcast && len(c.members) == 0) {
			c.pending.move(f, waiting, nil, 0)
		}
	}
}

// end ends u from the broker's side; why may be nil.
func (s *Session) end(u *Subscription, why Event) {
	s.mu.Lock()
	for i, v := range s.subs {
		if u == v {
			s.cancelLocked(i)
			u.farewell = why
			s.mu.Unlock()
			s.detach(u)
			return
		}
	}
	s.mu.Unlock()
}

// cursorLife is how long the cursor of a device that does not come lasts.
const cursorLife = 30 * 24 * time.Hour

// prepare finds where m begins: where the consumer stood, or a place of its own
// when the consumer is new.
func (c *consumer) prepare(ctx context.Context, u *Subscription, m *member) error {
	c.loading.Lock() // no other session makes it meanwhile
	defer c.loading.Unlock()
	c.mu.Lock()
	exists, cursor, active, present := c.rev != 0 || !c.active.IsZero(), c.cursor, c.active, len(c.members) > 0
	c.mu.Unlock()
	if !exists {
		return c.create(ctx, u, m)
	}
	if present {
		return nil
	}
	log := c.broker.log
	floor, last, err := log.Bounds(ctx, c.id.Topic.Stream())
	if err != nil {
		return err
	}
	if now := c.broker.cfg.Clock.Past(); c.mode != turns && now.Sub(active) > cursorLife {
		// As a new device, but it is told that it has missed something.
		u.notices = append(u.notices, &Gap{Sub: u, From: min(cursor, floor), To: floor})
		c.reset(0, c.broker.cfg.Clock.Now())
		return nil
	}
	if cursor <= last {
		return nil
	}
	end, err := c.broker.end(ctx, c.id.Topic.Stream(), last)
	if err != nil || cursor <= end {
		return err
	}
	end = max(end, u.attached)
	u.notices = append(u.notices, &Reset{Sub: u, From: cursor, To: end})
	c.reset(end, time.Time{})
	return nil
}

// create makes a new consumer: from where the request says, and otherwise for an
// inbox with everything in it, for a topic from now on.
func (c *consumer) create(ctx context.Context, u *Subscription, m *member) error {
	cursor := parley.Seq(0)
	// Now is not a place to begin for an inbox: its messages are waiting.
	if c.mode == turns || c.mode == exclusive && u.request.Start.Kind != FromNow {
		var err error
		if cursor, err = c.seqOf(ctx, u.request.Start, u.attached); err != nil {
			return err
		}
	}
	if err := c.broker.admitConsumer(ctx, c.id.Owner); err != nil {
		return err
	}
	// Who had the name before has nothing to do with it.
	_, known, err := c.broker.log.Bounds(ctx, deadTopic(c.id.Owner).Stream())
	if err != nil {
		return err
	}
	c.reset(cursor, c.broker.cfg.Clock.Now())
	c.mu.Lock()
	c.learn(known)
	c.mu.Unlock()
	m.created = true
	if c.broker.cfg.KV == nil {
		return nil
	}
	if c.mode != turns {
		// Soon: a record that is there can be replaced when the disk is full, and
		// acknowledgements go on.
		c.mu.Lock()
		c.changedLocked()
		c.mu.Unlock()
		return nil
	}
	// It stands from the moment that it is told.
	if err = c.sync(ctx); err != nil {
		c.mu.Lock()
		c.active, c.changed, c.stale = time.Time{}, false, false
		c.mu.Unlock()
	}
	return err
}

// seqOf finds the seq after which a start begins; now is the end.
func (c *consumer) seqOf(ctx context.Context, s Start, now parley.Seq) (parley.Seq, error) {
	q := c.query(0)
	q.Limit = 1
	switch s.Kind {
	case FromNow:
		return now, nil
	case AfterSeq:
		return min(s.Seq, now), nil
	case SinceTime:
		q.Since = s.Time
	case NewestN:
		q.Limit, q.Reverse = s.Last, true
		if s.Last <= 0 {
			return now, nil
		}
	}
	span, err := c.broker.log.Count(ctx, q)
	if err != nil || span.Count == 0 {
		return now, err
	}
	return span.First - 1, nil
}

// reset forgets what is pending and goes on after cursor.
func (c *consumer) reset(cursor parley.Seq, active time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	c.broker.stats.consumers.dropped.Add(int64(c.pending.live))
	for i := range c.pending.list {
		if f := &c.pending.list[i]; f.state != done {
			c.pending.remove(f)
		}
	}
	c.pending.tidy()
	c.dying, c.reading, c.ahead = nil, nil, nil
	c.learn(0)
	c.cursor = cursor
	for _, m := range c.members {
		m.cursor, m.again = cursor, nil
	}
	if !active.IsZero() {
		c.active = active
	}
	c.stale = true
}

// maxConsumers bounds the devices and durable subscriptions of one owner.
const maxConsumers = 1000

// admitConsumer refuses an owner who has too many of them.
func (b *Broker) admitConsumer(ctx context.Context, owner string) error {
	if b.cfg.KV == nil {
		return nil
	}
	n := 0
	for _, err := range b.cfg.KV.Scan(ctx, consumerKeys+owner+"/") {
		if err != nil {
			return err
		}
		if n++; n >= maxConsumers {
			return fmt.Errorf("there are %d devices and durable subscriptions already: %w", maxConsumers, parley.ErrUnavailable)
		}
	}
	return nil
}
