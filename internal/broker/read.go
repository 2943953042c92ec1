package broker

import (
	"context"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// History reads one page of what id may read; q's topic says where, Stream and
// Params need not be set. The page has at most Limits.HistoryMessages, and about
// batchBytes, whatever q says.
func (b *Broker) History(ctx context.Context, id parley.Identity, q backend.Query) (backend.Page, error) {
	if err := allow(id, &q); err != nil {
		return backend.Page{}, err
	}
	q.Limit = min(max(q.Limit, 0), b.cfg.Limits.HistoryMessages)
	if q.Limit == 0 {
		q.Limit = b.cfg.Limits.HistoryMessages
	}
	q.MaxBytes = batchBytes // on the wire it can be six times that
	return b.log.Read(ctx, q)
}

// Count counts the stored messages that id may read, as History finds them.
func (b *Broker) Count(ctx context.Context, id parley.Identity, q backend.Query) (backend.Span, error) {
	if err := allow(id, &q); err != nil {
		return backend.Span{}, err
	}
	return b.log.Count(ctx, q)
}

// allow refuses what id may not read and completes the query.
func allow(id parley.Identity, q *backend.Query) error {
	if q.Topic.Reserved() {
		return ErrReserved
	}
	q.Stream, q.Params = q.Topic.Stream(), paramsOf(id)
	return nil
}

// paramsOf are what the filters of messages are compared with.
func paramsOf(id parley.Identity) map[string]string {
	return map[string]string{"user_id": id.User, "application_id": id.Device}
}
