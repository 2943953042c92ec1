package client

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/parley-im/parley"
)

// ReceiptKind says what a receipt in an inbox tells.
type ReceiptKind string

// The kinds of receipt. Both have the ID of the letter that they are about.
const (
	NoReceipt ReceiptKind = ""          // it is a message
	Delivered ReceiptKind = "delivered" // a device of the recipient has acknowledged the letter
	Read      ReceiptKind = "read"      // the recipient has read it
)

// Entry is a message of an inbox: one that was sent to its owner, one that the
// owner has sent, or a receipt for such a one.
type Entry struct {
	*parley.Message

	Receipt ReceiptKind
}

// Peer is who the other one is: the sender of what the owner was sent, or the
// recipient of what they sent themselves.
func (e Entry) Peer() string {
	_, peer := e.Topic.Inbox()
	return peer
}

// EntryOf is the entry that a message is which a plain Subscribe to the topic of
// the user's own inbox has brought.
func EntryOf(m *parley.Message) Entry {
	switch last := m.Topic[strings.LastIndexByte(string(m.Topic), '/')+1:]; last {
	case "$delivered":
		return Entry{m, Delivered}
	case "$read":
		return Entry{m, Read}
	}
	return Entry{m, NoReceipt}
}

// ReadMarker says up to where a user has read their inbox, and how much they
// have not: messages from others, as far as the server counts them (1,000 unless
// configured).
type ReadMarker struct {
	Seq    parley.Seq `json:"seq"`
	Unread int        `json:"unread"`
}

// AckWait is how long a delivery may stay unacknowledged before the server
// delivers it again; 30 s unless given. It counts from when the server sends
// the message, so it has to cover the time in the loop's buffer too.
func AckWait(d time.Duration) SubscribeOption {
	return func(s *start) { s.ackWait = d }
}

// MaxInFlight is how many deliveries may be unacknowledged at a time, which is
// also how many the client holds in memory; DefaultInFlight unless given.
func MaxInFlight(n int) SubscribeOption {
	return func(s *start) { s.maxInFlight = n }
}

// DefaultInFlight is MaxInFlight unless given.
const DefaultInFlight = 100

// MaxDeliver makes a message a dead letter after n attempts to deliver it to a
// durable subscription; without it there is no such end.
func MaxDeliver(n int) SubscribeOption {
	return func(s *start) { s.maxDeliver = n }
}

// OnRead calls f, in the loop's goroutine, when the user's read marker has moved
// or their count of unread messages is told: once when the inbox is opened, and
// then for each of their devices that reads.
func OnRead(f func(ReadMarker)) SubscribeOption {
	return func(s *start) { s.onRead = f }
}

// Inbox is what is sent to the client's user, as a loop:
//
//	for d, err := range c.Inbox(ctx) {
//		if err != nil {
//			logger.Warn("inbox", "err", err)
//			continue // what cannot go on ends the loop by itself
//		}
//		show(d.Message)
//		if err := d.Ack(ctx); err != nil {
//			return err
//		}
//	}
//
// The server keeps for each of the user's devices what it has acknowledged:
// wherever the connection breaks, and whatever restarts, the device gets each
// message until it has. Options.Device therefore names the installation for
// good; without one, all clients of the user without a device share one place,
// and each message is settled by the first of them that acknowledges it.
//
// A device that is new begins with the oldest message that is stored, unless
// After, Since or Last say otherwise; later they count no more. Messages come in
// ascending order of seq, but what is delivered again comes when it does. After
// a reconnect a message that this loop has received already is not shown again;
// it is when AckWait has passed without an Ack, or after a Nak. Max ends the loop
// after n rounds, and ReplayOnly when everything that was stored and not yet
// acknowledged has been delivered.
//
// In each round either the delivery or the error is nil; see Subscribe about
// errors. One loop at a time reads an inbox.
func (c *Client) Inbox(ctx context.Context, options ...SubscribeOption) iter.Seq2[*Delivery, error] {
	return c.deliveries(ctx, func() (*subscription, error) {
		return newDelivering("", "", options)
	})
}

// Durable is a subscription to topic and all topics below it whose place the
// server keeps under a name that belongs to the client's user. What Inbox says
// holds here too, but a new one begins with what is published from now on, unless
// After, Since or Last say otherwise; and several loops, of one program or of
// many, may share one name: they take turns, each message going to one of them at
// a time.
func (c *Client) Durable(ctx context.Context, topic parley.Topic, name string, options ...SubscribeOption) iter.Seq2[*Delivery, error] {
	return c.deliveries(ctx, func() (*subscription, error) {
		for _, o := range options {
			s := start{}
			if o(&s); s.replayOnly {
				return nil, fmt.Errorf("client: ReplayOnly is not for durable subscriptions: %w", parley.ErrInvalid)
			}
		}
		if _, err := parley.ParseTopic(string(topic)); err != nil {
			return nil, fmt.Errorf("client: %w", err)
		}
		if _, err := parley.ParseDevice(name); err != nil {
			return nil, fmt.Errorf("client: the name of a durable subscription: %w", err)
		}
		return newDelivering(topic, name, options)
	})
}

func (c *Client) deliveries(ctx context.Context, open func() (*subscription, error)) iter.Seq2[*Delivery, error] {
	return func(yield func(*Delivery, error) bool) {
		sub, err := open()
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
		count := 0
		for ctx.Err() == nil {
			for _, n := range c.next(ctx, sub) {
				switch {
				case ctx.Err() != nil, n.last && n.err == nil:
					return
				case !c.due(sub, n):
					continue
				case n.delivery != nil:
					count++
				}
				if !yield(n.delivery, n.err) || n.last || count > 0 && count == sub.start.max {
					return
				}
			}
		}
	}
}

// due reports whether n is a round of the loop: a read marker is none, nor is what
// was settled since it arrived.
func (c *Client) due(sub *subscription, n news) bool {
	if n.marker != nil {
		sub.start.onRead(*n.marker)
		return false
	}
	return n.delivery == nil || c.handOver(sub, n.delivery)
}

// InboxQuery selects stored messages of the user's own inbox; see HistoryQuery.
type InboxQuery struct {
	// Peer selects what the user and Peer wrote to each other; empty is all.
	Peer          string
	After, Before parley.Seq
	Since         time.Time
	Limit         int
	Reverse       bool
}

// InboxPage is a part of an inbox; see Page.
type InboxPage struct {
	Entries []Entry
	More    bool
	Next    parley.Seq
	Floor   parley.Seq
}

type inboxParams struct {
	Peer    string     `json:"peer,omitempty"`
	After   parley.Seq `json:"after,omitempty"`
	Before  parley.Seq `json:"before,omitempty"`
	Since   string     `json:"since,omitempty"`
	Limit   int        `json:"limit,omitempty"`
	Reverse bool       `json:"reverse,omitempty"`
}

// InboxHistory reads one page of the user's own inbox. That acknowledges
// nothing. It waits for a connection if there is none.
func (c *Client) InboxHistory(ctx context.Context, q InboxQuery) (InboxPage, error) {
	if q.Peer != "" {
		if _, err := parley.ParseUser(q.Peer); err != nil {
			return InboxPage{}, fmt.Errorf("client: %w", err)
		}
	}
	params := inboxParams{q.Peer, q.After, q.Before, stamp(q.Since), q.Limit, q.Reverse}
	var answer struct {
		Messages []incoming `json:"messages"`
		Next     parley.Seq `json:"next"`
		More     bool       `json:"more"`
		Floor    parley.Seq `json:"floor"`
	}
	if err := c.do(ctx, "inbox.history", params, &answer); err != nil {
		return InboxPage{}, err
	}
	page := InboxPage{Entries: make([]Entry, len(answer.Messages)), More: answer.More, Next: answer.Next, Floor: answer.Floor}
	for i := range answer.Messages {
		page.Entries[i] = answer.Messages[i].entry()
	}
	return page, nil
}

// MarkRead tells the server that the user has read their inbox up to seq, and
// returns what that makes unread; a seq below the marker moves nothing. The
// user's other devices are told, and senders who asked for receipts.
func (c *Client) MarkRead(ctx context.Context, seq parley.Seq) (ReadMarker, error) {
	var marker ReadMarker
	err := c.do(ctx, "inbox.read", map[string]parley.Seq{"seq": seq}, &marker)
	return marker, err
}
