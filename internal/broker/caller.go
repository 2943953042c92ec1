package broker

import (
	"cmp"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
)

// caller is who a session is.
type caller struct {
	principal atomic.Pointer[account.Principal]
	id        uint64
	since     time.Time
	place     int         // in Broker.users; guarded by Broker.mu
	expiry    *time.Timer // nil when the principal lasts; guarded by Session.mu
	cut       atomic.Bool // nothing of the session's goes on

	// Only who makes requests touches these: the topic that was published to
	// last, and who was allowed to.
	topic   parley.Topic
	allowed *account.Principal
}

// Refusals that have to do with time. What a session has not been answered when
// its principal ends is refused too.
var (
	errExpired = fmt.Errorf("the credential has expired: %w", parley.ErrUnauthenticated)
	errCut     = fmt.Errorf("the session has ended: %w", parley.ErrUnauthenticated)
)

// Identity is who the session is.
func (s *Session) Identity() parley.Identity { return s.Principal().Identity }

// Principal is who the session is, and what they may do.
func (s *Session) Principal() *account.Principal { return s.caller.principal.Load() }

// enter makes s one of the broker's sessions.
func (b *Broker) enter(s *Session) {
	p := s.cfg.Principal
	switch {
	case p != nil:
	case s.cfg.Identity == parley.Identity{}:
		p = b.anyone
	default:
		p = account.Anyone(s.cfg.Identity)
	}
	s.caller.principal.Store(p)
	s.caller.since = time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sessionN++
	s.caller.id = b.sessionN
	b.sessions[s] = struct{}{}
	b.enlist(s, p.User)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expireLocked(p)
}

// enlist adds s to the sessions of its user. Who has none costs nothing.
func (b *Broker) enlist(s *Session, user string) {
	if user != "" {
		s.caller.place = len(b.users[user])
		b.users[user] = append(b.users[user], s)
	}
}

// leave undoes enter.
func (b *Broker) leave(s *Session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.sessions[s]; !ok {
		return
	}
	delete(b.sessions, s)
	s.mu.Lock()
	if s.caller.expiry != nil {
		s.caller.expiry.Stop()
	}
	s.mu.Unlock()
	user := s.Identity().User
	if user == "" {
		return
	}
	all := b.users[user]
	last := len(all) - 1
	all[s.caller.place] = all[last]
	all[s.caller.place].caller.place = s.caller.place
	all[last] = nil
	if b.users[user] = all[:last]; last == 0 {
		delete(b.users, user)
	}
}

// expired refuses a principal whose time has come, whichever clock is right. A
// session has a timer besides.
func (b *Broker) expired(p *account.Principal) error {
	if !p.Expires.IsZero() && !p.Expires.After(b.cfg.Clock.Past()) {
		return errExpired
	}
	return nil
}

// permit refuses what p may not do now: o on t.
func (b *Broker) permit(p *account.Principal, o account.Operation, t parley.Topic) error {
	if err := b.expired(p); err != nil {
		return err
	}
	return p.Allow(o, t)
}

// Permit refuses a subscription that p may not have: what is live needs
// account.Subscribe, and what may be stored already account.History.
func (r *Subscribe) Permit(p *account.Principal) error {
	if !r.ReplayOnly {
		if err := p.Allow(account.Subscribe, r.Topic); err != nil {
			return err
		}
		if r.Start.Kind == FromNow && r.Delivery == nil {
			return nil
		}
	}
	return p.Allow(account.History, r.Topic)
}

// SetPrincipal makes p who the session is from now on. The user cannot change,
// but from nobody; a device that p does not name stays. Subscriptions that p may
// not have are ended at once; when p expires, so does the session. Whoever makes
// the session's requests calls it. The error wraps parley.ErrForbidden, or
// parley.ErrUnauthenticated when p has expired or the session is over.
func (s *Session) SetPrincipal(p *account.Principal) error {
	if err := s.broker.expired(p); err != nil {
		return err
	}
	ended, err := s.become(p)
	for _, u := range ended {
		s.detach(u)
	}
	return err
}

// become is SetPrincipal, and returns the subscriptions that ended.
func (s *Session) become(p *account.Principal) ([]*Subscription, error) {
	s.broker.mu.Lock()
	defer s.broker.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.Principal()
	switch {
	case s.closed || s.bye != nil:
		return nil, errCut
	case was.User != "" && was.User != p.User:
		return nil, fmt.Errorf("the session is another user's: %w", parley.ErrForbidden)
	case was.User != "" && was.Device != p.Device:
		if was.Device != "" && p.Device != "" {
			return nil, fmt.Errorf("the session is another device's: %w", parley.ErrForbidden)
		}
		same := *p
		same.Device = cmp.Or(p.Device, was.Device)
		p = &same
	}
	s.caller.principal.Store(p)
	if was.User == "" {
		s.broker.enlist(s, p.User)
	}
	s.expireLocked(p)
	var ended []*Subscription
	for _, u := range slices.Clone(s.subs) {
		if err := u.request.Permit(p); err != nil {
			u.farewell = &Ended{u, err}
			ended = append(ended, s.cancelLocked(slices.Index(s.subs, u)))
		}
	}
	return ended, nil
}

// expireLocked ends the session when p expires, which whoever verified it has
// judged by Clock.Now, and from here by the time that elapses: a wall clock that
// is set meanwhile changes nothing.
func (s *Session) expireLocked(p *account.Principal) {
	if s.caller.expiry != nil {
		s.caller.expiry.Stop()
		s.caller.expiry = nil
	}
	if p.Expires.IsZero() {
		return
	}
	s.caller.expiry = time.AfterFunc(p.Expires.Sub(s.broker.cfg.Clock.Now()), func() {
		if s.cutOff(p, &Bye{Code: ByeExpired, Reason: "the credential has expired"}) {
			s.broker.refuseCut()
		}
	})
}

// byeGrace is how long a session that was cut off waits for what of its own is
// just being stored.
const byeGrace = 2 * time.Second

// cutOff ends the session as Bye does, but at once, if it is still p's: nothing
// more is delivered, replayed or read, and what waits to be stored is not.
// refuseCut must follow.
func (s *Session) cutOff(p *account.Principal, e *Bye) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.Principal() != p || s.caller.cut.Load() {
		return false
	}
	s.caller.cut.Store(true)
	if s.bye == nil {
		s.bye = e
	}
	s.outbox = slices.DeleteFunc(s.outbox, func(a answer) bool {
		_, page := a.event.(*History)
		return page
	})
	if s.unsent > 0 {
		time.AfterFunc(byeGrace, s.force)
	}
	s.room.Broadcast()
	s.wakeLocked()
	return true
}

// force lets the goodbye wait for nothing.
func (s *Session) force() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forced = true
	s.wakeLocked()
}

// leavingLocked reports whether the goodbye is due.
func (s *Session) leavingLocked() bool { return s.bye != nil && (s.unsent == 0 || s.forced) }

// cut reports whether the submission's session was cut off.
func (s *submission) cut() bool { return s.session != nil && s.session.caller.cut.Load() }

// refuseCut answers what sessions that were cut off have waiting to be stored.
func (b *Broker) refuseCut() {
	for _, sub := range b.queue.drop(func(sub *submission) bool {
		if !sub.cut() {
			return false
		}
		b.stats.refused.Add(int64(sub.messages - sub.invalid))
		return true
	}) {
		sub.refuse(errCut)
		sub.answer()
	}
}

// Revoke ends all sessions that match, with a goodbye for reason, within what a
// clean goodbye takes; live deliveries, replays and queued work of theirs end at
// once. It returns how many.
func (b *Broker) Revoke(match func(*account.Principal) bool, reason string) int {
	b.mu.Lock()
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

// sessionsListed bounds the answer to ListSessions.
const sessionsListed = 1000

// ListSessions is answered by Sessions: those of the session's user, the oldest
// first, at most 1,000; for nobody only their own.
func (s *Session) ListSessions(ref string) {
	own := []*Session{s}
	if user := s.Identity().User; user != "" {
		own = s.broker.sessionsOf(user)
	}
	slices.SortFunc(own, func(a, b *Session) int { return cmp.Compare(a.caller.id, b.caller.id) })
	own = own[:min(len(own), sessionsListed)]
	list := make([]SessionInfo, len(own))
	for i, other := range own {
		list[i] = SessionInfo{
			ID: other.caller.id, Identity: other.Identity(), Protocol: other.cfg.Protocol, Remote: other.cfg.Remote,
			Since: other.caller.since, Current: other == s,
		}
	}
	s.Reply(&Sessions{Ref: ref, Sessions: list}, 256*len(list))
}

// sessionsOf are the live sessions of a user.
func (b *Broker) sessionsOf(user string) []*Session {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.users[user])
}
