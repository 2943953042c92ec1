package client

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/parley-im/parley"
)

// SubscribeOption says where a subscription begins and how long it lasts. Of
// several that say where, the last one counts.
type SubscribeOption func(*start)

// start is where a subscription begins, before anything was received, and where
// it ends.
type start struct {
	after      parley.Seq
	fromAfter  bool // after counts, even if 0
	since      time.Time
	last       int
	replayOnly bool
	max        int

	// Of deliveries that are acknowledged.
	ackWait                 time.Duration
	maxInFlight, maxDeliver int
	onRead                  func(ReadMarker)
}

// FromNow begins with the first message published after the server has taken
// the subscription. It is the default.
func FromNow() SubscribeOption {
	return func(s *start) { s.from(start{}) }
}

// After begins with the first message above seq: the oldest that the server
// has, if seq is 0. A program that keeps the seq of the last message it dealt
// with loses nothing between two runs.
func After(seq parley.Seq) SubscribeOption {
	return func(s *start) { s.from(start{after: seq, fromAfter: true}) }
}

// Since begins with the first message stored at or after t, by the server's
// clock. The zero time means the oldest that there is.
func Since(t time.Time) SubscribeOption {
	if t.IsZero() {
		return After(0)
	}
	return func(s *start) { s.from(start{since: t}) }
}

// Last begins with the newest n messages, or what there is of them. 0 is as
// FromNow.
func Last(n int) SubscribeOption {
	return func(s *start) { s.from(start{last: n}) }
}

// ReplayOnly ends the loop when everything that was stored has been delivered.
// It needs After, Since or Last.
func ReplayOnly() SubscribeOption {
	return func(s *start) { s.replayOnly = true }
}

// Max ends the loop after n messages.
func Max(n int) SubscribeOption {
	return func(s *start) { s.max = n }
}

func (s *start) from(f start) {
	s.after, s.fromAfter, s.since, s.last = f.after, f.fromAfter, f.since, f.last
}

// check says what is wrong with the options together.
func (s *start) check() error {
	fromNow := !s.fromAfter && s.since.IsZero() && s.last == 0
	switch {
	case s.replayOnly && fromNow:
		return fmt.Errorf("client: ReplayOnly needs a place to begin: %w", parley.ErrInvalid)
	case s.ackWait != 0 || s.maxInFlight != 0 || s.maxDeliver != 0 || s.onRead != nil:
		return fmt.Errorf("client: AckWait, MaxInFlight, MaxDeliver and OnRead are for what is acknowledged: %w", parley.ErrInvalid)
	case s.last < 0 || s.max < 0:
		return fmt.Errorf("client: Last and Max need a positive number: %w", parley.ErrInvalid)
	}
	return nil
}

// Subscribe is the messages of topic and all topics below it, as a loop:
//
//	for m, err := range c.Subscribe(ctx, "/orders", client.After(seq)) {
//
// The subscription begins when the loop does, and ends when the loop is left.
// Messages come in ascending order of seq, each once, across reconnects. All
// goroutines may read them; nobody may change them.
//
// In each round either the message or the error is nil. A *GapError or a
// *ResetError tells about the log, and the loop goes on. Any other error (an
// *Error by which the server refuses the subscription, or ErrClosed) is the last
// round. The loop ends without an error when ctx does, and after ReplayOnly or
// Max have had their fill. So a loop that has nothing better to do with an error
// than to note it may always continue.
//
// To be sure to see what is published from a certain moment on, take the seq at
// that moment, from a Receipt or with History (Limit 1, Reverse), and begin
// After it: FromNow begins some time after the loop does.
func (c *Client) Subscribe(ctx context.Context, topic parley.Topic, options ...SubscribeOption) iter.Seq2[*parley.Message, error] {
	return func(yield func(*parley.Message, error) bool) {
		sub, err := newSubscription(topic, options)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = c.attach(sub)
		}
		if err != nil {
			yield(nil, err)
			return
		}
		defer c.detach(sub)
		for {
			for _, n := range c.next(ctx, sub) {
				switch {
				case ctx.Err() != nil, n.last && n.err == nil:
					return
				case !yield(n.message, n.err), n.last:
					return
				}
			}
			if ctx.Err() != nil {
				return
			}
		}
	}
}

// next waits for something to yield. It returns nothing only when ctx has ended.
func (c *Client) next(ctx context.Context, sub *subscription) []news {
	for {
		items, again := c.take(sub)
		if len(items) > 0 {
			return items
		}
		select {
		case <-sub.ready:
		case <-again:
		case <-ctx.Done():
			return nil
		case <-c.closed:
			return []news{{err: c.over(), last: true}}
		}
	}
}
