package broker

import (
	"context"
	"errors"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
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
