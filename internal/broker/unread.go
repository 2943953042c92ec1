package broker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
)

// Unread tells up to where who has read their inbox, and how much they have not.
// An error is as from History.
func (b *Broker) Unread(ctx context.Context, who *account.Principal) (*ReadMarker, error) {
	if err := b.permit(who, account.History, parley.InboxTopic(who.User)); err != nil {
		return nil, err
	}
	return b.readMarker(ctx, who.User)
}

// MarkRead is Session.MarkRead without a session: it returns when the marker is
// durable, and the user's sessions with an open inbox are told.
func (b *Broker) MarkRead(ctx context.Context, who *account.Principal, to parley.Seq) (*ReadMarker, error) {
	m, moved, err := b.markRead(ctx, who, to)
	if err == nil && moved {
		for _, s := range b.sessionsOf(who.User) {
			s.unmark()
		}
	}
	return m, err
}

// forgetMarker drops a user's read marker.
func (b *Broker) forgetMarker(ctx context.Context, user string) error {
	if b.cfg.KV == nil {
		return nil
	}
	defer b.counts.forget(user)
	for {
		kept, err := b.marker(ctx, user)
		if err != nil || kept.rev == 0 {
			return err
		}
		err = b.cfg.KV.Delete(ctx, inboxKeys+user, kept.rev)
		if errors.Is(err, parley.ErrNotFound) {
			return nil
		}
		if !errors.Is(err, parley.ErrConflict) {
			return err
		}
	}
}

const (
	// unreadScan and unreadBytes bound the messages that are looked at for unread
	// ones, the newest: an inbox may be full of copies and receipts, which do not
	// count.
	unreadScan  = 20_000
	unreadBytes = 64 << 20
	// countsKept bounds the users whose count is remembered; countLife is for how
	// long it is, for what has expired or was trimmed meanwhile is still in it.
	countsKept = 20_000
	countLife  = time.Minute
)

// counts remembers what users have not read, so that the next who asks looks only
// at what has come since: a user's devices that all come back at once, and what
// they do not mark for months, cost one look.
type counts struct {
	mu   sync.Mutex
	kept map[string]count
}

// count is how many messages from others are above a marker, up to a seq.
type count struct {
	marker, through parley.Seq
	n               int
	at              time.Duration // when that was counted anew
}

func (c *counts) get(user string, marker parley.Seq, now time.Duration) (count, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept, ok := c.kept[user]
	return kept, ok && kept.marker == marker && now-kept.at < countLife
}

func (c *counts) put(user string, n count) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept == nil || len(c.kept) >= countsKept {
		c.kept = map[string]count{}
	}
	c.kept[user] = n
}

func (c *counts) forget(user string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.kept, user)
}

// unread counts the messages from others above a marker, up to Limits.Unread.
func (b *Broker) unread(ctx context.Context, user string, marker parley.Seq) (int, error) {
	now := b.elapsed()
	kept, ok := b.counts.get(user, marker, now)
	if !ok {
		kept = count{marker: marker, through: marker, at: now}
	}
	q := backend.Query{
		Stream: parley.InboxTopic(user).Stream(), After: kept.through, Now: b.cfg.Clock.Past(),
		Limit: batchMessages, MaxBytes: batchBytes, Reverse: true,
	}
	for looked, bytes := 0, 0; looked < unreadScan && bytes < unreadBytes; {
		page, err := b.log.Read(ctx, q)
		if err != nil {
			return 0, err
		}
		for _, m := range page.Messages {
			kept.through = max(kept.through, m.Seq)
			if bytes += m.Size(); m.Sender.User != user && ReceiptOf(m) == NoReceipt {
				kept.n++
			}
		}
		if kept.n >= b.cfg.Limits.Unread || !page.More {
			break
		}
		looked += len(page.Messages)
		q.Before = page.Next
	}
	b.counts.put(user, kept)
	return min(kept.n, b.cfg.Limits.Unread), nil
}
