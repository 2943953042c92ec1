package broker

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/parley-im/parley/internal/backend"
)

// counters count what the broker does; all only grow but subscriptions.
type counters struct {
	received      atomic.Int64
	invalid       atomic.Int64
	published     atomic.Int64
	bytes         atomic.Int64
	duplicates    atomic.Int64
	conflicts     atomic.Int64
	refused       atomic.Int64
	noRoom        atomic.Int64
	overQuota     atomic.Int64
	failed        atomic.Int64
	delivered     atomic.Int64
	replays       atomic.Int64
	fallbacks     atomic.Int64
	trimmed       atomic.Int64
	subscriptions atomic.Int64
	subscribed    atomic.Int64
	commits       atomic.Int64
	commitNanos   atomic.Int64
	commitTimes   [commitBuckets + 1]atomic.Int64
	consumers     consumerCounters
}

// consumerCounters count what consumers do with messages.
type consumerCounters struct {
	taken, resumed                           atomic.Int64
	acked, dead, expired, dropped, suspended atomic.Int64
	redelivered, late, naks, missed          atomic.Int64
	members                                  atomic.Int64
}

const commitBuckets = 14

// CommitBounds are the upper bounds of Stats.CommitTimes, in seconds.
func CommitBounds() [commitBuckets]float64 {
	return [...]float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5}
}

// Stats is a snapshot of a broker.
type Stats struct {
	Sessions, Subscriptions int64
	// Feeds is how many topics have live subscriptions; TailBytes what is kept
	// in memory for them.
	Feeds, TailBytes int64
	// QueueBytes of QueueBound are not durable yet. Waiting is how many times
	// something was handed over for it.
	QueueBytes, QueueBound, Waiting int64
	// Received messages were to be published. Of them Invalid broke a rule,
	// counting one for each request that could not be read;
	// Published messages were stored, PublishedBytes is the sum of their
	// bodies; Duplicates were stored before; Conflicts used an id again for
	// another message; Refused found the queue full or the broker stopping, or were too many; NoRoom were refused because
	// the disk is almost full; OverQuota because the sender has too much stored;
	// Failed could not be stored. Received is the sum of
	// all but PublishedBytes, when nothing waits.
	Received, Invalid, Published, PublishedBytes, Duplicates, Conflicts, Refused, NoRoom, OverQuota, Failed int64
	// Delivered counts each message once for each subscription it went to.
	Delivered int64
	// Consumers says what became of what is acknowledged.
	Consumers ConsumerStats
	// Replays delivered stored messages; of them Fallbacks because a live
	// reader had fallen behind the tail.
	Replays, Fallbacks int64
	// Subscribed is how many subscriptions there have been, the present ones
	// included.
	Subscribed int64
	// Trims is how often retention dropped something.
	Trims int64
	// Commits were made; CommitTimes counts them by their duration: entry i is
	// at most CommitBounds()[i], the last one longer than all.
	Commits     int64
	CommitTimes [commitBuckets + 1]int64
	// CommitTime is the sum of all their durations.
	CommitTime time.Duration
}

// Stats takes a snapshot. The figures are of slightly different moments.
func (b *Broker) Stats() Stats {
	c := &b.stats
	// In the order of a message's way, so that nobody and nothing here means
	// that the counters below have everything.
	b.mu.Lock()
	sessions := len(b.sessions)
	b.mu.Unlock()
	queued, waiting := b.queue.used()
	feeds, tail := b.feeds.size()
	s := Stats{
		Sessions: int64(sessions), Subscriptions: c.subscriptions.Load(),
		Feeds: int64(feeds), TailBytes: int64(tail),
		QueueBytes: int64(queued), QueueBound: int64(b.cfg.QueueBytes), Waiting: int64(waiting),
		Received: c.received.Load(), Invalid: c.invalid.Load(),
		Published: c.published.Load(), PublishedBytes: c.bytes.Load(),
		Duplicates: c.duplicates.Load(), Conflicts: c.conflicts.Load(),
		Refused: c.refused.Load(), NoRoom: c.noRoom.Load(), OverQuota: c.overQuota.Load(), Failed: c.failed.Load(),
		Consumers: b.consumerStats(),
		Delivered: c.delivered.Load(), Replays: c.replays.Load(), Fallbacks: c.fallbacks.Load(),
		Subscribed: c.subscribed.Load(), Trims: c.trimmed.Load(),
		Commits: c.commits.Load(), CommitTime: time.Duration(c.commitNanos.Load()),
	}
	for i := range s.CommitTimes {
		s.CommitTimes[i] = c.commitTimes[i].Load()
	}
	return s
}

// committed counts one commit, and tells how many messages were over a quota.
func (c *counters) committed(done *commit, d time.Duration, err error) (over int64) {
	switch {
	case errors.Is(err, backend.ErrStorageFull):
		c.noRoom.Add(int64(len(done.entries)))
		return 0
	case err != nil:
		c.failed.Add(int64(len(done.entries)))
		return 0
	}
	var published, bytes, duplicates, conflicts int64
	for _, p := range done.publications {
		switch {
		case p.Result.Err != nil && overQuota(p.Result.Err):
			over++
		case p.Result.Err != nil:
			conflicts++
		case p.Result.Duplicate:
			duplicates++
		default:
			published++
			bytes += int64(len(p.Message.Body))
		}
	}
	c.published.Add(published)
	c.bytes.Add(bytes)
	c.duplicates.Add(duplicates)
	c.conflicts.Add(conflicts)
	c.commits.Add(1)
	c.commitNanos.Add(int64(d))
	bounds := CommitBounds()
	i, _ := slices.BinarySearch(bounds[:], d.Seconds())
	c.commitTimes[i].Add(1)
	c.overQuota.Add(over)
	return over
}

// subscribe counts a subscription that begins.
func (c *counters) subscribe() {
	c.subscriptions.Add(1)
	c.subscribed.Add(1)
}
