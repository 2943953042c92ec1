package broker

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// The bounds of one look at lags.
const (
	maxLags    = 1000    // whose lags are told
	lagRecords = 20_000  // that are searched for durable subscriptions
	countedLag = 100_000 // up to where a lag is counted
)

// Lag is how far a durable subscription is behind.
type Lag struct {
	ConsumerID

	// Messages that are stored and not done, counted up to 100,000.
	Messages int
}

// lags are what is known of the lags of durable subscriptions.
type lags struct {
	looking sync.Mutex // held during a look; guards after and turn
	after   string     // the search of the records goes on here
	turn    int64      // counts looks

	mu    sync.Mutex
	known map[ConsumerID]knownLag
	more  bool // there are more than are known
}

type knownLag struct {
	messages int
	counted  bool
	turn     int64 // when it was last tried
}

// Lags looks at durable subscriptions until ctx ends, those first whose last look
// is longest ago, and tells the lags of all that it knows, at most 1,000, in order
// of owner, name and topic: what it did not come to is as of an earlier look. Those
// in use are known at once; others are searched for, 20,000 records a look, if the KV
// is a [backend.Seeker]. More
// says that there are too many. Two looks at a time are one.
func (b *Broker) Lags(ctx context.Context) (known []Lag, more bool) {
	l := &b.lags
	if l.looking.TryLock() {
		b.look(ctx)
		l.looking.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, k := range l.known {
		if k.counted {
			known = append(known, Lag{id, k.messages})
		}
	}
	slices.SortFunc(known, func(x, y Lag) int { return strings.Compare(x.key(), y.key()) })
	return known, l.more
}

func (b *Broker) look(ctx context.Context) {
	l := &b.lags
	l.turn++
	if err := b.searchLags(ctx); err != nil && ctx.Err() == nil {
		b.cfg.Logger.ErrorContext(ctx, "cannot search for durable subscriptions", "error", err)
	}
	l.mu.Lock()
	known := maps.Clone(l.known)
	l.mu.Unlock()
	for _, id := range slices.SortedFunc(maps.Keys(known), func(x, y ConsumerID) int {
		return cmp.Compare(known[x].turn, known[y].turn)
	}) {
		if ctx.Err() != nil {
			return
		}
		k := known[id]
		k.turn = l.turn // also when it takes too long: the others are next
		n, err := b.lagOf(ctx, id)
		if err == nil {
			k.messages, k.counted = n, true
		}
		l.mu.Lock()
		l.known[id] = k
		if errors.Is(err, parley.ErrNotFound) {
			delete(l.known, id)
		}
		l.mu.Unlock()
	}
}

// searchLags finds durable subscriptions among those in use and the next records.
func (b *Broker) searchLags(ctx context.Context) error {
	l := &b.lags
	l.mu.Lock()
	defer l.mu.Unlock()
	add := func(id ConsumerID) {
		if id.mode() != turns {
			return
		}
		if _, ok := l.known[id]; ok {
			return
		}
		if len(l.known) >= maxLags {
			l.more = true
			return
		}
		l.known[id] = knownLag{}
	}
	if l.after == "" {
		l.more = false
	}
	b.consumers.mu.Lock()
	for id := range b.consumers.byID {
		add(id)
	}
	b.consumers.mu.Unlock()
	seeker, ok := b.cfg.KV.(backend.Seeker)
	if !ok {
		return nil
	}
	n := 0
	for r, err := range seeker.ScanAfter(ctx, consumerKeys, l.after) {
		if err != nil {
			return err
		}
		if id, err := parseConsumerKey(r.Key); err == nil {
			add(id)
		}
		if n++; n == lagRecords {
			l.after = r.Key
			return nil
		}
	}
	l.after = ""
	return nil
}

// lagOf counts a lag without loading the consumer, which would be counted as its
// use. The error wraps parley.ErrNotFound when there is none.
func (b *Broker) lagOf(ctx context.Context, id ConsumerID) (int, error) {
	b.consumers.mu.Lock()
	c := b.consumers.byID[id]
	b.consumers.mu.Unlock()
	if c == nil || !c.stands() {
		if b.cfg.KV == nil {
			return 0, parley.ErrNotFound
		}
		r, err := b.cfg.KV.Get(ctx, id.key())
		if err != nil {
			return 0, err
		}
		c = &consumer{broker: b, id: id, mode: id.mode()}
		if err := c.decode(r.Value); err != nil {
			return 0, err
		}
	}
	c.mu.Lock()
	n, cursor := c.pending.live, c.cursor
	c.mu.Unlock()
	q := c.query(cursor)
	q.Limit = countedLag
	span, err := b.log.Count(ctx, q)
	return min(n+span.Count, countedLag), err
}

// stands reports whether c exists, as far as is loaded.
func (c *consumer) stands() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return (c.rev != 0 || !c.active.IsZero()) && c.over == nil
}
