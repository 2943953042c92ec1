package backend

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-im/parley"
)

// Meter is a Log that can count the bytes of what each user has stored, by
// parley.Message.Size: what they sent and nothing has removed yet. A message that
// has expired counts until it is removed. All methods may be called concurrently.
type Meter interface {
	// StartMetering makes it count, durably and for good, what was stored before
	// too; that may take a while, in which too little is counted. When it counts
	// already, that costs nothing.
	StartMetering(ctx context.Context) error
	// Metering reports whether it counts, and whether what was stored before has
	// been counted. It costs next to nothing.
	Metering() (on, complete bool)
	// Used is how many bytes count to a user.
	Used(ctx context.Context, user string) (int64, error)
	// ForgetUsage makes what a user who is deleted has stored count to nobody, so
	// that who gets the name later begins with nothing.
	ForgetUsage(ctx context.Context, user string) error
}

// QuotaError is a message that was refused because its sender has as much stored
// as they may. It wraps parley.ErrUnavailable: what is removed makes room again.
type QuotaError struct {
	// Used bytes of Quota are stored, and Need more would have been, copies
	// included.
	Used, Need, Quota int64
}

// Error says how much is used of how much, and what makes room.
func (e *QuotaError) Error() string {
	return fmt.Sprintf("the quota of stored bytes is used up: %d of %d are stored and this needs %d more, there is room when older messages of yours are removed: %v",
		e.Used, e.Quota, e.Need, parley.ErrUnavailable)
}

// Wait is when to try again at the earliest: retention removes what is too old
// about once a minute.
func (e *QuotaError) Wait() time.Duration { return time.Minute }

// Unwrap is parley.ErrUnavailable.
func (e *QuotaError) Unwrap() error { return parley.ErrUnavailable }
