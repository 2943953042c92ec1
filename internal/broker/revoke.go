package broker

import (
	"slices"
	"time"

	"github.com/parley-im/parley/internal/account"
)

// revocation is one that somebody whose credential is just being verified may
// have missed.
type revocation struct {
	at     time.Time
	match  func(*account.Principal) bool
	reason string
}

// Verifying takes less than revocationsKept; there are not more than
// revocationsMost in that time.
const (
	revocationsKept = time.Minute
	revocationsMost = 10_000
)

// Revoke ends all sessions that match, with a goodbye for reason, within what a
// clean goodbye takes; live deliveries, replays and queued work of theirs end at
// once. It returns how many. Who was verified before that and begins later is
// refused by their Principal.Verified; match may be called for a minute.
func (b *Broker) Revoke(match func(*account.Principal) bool, reason string) int {
	b.mu.Lock()
	b.noteRevocation(revocation{time.Now(), match, reason})
	n := 0
	for s := range b.sessions {
		if p := s.Principal(); match(p) && s.cutOff(p, &Bye{Code: ByeRevoked, Reason: reason}) {
			n++
		}
	}
	b.mu.Unlock()
	if n > 0 {
		b.refuseCut()
	}
	return n
}

// noteRevocation remembers r and forgets what is too old. Broker.mu is held.
func (b *Broker) noteRevocation(r revocation) {
	old := 0
	for old < len(b.revoked) && (r.at.Sub(b.revoked[old].at) > revocationsKept || len(b.revoked)-old >= revocationsMost) {
		old++
	}
	b.revoked = append(slices.Delete(b.revoked, 0, old), r)
}

// revokedMeanwhile reports whether p was revoked while it was being verified, and
// why. Broker.mu is held.
func (b *Broker) revokedMeanwhile(p *account.Principal) (reason string, ok bool) {
	if p.Verified.IsZero() {
		return "", false
	}
	for _, r := range slices.Backward(b.revoked) {
		if r.at.Before(p.Verified) {
			break
		}
		if r.match(p) {
			return r.reason, true
		}
	}
	return "", false
}
