package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
)

// inboxKeys is the prefix of the records of what users have read; the user's
// name follows.
const inboxKeys = "inbox/"

// inboxRecord is how a read marker is kept.
type inboxRecord struct {
	Read parley.Seq `json:"read"`
}

// marker reads a user's marker and the revision of its record.
func (b *Broker) marker(ctx context.Context, user string) (parley.Seq, uint64, error) {
	if b.cfg.KV == nil {
		return 0, 0, fmt.Errorf("read markers are not kept here: %w", parley.ErrUnavailable)
	}
	record, err := b.cfg.KV.Get(ctx, inboxKeys+user)
	if errors.Is(err, parley.ErrNotFound) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	var kept inboxRecord
	if err := json.Unmarshal(record.Value, &kept); err != nil {
		return 0, 0, fmt.Errorf("record %q: %w", record.Key, err)
	}
	return kept.Read, record.Rev, nil
}

// opensInbox reports whether the subscription follows a whole inbox.
func (r *Subscribe) opensInbox() bool {
	owner, peer := r.Topic.Inbox()
	return owner != "" && peer == "" && !r.ReplayOnly
}

// MarkRead moves the read marker of the session's user, forward only and not
// beyond the newest message, and stores the receipts for what it passes. It is
// answered by ReadMarker when that is durable, or by Failed.
func (s *Session) MarkRead(ctx context.Context, r MarkRead) {
	who := s.Principal()
	m, moved, err := s.broker.markRead(ctx, who, r.Seq)
	if err != nil {
		s.Reply(&Failed{r.Ref, err}, 0)
		return
	}
	m.Ref, m.Sub = r.Ref, s.openInbox()
	s.Reply(m, 0)
	if !moved {
		return
	}
	for _, other := range s.broker.sessionsOf(who.User) {
		if other != s {
			other.unmark()
		}
	}
}

// openInbox is the session's subscription to its inbox; nil if it has none.
func (s *Session) openInbox() *Subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.subs {
		if u.inbox {
			return u
		}
	}
	return nil
}

// unmark lets the session tell the marker of its open inboxes anew.
func (s *Session) unmark() {
	s.mu.Lock()
	var due []*Subscription
	for _, u := range s.subs {
		if u.inbox {
			u.unmarked = true
			due = append(due, u)
		}
	}
	s.mu.Unlock()
	for _, u := range due {
		s.ring(u)
	}
}

// tellMarker appends the read marker if u owes it, as it is now.
func (u *Subscription) tellMarker(ctx context.Context, dst []Event) []Event {
	if !u.inbox || u.phase == phaseNew || u.phase == phaseDone || !u.takeUnmarked() {
		return dst
	}
	b := u.session.broker
	m, err := b.readMarker(ctx, u.session.Identity().User)
	if err != nil {
		if ctx.Err() == nil && b.cfg.KV != nil {
			b.cfg.Logger.ErrorContext(ctx, "cannot tell a read marker", "error", err)
		}
		return dst
	}
	m.Sub = u
	return append(dst, m)
}

func (u *Subscription) takeUnmarked() bool {
	u.session.mu.Lock()
	defer u.session.mu.Unlock()
	due := u.unmarked
	u.unmarked = false
	return due
}

// readMarker is the marker of a user and what is above it.
func (b *Broker) readMarker(ctx context.Context, user string) (*ReadMarker, error) {
	at, _, err := b.marker(ctx, user)
	if err != nil {
		return nil, err
	}
	n, err := b.unread(ctx, user, at)
	return &ReadMarker{Seq: at, Unread: n}, err
}

// markTries bounds how often two devices that mark at once get in each other's
// way.
const markTries = 100

// markRead is MarkRead without a session.
func (b *Broker) markRead(ctx context.Context, who *account.Principal, to parley.Seq) (m *ReadMarker, moved bool, err error) {
	inbox := parley.InboxTopic(who.User)
	if err := b.permit(who, account.History, inbox); err != nil {
		return nil, false, err
	}
	_, last, err := b.log.Bounds(ctx, inbox.Stream())
	if err != nil {
		return nil, false, err
	}
	to = min(to, last)
	for range markTries {
		moved, err = b.advance(ctx, who.User, to)
		if !errors.Is(err, parley.ErrConflict) {
			break
		}
	}
	if err != nil {
		return nil, false, err
	}
	m, err = b.readMarker(ctx, who.User)
	return m, moved, err
}

// advance moves a marker, after the receipts for what it passes are stored: who
// is told nothing because of a crash does it again. The error wraps
// parley.ErrConflict when another device was quicker.
func (b *Broker) advance(ctx context.Context, user string, to parley.Seq) (moved bool, err error) {
	at, rev, err := b.marker(ctx, user)
	if err != nil || to <= at {
		return false, err
	}
	q := backend.Query{Stream: parley.InboxTopic(user).Stream(), After: at, Before: to + 1, Limit: batchMessages, MaxBytes: batchBytes}
	for more := true; more; {
		page, err := b.log.Read(ctx, q)
		if err != nil {
			return false, err
		}
		if err := b.receipt(ctx, Read, user, page.Messages); err != nil {
			return false, err
		}
		q.After, more = page.Next, page.More
	}
	value, err := json.Marshal(inboxRecord{to})
	if err != nil {
		return false, err
	}
	_, err = b.cfg.KV.Put(ctx, backend.Record{Key: inboxKeys + user, Value: value, Rev: rev})
	return err == nil, err
}

// unreadScan bounds the messages that are looked at for unread ones, the newest:
// an inbox may be full of copies and receipts, which do not count.
const unreadScan = 20_000

// unread counts the messages from others above a marker, up to Limits.Unread.
func (b *Broker) unread(ctx context.Context, user string, after parley.Seq) (int, error) {
	q := backend.Query{
		Stream: parley.InboxTopic(user).Stream(), After: after, Now: b.cfg.Clock.Past(),
		Limit: batchMessages, MaxBytes: batchBytes, Reverse: true,
	}
	n := 0
	for looked := 0; looked < unreadScan; {
		page, err := b.log.Read(ctx, q)
		if err != nil {
			return 0, err
		}
		for _, m := range page.Messages {
			if m.Sender.User != user && ReceiptOf(m) == NoReceipt {
				n++
			}
		}
		if n >= b.cfg.Limits.Unread || !page.More {
			break
		}
		looked += len(page.Messages)
		q.Before = page.Next
	}
	return min(n, b.cfg.Limits.Unread), nil
}
