package client

import (
	"errors"
	"fmt"
	"time"

	"github.com/parley-im/parley"
)

const (
	// bufferBytes is when a subscription's buffer is full, by
	// parley.Message.Size. One more frame may go in while it is not.
	bufferBytes = 1 << 20
	// patience is how long the connection is not read because a buffer is full.
	patience = 10 * time.Millisecond
)

// state is what a subscription waits for.
type state int

const (
	waiting state = iota // for a connection
	asked                // for the server's answer
	active               // for messages
	paused               // for the loop to empty the buffer
	ended                // for nothing
)

// subscription is what a loop reads from. It outlives connections.
//
//	           connected              answered
//	waiting ──────────────▶ asked ──────────────▶ active ─┐
//	  ▲  ▲                    │       disconnected  │  │  │ buffer full
//	  │  └────────────────────┴─────────────────────┘  │  ▼
//	  └────────────────── the loop wants more ─────────┼ paused
//	                                                   ▼
//	                                                 ended
type subscription struct {
	topic parley.Topic
	start start
	ready chan struct{} // there is something to take, or it is paused
	space chan struct{} // the buffer was emptied

	// Guarded by Client.mu.
	state  state
	id     uint64     // the server's number for it, while active
	cursor parley.Seq // everything up to it was received
	known  bool       // cursor is the place to go on from; before, it is start
	count  int        // messages received
	retry  pacer      // when the server could not take it, or not go on
	delay  time.Duration
	buffer []news
	bytes  int

	// Of deliveries that are acknowledged, guarded by Client.mu as well.
	settles bool                    // they are
	name    string                  // of a durable subscription; an inbox has none
	epoch   int                     // how often the server was asked for it
	held    map[parley.Seq]*holding // what is not settled, as far as is known
	acked   []parley.Seq            // of held, in their order, what was acknowledged without waiting
	soon    []parley.Seq            // acknowledgements to send
	idle    bool                    // the loop waits
	turn    chan struct{}           // closed when state has become active or ended
}

// news is one round of a loop.
type news struct {
	message  *parley.Message
	delivery *Delivery
	marker   *ReadMarker
	err      error
	last     bool // the loop ends; if err is nil, without this round
}

func newSubscription(topic parley.Topic, options []SubscribeOption) (*subscription, error) {
	if _, err := parley.ParseTopic(string(topic)); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	sub := &subscription{topic: topic, ready: make(chan struct{}, 1), space: make(chan struct{}, 1)}
	for _, o := range options {
		o(&sub.start)
	}
	if err := sub.start.check(); err != nil {
		return nil, err
	}
	sub.cursor, sub.known = sub.start.after, sub.start.fromAfter
	return sub, nil
}

// newDelivering makes the subscription to an inbox, or a durable one.
func newDelivering(topic parley.Topic, name string, options []SubscribeOption) (*subscription, error) {
	sub := &subscription{
		topic: topic, name: name, settles: true, ready: make(chan struct{}, 1), space: make(chan struct{}, 1),
		held: make(map[parley.Seq]*holding), turn: make(chan struct{}),
	}
	for _, o := range options {
		o(&sub.start)
	}
	s := &sub.start
	switch {
	case s.last < 0 || s.max < 0 || s.maxInFlight < 0 || s.maxDeliver < 0 || s.ackWait < 0:
		return nil, fmt.Errorf("client: Last, Max, MaxInFlight, MaxDeliver and AckWait need a positive number: %w", parley.ErrInvalid)
	case name == "" && s.maxDeliver > 0:
		return nil, fmt.Errorf("client: MaxDeliver is for durable subscriptions: %w", parley.ErrInvalid)
	}
	if s.maxInFlight == 0 {
		s.maxInFlight = DefaultInFlight
	}
	return sub, nil
}

type subscribeParams struct {
	Topic      parley.Topic `json:"topic,omitempty"`
	After      *parley.Seq  `json:"after,omitempty"`
	Since      string       `json:"since,omitempty"`
	Last       int          `json:"last,omitempty"`
	Max        int          `json:"max,omitempty"`
	ReplayOnly bool         `json:"replay_only,omitempty"`

	Durable     string `json:"durable,omitempty"`
	AckWaitMS   int64  `json:"ack_wait_ms,omitempty"`
	MaxInFlight int    `json:"max_in_flight,omitempty"`
	MaxDeliver  int    `json:"max_deliver,omitempty"`
}

// method is how the subscription is asked for.
func (s *subscription) method() string {
	if s.settles && s.name == "" {
		return "inbox.open"
	}
	return "subscribe"
}

// describe is what is asked for, for people.
func (s *subscription) describe() string {
	if s.topic == "" {
		return "open the inbox"
	}
	return "subscribe to " + string(s.topic)
}

// params asks for what is still to come.
func (s *subscription) params() subscribeParams {
	p := subscribeParams{Topic: s.topic, ReplayOnly: s.start.replayOnly && !s.settles}
	if !s.settles && s.start.replayOnly && s.start.max > 0 {
		p.Max = s.start.max - s.count
	}
	if s.settles {
		p.Durable, p.MaxInFlight, p.MaxDeliver = s.name, s.start.maxInFlight, s.start.maxDeliver
		p.AckWaitMS = s.start.ackWait.Milliseconds()
	}
	switch {
	case s.settles && s.start.fromAfter:
		p.After = &s.start.after
	case s.known:
		p.After = &s.cursor
	case s.start.last > 0:
		p.Last = s.start.last
	default:
		p.Since = stamp(s.start.since)
	}
	return p
}

// accept takes messages into the buffer, except those that are there already.
func (s *subscription) accept(messages []*parley.Message) {
	for _, m := range messages {
		if m.Seq <= s.cursor {
			continue
		}
		s.reach(m.Seq)
		s.retry.reset()
		s.push(news{message: m}, m.Size())
		s.count++
		if s.count == s.start.max {
			s.finish(nil)
			return
		}
	}
}

// reach moves the cursor forward. The server keeps the place of what is
// acknowledged.
func (s *subscription) reach(seq parley.Seq) {
	if s.settles {
		return
	}
	s.cursor, s.known = max(s.cursor, seq), true
}

func (s *subscription) gap(from, to parley.Seq) {
	if to <= s.cursor {
		return
	}
	s.reach(to)
	s.push(news{err: &GapError{Topic: s.topic, From: from, To: to}}, 0)
}

func (s *subscription) reset(from, to parley.Seq) {
	s.cursor, s.known = to, true
	s.push(news{err: &ResetError{Topic: s.topic, From: from, To: to}}, 0)
}

// finish ends the loop after what is in the buffer.
func (s *subscription) finish(err error) {
	s.state = ended
	s.push(news{err: err, last: true}, 0)
	s.turned()
}

// turned wakes who waits for the server to serve the subscription, or not any
// more.
func (s *subscription) turned() {
	if s.settles {
		close(s.turn)
		s.turn = make(chan struct{})
	}
}

// later asks for the rest again after a while, because of err.
func (s *subscription) later(err error) {
	s.state, s.delay = paused, s.retry.next(err)
	signal(s.ready)
}

func (s *subscription) push(n news, size int) {
	s.buffer = append(s.buffer, n)
	s.bytes += size + 64
	signal(s.ready)
}

// attach makes a new subscription one of the client's.
func (c *Client) attach(sub *subscription) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isClosed() {
		return c.overLocked()
	}
	sub.retry.Backoff = c.options.Backoff
	c.subs[sub] = struct{}{}
	if c.session != nil {
		c.askLocked(sub)
	}
	return nil
}

// detach ends a subscription whose loop has ended.
func (c *Client) detach(sub *subscription) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flushLocked(sub)
	delete(c.subs, sub)
	sub.state = ended
	sub.turned()
	if c.session != nil && c.session.subs[sub.id] == sub {
		c.dismissLocked(c.session, sub.id)
	}
	signal(sub.space)
}

// take empties a subscription's buffer. If there is nothing in it because the
// subscription is paused, it is taken up again, at once or when again fires.
func (c *Client) take(sub *subscription) (items []news, again <-chan time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	items, sub.buffer, sub.bytes = sub.buffer, nil, 0
	signal(sub.space)
	sub.idle = len(items) == 0
	c.flushLocked(sub) // the loop is done with what it had
	switch {
	case len(items) > 0 || sub.state != paused:
	case sub.delay > 0:
		again = time.After(sub.delay)
		sub.delay = 0
	case c.session != nil:
		c.askLocked(sub)
	default:
		sub.state = waiting
	}
	return items, again
}

// askLocked asks the server for what is still to come of sub.
func (c *Client) askLocked(sub *subscription) {
	sub.state = asked
	sub.epoch++
	s := c.session
	params, err := encode(sub.params())
	if err != nil {
		sub.finish(err)
		return
	}
	call := c.newCallLocked(sub.method(), params, func(r response) { c.subscribed(s, sub, r) })
	call.bound = true
	s.send(call.payload)
}

// subscribed is the server's answer to askLocked.
func (c *Client) subscribed(s *session, sub *subscription, r response) {
	var answer struct {
		Sub    uint64     `json:"sub"`
		Cursor parley.Seq `json:"cursor"`
	}
	err := r.into(&answer)
	if errors.Is(err, errLost) {
		return // abandon has seen to it
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case sub.state != asked: // its loop has ended meanwhile
		if err == nil {
			c.dismissLocked(s, answer.Sub)
		}
	case err == nil:
		sub.state, sub.id = active, answer.Sub
		s.subs[sub.id] = sub
		searched := !sub.start.since.IsZero() || sub.start.last > 0
		if !sub.known && (answer.Cursor > 0 || !searched) {
			sub.reach(answer.Cursor)
		}
		sub.turned()
	case busy(err):
		sub.later(err)
	default:
		sub.finish(fmt.Errorf("client: %s: %w", sub.describe(), err))
	}
}

// dismissLocked tells the server to end the subscription that it calls id.
func (c *Client) dismissLocked(s *session, id uint64) {
	delete(s.subs, id)
	params, err := encode(map[string]uint64{"sub": id})
	if err == nil {
		s.send(notification("unsubscribe", params))
	}
}

// deliver hands an event to the subscriptions that it is for.
func (c *Client) deliver(s *session, e *event) {
	p := &e.Params
	switch e.Method {
	case "messages":
		batch := messages(p.Messages)
		c.tell(s, p.Sub, func(sub *subscription) { sub.accept(batch) })
		for _, id := range p.Also {
			c.tell(s, id, func(sub *subscription) { sub.accept(batch) })
		}
	case "msg.recv":
		entries := entries(p.Messages)
		c.tell(s, p.Sub, func(sub *subscription) {
			if sub.settles {
				c.repeatLocked(sub, sub.deliverLocked(c, entries, p.Attempts))
			}
		})
	case "inbox.read":
		c.tell(s, p.Sub, func(sub *subscription) {
			if sub.start.onRead != nil {
				sub.push(news{marker: &ReadMarker{Seq: p.Seq, Unread: p.Unread}}, 0)
			}
		})
	case "replayed":
		c.tell(s, p.Sub, func(sub *subscription) {
			sub.reach(p.Cursor)
			switch {
			case sub.start.replayOnly && sub.settles:
				sub.push(news{last: true}, 0) // what was delivered can still be settled
			case sub.start.replayOnly:
				delete(s.subs, p.Sub) // the server has ended it too
				sub.finish(nil)
			}
		})
	case "live":
		c.tell(s, p.Sub, func(sub *subscription) { sub.reach(p.Cursor) })
	case "gap":
		c.tell(s, p.Sub, func(sub *subscription) { sub.gap(p.From, p.To) })
	case "reset":
		c.tell(s, p.Sub, func(sub *subscription) { sub.reset(p.From, p.To) })
	case "ended":
		c.tell(s, p.Sub, func(sub *subscription) {
			delete(s.subs, p.Sub)
			err := p.Error.err()
			if final(err) {
				sub.finish(fmt.Errorf("client: %s: %w", sub.describe(), err))
				return
			}
			c.options.Logger.Warn("subscription interrupted", "topic", sub.topic, "err", err)
			sub.later(nil)
		})
	}
}

// final reports whether a subscription that has ended with err would end so
// again.
func final(err error) bool {
	for _, kind := range []error{parley.ErrUnauthenticated, parley.ErrForbidden, parley.ErrNotFound, parley.ErrConflict} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// tell calls f, under mu, with the subscription that the server calls id, once
// its buffer has room. If its loop does not make room in time, the subscription
// is paused instead: what does not fit is left out here, and comes again after
// the cursor when the loop wants more.
func (c *Client) tell(s *session, id uint64, f func(*subscription)) {
	var timer *time.Timer
	for {
		c.mu.Lock()
		sub := s.subs[id]
		if sub == nil || sub.state != active {
			c.mu.Unlock()
			return
		}
		// What is in flight has a bound of its own.
		if sub.bytes < bufferBytes || sub.settles {
			f(sub)
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		if timer == nil {
			timer = time.NewTimer(patience)
			defer timer.Stop()
		}
		select {
		case <-sub.space:
		case <-timer.C:
			c.pause(s, sub)
			return
		}
	}
}

// pause ends sub on the server until its loop wants more.
func (c *Client) pause(s *session, sub *subscription) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if sub.state != active {
		return
	}
	sub.state = paused
	c.dismissLocked(s, sub.id)
	signal(sub.ready)
}
