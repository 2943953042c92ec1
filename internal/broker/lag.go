package broker

import (
	"context"
	"errors"

	"github.com/parley-im/parley"
)

// Lag is how far a durable subscription is behind.
type Lag struct {
	ConsumerID

	// Messages are stored and not done.
	Messages int
}

// Lags are those of the durable subscriptions to topics, of at most so many,
// those that have been saved first, in order of owner and name; each is counted up
// to most. Inboxes are not among them. It looks at the key of every consumer.
func (b *Broker) Lags(ctx context.Context, subscriptions, most int) ([]Lag, error) {
	var lags []Lag
	seen := map[ConsumerID]bool{}
	for id, err := range b.consumerIDs(ctx, "*") {
		if err != nil {
			return lags, err
		}
		if id.mode() != turns || seen[id] {
			continue
		}
		if len(lags) == subscriptions {
			break
		}
		seen[id] = true
		n, err := b.lag(ctx, id, most)
		if errors.Is(err, parley.ErrNotFound) {
			continue
		}
		if err != nil {
			return lags, err
		}
		lags = append(lags, Lag{id, n})
	}
	return lags, nil
}

func (b *Broker) lag(ctx context.Context, id ConsumerID, most int) (n int, err error) {
	err = b.with(ctx, id, func(c *consumer) error {
		c.mu.Lock()
		cursor, pending := c.cursor, c.pending.live
		c.mu.Unlock()
		q := c.query(cursor)
		q.Limit = most
		span, err := b.log.Count(ctx, q)
		n = min(pending+span.Count, most)
		return err
	})
	return n, err
}
