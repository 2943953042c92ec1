package broker

import (
	"context"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// Count counts a stream's messages.
func (b *Broker) Count(ctx context.Context, s parley.Stream) (int, error) {
	span, err := b.log.Count(ctx, backend.Query{Stream: s})
	return span.Count, err
}
