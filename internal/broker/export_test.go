package broker

import (
	"context"

	"github.com/parley-im/parley"
)

// Delivered is what an acknowledgement by a device calls.
func (b *Broker) Delivered(ctx context.Context, owner string, messages []*parley.Message) error {
	return b.delivered(ctx, owner, messages)
}
