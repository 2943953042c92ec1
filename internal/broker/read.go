package broker

import (
	"context"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
)

// History reads one page of what who may read; q's topic says where, Stream and
// Params need not be set. The page has at most Limits.HistoryMessages, and about
// batchBytes, whatever q says.
func (b *Broker) History(ctx context.Context, who *account.Principal, q backend.Query) (backend.Page, error) {
	if err := b.allow(who, &q); err != nil {
		return backend.Page{}, err
	}
	q.Limit = min(max(q.Limit, 0), b.cfg.Limits.HistoryMessages)
	if q.Limit == 0 {
		q.Limit = b.cfg.Limits.HistoryMessages
	}
	q.MaxBytes = batchBytes // on the wire it can be six times that
	return b.log.Read(ctx, q)
}

// Count counts the stored messages that who may read, as History finds them.
func (b *Broker) Count(ctx context.Context, who *account.Principal, q backend.Query) (backend.Span, error) {
	if err := b.allow(who, &q); err != nil {
		return backend.Span{}, err
	}
	return b.log.Count(ctx, q)
}

// allow refuses what who may not read and completes the query.
func (b *Broker) allow(who *account.Principal, q *backend.Query) error {
	q.Stream, q.Params = q.Topic.Stream(), paramsOf(who.Identity)
	return b.permit(who, account.History, q.Topic)
}

// paramsOf are what the filters of messages are compared with.
func paramsOf(id parley.Identity) map[string]string {
	return map[string]string{"user_id": id.User, "application_id": id.Device}
}
