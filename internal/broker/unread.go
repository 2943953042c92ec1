package broker

import (
	"context"

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
