package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
)

// Payer is the user to whose quota a stored message counts: its sender. That is
// so for a letter in each inbox that has it, the copy in the sender's own
// included, and for what was published to a topic. Receipts and dead letters
// count to nobody: others could use up a quota with them.
func Payer(m *parley.Message) string {
	if m.Topic.Reserved() {
		s := string(m.Topic)
		if strings.HasPrefix(s, "/"+deadStreams) || strings.HasSuffix(s, deliveredSegment) || strings.HasSuffix(s, readSegment) {
			return ""
		}
	}
	return m.Sender.User
}

// StartMetering makes the log count what users have stored, as for
// backend.Meter. The error wraps parley.ErrUnavailable when it cannot.
func (b *Broker) StartMetering(ctx context.Context) error {
	meter, ok := b.log.(backend.Meter)
	if !ok {
		return fmt.Errorf("this store does not count what users have stored: %w", parley.ErrUnavailable)
	}
	return meter.StartMetering(ctx)
}

// Metering is as for backend.Meter.
func (b *Broker) Metering() (on, complete bool) {
	if meter, ok := b.log.(backend.Meter); ok {
		return meter.Metering()
	}
	return false, false
}

// Usage is what a user has stored and may have stored, in bytes. Quota 0 is
// without bound; known is false while nothing is counted, and then used is 0.
func (b *Broker) Usage(ctx context.Context, user string) (used, quota int64, known bool, err error) {
	if b.cfg.Quota != nil {
		quota = b.cfg.Quota(user)
	}
	if on, _ := b.Metering(); !on {
		return 0, quota, false, nil
	}
	used, err = b.log.(backend.Meter).Used(ctx, user)
	return used, quota, err == nil, err
}

// quotaOf is what bounds the messages of who from now on; 0 for nothing. What
// somebody only claims to be has no quota: anybody could use up somebody else's.
func (b *Broker) quotaOf(who *account.Principal) int64 {
	if b.cfg.Quota == nil || who.Open || who.User == "" {
		return 0
	}
	if on, _ := b.Metering(); !on {
		return 0
	}
	return b.cfg.Quota(who.User)
}

// bounded makes the quota of who bound s, and tells w of what that refuses.
func (s *submission) bounded(b *Broker, who *account.Principal, w *Watch) {
	if s.quota = b.quotaOf(who); s.quota > 0 && w != nil {
		s.who, s.watch = who, w
	}
}

// tellOver tells who watches the submission of what a quota has refused.
func (s *submission) tellOver() {
	if s.quota == 0 || s.watch == nil || s.watch.Over == nil {
		return
	}
	for _, p := range s.publishes {
		for i := range p.Messages {
			if m := &p.Messages[i]; !m.along && overQuota(m.Result.Err) {
				s.watch.Over(s.who, m.Result.Err)
			}
		}
	}
}

// overQuota reports whether err is a quota's refusal.
func overQuota(err error) bool {
	_, is := errors.AsType[*backend.QuotaError](err)
	return is
}
