package broker

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
)

// ConsumerStats balance, when nothing moves: Taken + Resumed = Acked + Dead +
// Expired + Dropped + Suspended + Pending.
type ConsumerStats struct {
	// Loaded consumers are in use or have something to save; Members are the
	// subscriptions by them; Pending is what they have in flight or wait to
	// deliver again.
	Loaded, Members, Pending int64
	// Taken messages were delivered for the first time; Resumed were pending
	// when a consumer was loaded.
	Taken, Resumed int64
	// Acked, Dead and Expired is what became of them: Expired were trimmed or
	// past their time before they could be delivered again. Dropped were pending
	// when a consumer was deleted or its cursor set, Suspended when it was put
	// away because nobody uses it.
	Acked, Dead, Expired, Dropped, Suspended int64
	// Redelivered counts further deliveries, Late those that were not
	// acknowledged in time, Naks those that were refused for a while. Missed were
	// past their time before they could be delivered at all.
	Redelivered, Late, Naks, Missed int64
}

func (b *Broker) consumerStats() ConsumerStats {
	n := &b.stats.consumers
	s := ConsumerStats{
		Taken: n.taken.Load(), Resumed: n.resumed.Load(), Acked: n.acked.Load(), Dead: n.dead.Load(),
		Expired: n.expired.Load(), Dropped: n.dropped.Load(), Suspended: n.suspended.Load(),
		Redelivered: n.redelivered.Load(), Late: n.late.Load(), Naks: n.naks.Load(), Missed: n.missed.Load(),
	}
	b.consumers.mu.Lock()
	s.Loaded, s.Members = int64(len(b.consumers.byID)), b.stats.consumers.members.Load()
	b.consumers.mu.Unlock()
	s.Pending = s.Taken + s.Resumed - s.Acked - s.Dead - s.Expired - s.Dropped - s.Suspended
	return s
}

// Unsaved is how many acknowledgements and refusals were taken and are not
// durable. It looks at every consumer that is loaded.
func (b *Broker) Unsaved() int {
	b.consumers.mu.Lock()
	all := slices.Collect(maps.Values(b.consumers.byID))
	b.consumers.mu.Unlock()
	n := 0
	for _, c := range all {
		c.mu.Lock()
		n += c.unsaved
		c.mu.Unlock()
	}
	return n
}

// ConsumerInfo says where a consumer stands.
type ConsumerInfo struct {
	ConsumerID

	// Floor is the seq up to which all is done, Cursor that up to which all was
	// delivered once.
	Floor, Cursor parley.Seq
	// Lag is how many stored messages are not done, counted up to a million.
	Lag int
	// InFlight were delivered and are not acknowledged; Waiting are to be
	// delivered again.
	InFlight, Waiting int
	Members           int
	Paused            bool
	Active            time.Time // when it was last used; to the hour
}

// maxLag bounds what is counted of one lag.
const maxLag = 1_000_000

// Consumers yields the consumers of an owner, in order of name and topic, or of
// all of them when owner is "*". A consumer that is in use and was not saved yet
// comes last. Each costs a count of its lag.
func (b *Broker) Consumers(ctx context.Context, owner string) iter.Seq2[ConsumerInfo, error] {
	return func(yield func(ConsumerInfo, error) bool) {
		seen := map[ConsumerID]bool{}
		for id, err := range b.consumerIDs(ctx, owner) {
			var info ConsumerInfo
			if err == nil && !seen[id] {
				seen[id] = true
				info, err = b.Consumer(ctx, id)
			} else if err == nil {
				continue
			}
			if errors.Is(err, parley.ErrNotFound) {
				continue
			}
			if !yield(info, err) || err != nil {
				return
			}
		}
	}
}

// consumerIDs yields those with a record, and then those that are loaded.
func (b *Broker) consumerIDs(ctx context.Context, owner string) iter.Seq2[ConsumerID, error] {
	prefix := consumerKeys
	if owner != "*" {
		prefix += owner + "/"
	}
	return func(yield func(ConsumerID, error) bool) {
		if b.cfg.KV != nil {
			for r, err := range b.cfg.KV.Scan(ctx, prefix) {
				var id ConsumerID
				if err == nil {
					id, err = parseConsumerKey(r.Key)
				}
				if !yield(id, err) || err != nil {
					return
				}
			}
		}
		b.consumers.mu.Lock()
		var loaded []ConsumerID
		for id := range b.consumers.byID {
			if strings.HasPrefix(id.key(), prefix) {
				loaded = append(loaded, id)
			}
		}
		b.consumers.mu.Unlock()
		slices.SortFunc(loaded, func(x, y ConsumerID) int { return strings.Compare(x.key(), y.key()) })
		for _, id := range loaded {
			if !yield(id, nil) {
				return
			}
		}
	}
}

// with calls do with a consumer that exists; the error wraps parley.ErrNotFound
// when it does not.
func (b *Broker) with(ctx context.Context, id ConsumerID, do func(c *consumer) error) error {
	if err := id.check(); err != nil {
		return err
	}
	c, err := b.open(ctx, id)
	if err != nil {
		return err
	}
	defer b.release(c)
	if !c.stands() {
		return fmt.Errorf("there is no such subscription: %w", parley.ErrNotFound)
	}
	return do(c)
}

// Consumer tells where one stands; the error wraps parley.ErrNotFound.
func (b *Broker) Consumer(ctx context.Context, id ConsumerID) (ConsumerInfo, error) {
	info := ConsumerInfo{ConsumerID: id}
	err := b.with(ctx, id, func(c *consumer) error {
		c.mu.Lock()
		info.Cursor, info.Floor, info.Paused, info.Active = c.cursor, c.cursor, c.paused, c.active
		info.Members, info.Waiting = len(c.members), c.pending.waiting
		info.InFlight, info.Lag = c.pending.live-c.pending.waiting, c.pending.live
		if first := c.pending.first(); first != 0 {
			info.Floor = first - 1
		}
		c.mu.Unlock()
		q := c.query(info.Cursor)
		q.Limit = maxLag
		span, err := b.log.Count(ctx, q)
		info.Lag += span.Count
		return err
	})
	return info, err
}

// PauseConsumer stops deliveries by a consumer, durably, or lets them go on.
func (b *Broker) PauseConsumer(ctx context.Context, id ConsumerID, paused bool) error {
	return b.with(ctx, id, func(c *consumer) error {
		c.mu.Lock()
		c.paused = paused
		ring := slices.Clone(c.members)
		c.mu.Unlock()
		ringMembers(ring)
		return c.sync(ctx)
	})
}

// SeekConsumer has a consumer go on from s, durably: FromNow is the end. What is
// pending is forgotten.
func (b *Broker) SeekConsumer(ctx context.Context, id ConsumerID, s Start) error {
	return b.with(ctx, id, func(c *consumer) error {
		_, last, err := b.log.Bounds(ctx, id.Topic.Stream())
		if err != nil {
			return err
		}
		end, err := b.end(ctx, id.Topic.Stream(), last)
		if err != nil {
			return err
		}
		cursor, err := c.seqOf(ctx, s, end)
		if err != nil {
			return err
		}
		c.reset(cursor, time.Time{})
		err = c.sync(ctx)
		c.mu.Lock()
		ring := slices.Clone(c.members)
		c.mu.Unlock()
		ringMembers(ring)
		return err
	})
}

// DeleteConsumer removes a consumer, durably, and ends its subscriptions.
func (b *Broker) DeleteConsumer(ctx context.Context, id ConsumerID) error {
	return b.with(ctx, id, func(c *consumer) error {
		c.mu.Lock()
		c.over = errDeleted
		c.mu.Unlock()
		// What is being saved comes to its end first.
		if err := c.sync(ctx); err != nil && !errors.Is(err, errDeleted) {
			c.mu.Lock()
			c.over = nil
			c.changedLocked() // what was not written because of that
			c.mu.Unlock()
			return err
		}
		c.mu.Lock()
		rev := c.rev
		c.mu.Unlock()
		var err error
		if b.cfg.KV != nil && rev != 0 {
			if err = b.cfg.KV.Delete(ctx, id.key(), rev); errors.Is(err, parley.ErrNotFound) {
				err = nil
			}
		}
		b.forget(c, errDeleted)
		return err
	})
}

// Erase drops all that is kept of a user's messages: the inbox, the dead letters,
// the read marker, and the cursors of devices and durable subscriptions, which it
// ends. It can be repeated; it tells how much it dropped.
func (b *Broker) Erase(ctx context.Context, user string) (account.Erased, error) {
	var erased account.Erased
	if err := isName(user); err != nil {
		return erased, err
	}
	n, err := b.eraseConsumers(ctx, user, func(ConsumerID) bool { return true })
	erased.Cursors = n
	if err != nil {
		return erased, err
	}
	if erased.Messages, err = b.eraseStream(ctx, parley.InboxTopic(user).Stream()); err != nil {
		return erased, err
	}
	if erased.DeadLetters, err = b.eraseStream(ctx, deadTopic(user).Stream()); err != nil {
		return erased, err
	}
	if meter, ok := b.log.(backend.Meter); ok {
		if err := meter.ForgetUsage(ctx, user); err != nil {
			return erased, err
		}
	}
	return erased, errors.Join(b.forgetMarker(ctx, user), b.forgetRemoved(ctx, user))
}

// EraseDevice drops the cursor of one of a user's devices.
func (b *Broker) EraseDevice(ctx context.Context, user, device string) error {
	_, err := b.eraseConsumers(ctx, user, func(id ConsumerID) bool {
		return id.Name == device && id.mode() == exclusive
	})
	return err
}

func (b *Broker) eraseConsumers(ctx context.Context, user string, which func(ConsumerID) bool) (n int, err error) {
	var ids []ConsumerID
	for id, err := range b.consumerIDs(ctx, user) {
		if err != nil {
			return 0, err
		}
		if which(id) {
			ids = append(ids, id)
		}
	}
	for _, id := range ids {
		err := b.DeleteConsumer(ctx, id)
		switch {
		case err == nil:
			n++
		case !errors.Is(err, parley.ErrNotFound):
			return n, err
		}
	}
	return n, nil
}

func (b *Broker) eraseStream(ctx context.Context, s parley.Stream) (int, error) {
	span, err := b.log.Count(ctx, backend.Query{Stream: s})
	if err != nil {
		return 0, err
	}
	_, last, err := b.log.Bounds(ctx, s)
	if err != nil {
		return 0, err
	}
	if last == 0 {
		return 0, nil
	}
	_, err = b.Trim(ctx, s, backend.Retention{Through: last})
	return span.Count, err
}
