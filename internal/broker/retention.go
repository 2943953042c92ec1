package broker

import (
	"context"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// Rule says what a stream keeps. A zero bound keeps everything.
type Rule struct {
	// Stream is a stream's name, or "*" for every one that no earlier rule
	// names, the server's own excepted.
	Stream   string
	Age      time.Duration
	Bytes    int64
	Messages int
}

func (r Rule) matches(s parley.Stream) bool {
	return r.Stream == string(s) || r.Stream == "*" && !s.Topic().Reserved()
}

// retain applies the rules now and then.
func (b *Broker) retain(ctx context.Context) {
	tick := time.NewTicker(b.cfg.RetentionInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			err := b.Retain(ctx)
			if err == nil {
				err = b.sweep(ctx, sweepStreams)
			}
			if err != nil && ctx.Err() == nil {
				b.cfg.Logger.ErrorContext(ctx, "cannot apply retention", "error", err)
			}
		case <-b.personal.wake:
			if err := b.trimGrown(ctx); err != nil && ctx.Err() == nil {
				b.cfg.Logger.ErrorContext(ctx, "cannot trim inboxes", "error", err)
			}
		}
	}
}

// Trim drops a stream's messages as r says, from the log and from what live
// readers have yet to read, and returns the new floor.
func (b *Broker) Trim(ctx context.Context, s parley.Stream, r backend.Retention) (parley.Seq, error) {
	floor, err := b.log.Trim(ctx, s, r)
	if err == nil {
		b.feeds.forget(s, floor)
	}
	return floor, err
}

// Retain applies the retention rules to all streams of topics now.
func (b *Broker) Retain(ctx context.Context) error {
	for s, err := range TopicStreams(ctx, b.log, "") {
		if err != nil {
			return err
		}
		if err := b.retainStream(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// retainStream applies the rule in force for one stream, if there is one.
func (b *Broker) retainStream(ctx context.Context, s parley.Stream) error {
	rule, source := b.RetentionOf(s)
	if source == NoRule {
		return nil
	}
	keep := backend.Retention{Messages: rule.Messages, Bytes: rule.Bytes}
	if rule.Age > 0 {
		keep.Before = b.cfg.Clock.Past().Add(-rule.Age)
	}
	// Live readers may finish what they have: it was there just now.
	if _, err := b.log.Trim(ctx, s, keep); err != nil {
		return err
	}
	b.stats.trimmed.Add(1)
	return nil
}
