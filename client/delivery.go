package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-im/parley"
)

// Delivery is a message that is to be acknowledged: until then the server
// delivers it again. Its methods may be called by any goroutine, while the loop
// that it came from goes on.
type Delivery struct {
	Entry

	// Attempt counts from 1 how often the message was delivered by then.
	Attempt int

	client *Client
	sub    *subscription
}

// Ack acknowledges the message and returns when that is durable: it is then not
// delivered to this device again, whatever breaks. It waits for a connection if
// there is none. An error other than ctx's and ErrClosed wraps parley's; it is
// parley.ErrNotFound when the loop has been left.
func (d *Delivery) Ack(ctx context.Context) error {
	return d.settle(ctx, "ack", settleParams{})
}

// AckSoon acknowledges the message without waiting: together with others, and
// when the connection breaks meanwhile, again on the next one. If the program ends
// before the server has saved it, the message is delivered again.
func (d *Delivery) AckSoon() { d.client.ackSoon(d.sub, d.Seq) }

// Nak asks for another delivery after delay, at most 24 hours. It does not wait;
// the message comes again in any case.
func (d *Delivery) Nak(delay time.Duration) { d.client.nak(d.sub, d.Seq, delay) }

// Reject makes the message a dead letter, for a reason of at most 255 bytes, and
// returns when that is durable. See Ack.
func (d *Delivery) Reject(ctx context.Context, reason string) error {
	return d.settle(ctx, "nak", settleParams{Dead: true, Reason: reason})
}

type settleParams struct {
	Sub     uint64       `json:"sub"`
	Seqs    []parley.Seq `json:"seqs"`
	DelayMS *int64       `json:"delay_ms,omitempty"`
	Dead    bool         `json:"dead,omitempty"`
	Reason  string       `json:"reason,omitempty"`
}

// holding is what a subscription knows of a message that is not settled, or
// whose settling the server has not confirmed.
type holding struct {
	epoch   int // in which it was delivered last
	attempt int
	place   place
	again   chan struct{} // closed by a delivery that its Ack waits for, or nil
}

// place is where a message is.
type place int

const (
	buffered place = iota // not yet shown
	shown                 // in the hands of the loop
	acked                 // acknowledged, but whether the server has saved it is not known
)

// maxAcked bounds the memory of unconfirmed acks; what is delivered again after
// it was forgotten is shown again.
const maxAcked = 10_000

// deliverLocked takes messages into the buffer, but for those that the loop has,
// or had, already. It returns those whose acknowledgement has to be repeated.
func (s *subscription) deliverLocked(c *Client, entries []Entry, attempts []int) (repeat []parley.Seq) {
	s.pruneLocked(maxAcked + 2*s.start.maxInFlight)
	for i, e := range entries {
		attempt := 1
		if len(attempts) == len(entries) {
			attempt = attempts[i]
		}
		h := s.held[e.Seq]
		if h == nil {
			h = new(holding)
			s.held[e.Seq] = h
		} else if h.epoch != s.epoch || h.place != shown {
			// The server does not know that it is here: the connection is a new
			// one, or the loop has not come to it yet.
			h.epoch, h.attempt = s.epoch, attempt
			if h.place == acked {
				repeat = append(repeat, e.Seq)
			}
			if h.again != nil {
				close(h.again)
				h.again = nil
			}
			continue
		}
		h.epoch, h.attempt, h.place = s.epoch, attempt, buffered
		s.retry.reset()
		s.push(news{delivery: &Delivery{Entry: e, client: c, sub: s}}, e.Size())
	}
	return repeat
}

// pruneLocked forgets the oldest of what the loop was shown and never settled, when
// more than most is held: the server has long given it to another loop of the same
// name, or dropped it. If it does come again, it is shown again.
func (s *subscription) pruneLocked(most int) {
	if len(s.held) <= most {
		return
	}
	var old []parley.Seq
	for seq, h := range s.held {
		if h.place == shown {
			old = append(old, seq)
		}
	}
	slices.Sort(old)
	for _, seq := range old[:max(0, len(old)-s.start.maxInFlight)] {
		delete(s.held, seq)
	}
}

// handOver says that the loop gets d now; not when it was settled meanwhile,
// which happens to what is delivered again.
func (c *Client) handOver(sub *subscription, d *Delivery) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := sub.held[d.Seq]
	if h == nil || h.place == acked {
		return false
	}
	h.place, d.Attempt = shown, h.attempt
	return true
}

// errLeft is a delivery of a loop that is over.
var errLeft = fmt.Errorf("client: the loop of this delivery has ended: %w", parley.ErrNotFound)

// grace is how long an acknowledgement waits for its message to be delivered
// again before it looks what another loop of the same name has made of it.
const grace = 2 * time.Second

func (d *Delivery) settle(ctx context.Context, method string, p settleParams) error {
	p.Seqs = []parley.Seq{d.Seq}
	pace := pacer{Backoff: d.client.options.Backoff}
	for {
		done, err := d.client.settleOnce(ctx, d.sub, method, p)
		switch {
		case errors.Is(err, errLost):
			continue
		case busy(err):
			if !sleep(ctx, pace.next(err)) {
				return fmt.Errorf("%w: %w", ctx.Err(), err)
			}
			continue
		case err != nil:
			return err
		case done:
			d.client.settled(d.sub, d.Seq)
			return nil
		}
		// A server that has forgotten, in a crash, that it has delivered the message
		// delivers it again; and what is refused must have been delivered here.
		switch again, err := d.client.comesAgain(ctx, d.sub, d.Seq); {
		case err != nil:
			return err
		case !again && p.Dead:
			return nil // it was refused before
		}
	}
}

// settleOnce asks once, and tells whether the message is settled: it was now, or,
// if the server has come to it at all, before: the answer to an earlier attempt was
// lost with its connection.
func (c *Client) settleOnce(ctx context.Context, sub *subscription, method string, p settleParams) (done bool, err error) {
	answer := make(chan response, 1)
	id, err := c.askSettle(ctx, sub, method, p, answer)
	if err != nil {
		return false, err
	}
	select {
	case r := <-answer:
		var result struct {
			Count  int        `json:"count"`
			Cursor parley.Seq `json:"cursor"`
		}
		if err := r.into(&result); err != nil {
			return false, fmt.Errorf("client: %s: %w", method, err)
		}
		return result.Count > 0 || p.Seqs[0] <= result.Cursor && !p.Dead, nil
	case <-ctx.Done():
		return false, c.forget(ctx, id)
	case <-c.closed:
		return false, c.over()
	}
}

// askSettle waits until the server serves sub and sends the request.
func (c *Client) askSettle(ctx context.Context, sub *subscription, method string, p settleParams, answer chan<- response) (id uint64, err error) {
	for {
		c.mu.Lock()
		switch {
		case sub.state == ended:
			c.mu.Unlock()
			return 0, errLeft
		case sub.state == active:
			defer c.mu.Unlock()
			p.Sub = sub.id
			params, err := encode(p)
			if err != nil {
				return 0, err
			}
			call := c.newCallLocked(method, params, func(r response) { answer <- r })
			call.bound = true
			c.session.send(call.payload)
			return call.id, nil
		case sub.state == paused && c.session != nil:
			c.askLocked(sub) // the loop may be what waits here
		}
		turn := sub.turn
		c.mu.Unlock()
		select {
		case <-turn:
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-c.closed:
			return 0, c.over()
		}
	}
}

// comesAgain waits for the message to be delivered again; when it is not, within
// grace, it is worth asking again.
func (c *Client) comesAgain(ctx context.Context, sub *subscription, seq parley.Seq) (again bool, err error) {
	c.mu.Lock()
	var delivered chan struct{} // nil is never
	if h := sub.held[seq]; h != nil {
		if h.again == nil {
			h.again = make(chan struct{})
		}
		delivered = h.again
	}
	c.mu.Unlock()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-delivered:
		return true, nil
	case <-timer.C:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	case <-c.closed:
		return false, c.over()
	}
}

// settled forgets a message that is no longer in flight.
func (c *Client) settled(sub *subscription, seq parley.Seq) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(sub.held, seq)
}

// soonest is how many acknowledgements wait for each other at most.
const soonest = 64

func (c *Client) ackSoon(sub *subscription, seq parley.Seq) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := sub.held[seq]
	if h == nil || h.place == acked || sub.state == ended {
		return
	}
	h.place = acked
	sub.acked = append(sub.acked, seq)
	if len(sub.acked) > maxAcked {
		delete(sub.held, sub.acked[0])
		sub.acked = sub.acked[1:]
	}
	if h.epoch != sub.epoch {
		return // when it is delivered again
	}
	sub.soon = append(sub.soon, seq)
	if sub.idle || len(sub.soon) >= soonest {
		c.flushLocked(sub)
	}
}

// flushLocked sends the acknowledgements that wait.
func (c *Client) flushLocked(sub *subscription) {
	if len(sub.soon) > 0 && sub.state == active {
		c.notifyLocked(sub, "ack", settleParams{Seqs: sub.soon})
	}
	sub.soon = sub.soon[:0]
}

// notifyLocked tells the server without wanting an answer.
func (c *Client) notifyLocked(sub *subscription, method string, p settleParams) {
	p.Sub = sub.id
	if params, err := encode(p); err == nil && c.session != nil {
		c.session.send(notification(method, params))
	}
}

// repeatLocked sends acknowledgements again.
func (c *Client) repeatLocked(sub *subscription, seqs []parley.Seq) {
	for chunk := range slices.Chunk(seqs, soonest) {
		c.notifyLocked(sub, "ack", settleParams{Seqs: chunk})
	}
}

func (c *Client) nak(sub *subscription, seq parley.Seq, delay time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := sub.held[seq]
	if h == nil || h.place == acked {
		return
	}
	delete(sub.held, seq)
	if sub.state == active && h.epoch == sub.epoch {
		ms := max(min(delay, 24*time.Hour).Milliseconds(), 0)
		c.notifyLocked(sub, "nak", settleParams{Seqs: []parley.Seq{seq}, DelayMS: &ms})
	}
}
