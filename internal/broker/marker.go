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
	// Told is up to where receipts were stored, when that is not Read.
	Told *parley.Seq `json:"told,omitempty"`
	rev  uint64
}

// marker reads a user's marker.
func (b *Broker) marker(ctx context.Context, user string) (kept inboxRecord, err error) {
	if b.cfg.KV == nil {
		return kept, fmt.Errorf("read markers are not kept here: %w", parley.ErrUnavailable)
	}
	record, err := b.cfg.KV.Get(ctx, inboxKeys+user)
	if errors.Is(err, parley.ErrNotFound) {
		return kept, nil
	}
	if err != nil {
		return kept, err
	}
	if err := kept.decode(record.Value); err != nil {
		return kept, fmt.Errorf("record %q %w", record.Key, err)
	}
	kept.rev = record.Rev
	return kept, nil
}

// decode reads a marker. What no marker can be is damage, which must not move one:
// the error wraps parley.ErrUnavailable.
func (m *inboxRecord) decode(value []byte) error {
	if err := json.Unmarshal(value, m); err != nil || m.Read > parley.MaxSeq || m.Told != nil && *m.Told > m.Read {
		return fmt.Errorf("is no read marker: %w", parley.ErrUnavailable)
	}
	return nil
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
	kept, err := b.marker(ctx, user)
	if err != nil {
		return nil, err
	}
	n, err := b.unread(ctx, user, kept.Read)
	return &ReadMarker{Seq: kept.Read, Unread: n}, err
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
// is told nothing because of a crash does it again. Where they cannot be stored,
// as when the disk is full, the record says so, and the next who marks has them
// stored. The error wraps parley.ErrConflict when another device was quicker.
func (b *Broker) advance(ctx context.Context, user string, to parley.Seq) (moved bool, err error) {
	kept, err := b.marker(ctx, user)
	if err != nil || to <= kept.Read && kept.Told == nil {
		return false, err
	}
	moved = to > kept.Read
	told := kept.Read
	if kept.Told != nil {
		told = *kept.Told
	}
	next := inboxRecord{Read: max(to, kept.Read)}
	told, err = b.tellRead(ctx, user, told, next.Read)
	switch {
	case err == nil:
	case ctx.Err() != nil || !errors.Is(err, parley.ErrUnavailable):
		return false, err
	case !moved:
		return false, nil
	default:
		next.Told = &told
	}
	value, err := json.Marshal(next)
	if err != nil {
		return false, err
	}
	_, err = b.cfg.KV.Put(ctx, backend.Record{Key: inboxKeys + user, Value: value, Rev: kept.rev})
	return moved && err == nil, err
}

// tellRead stores the receipts for what a user has read, and returns up to where
// that is done.
func (b *Broker) tellRead(ctx context.Context, user string, after, to parley.Seq) (told parley.Seq, err error) {
	q := backend.Query{Stream: parley.InboxTopic(user).Stream(), After: after, Before: to + 1, Limit: batchMessages, MaxBytes: batchBytes}
	for more := true; more; {
		page, err := b.log.Read(ctx, q)
		if err != nil {
			return q.After, err
		}
		if err := b.receipt(ctx, Read, user, page.Messages); err != nil {
			return q.After, err
		}
		q.After, more = page.Next, page.More
	}
	return to, nil
}
