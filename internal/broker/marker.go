package broker

import (
	"context"

	"github.com/parley-im/parley"
)

// opensInbox reports whether the subscription follows a whole inbox.
func (r *Subscribe) opensInbox() bool {
	owner, peer := r.Topic.Inbox()
	return owner != "" && peer == "" && !r.ReplayOnly
}

// tellMarker appends the read marker when u owes it.
func (u *Subscription) tellMarker(ctx context.Context, dst []Event) []Event { return dst }

// MarkRead moves the read marker of the session's user.
func (s *Session) MarkRead(ctx context.Context, r MarkRead) {
	s.Reply(&Failed{r.Ref, parley.ErrUnavailable}, 0)
}
