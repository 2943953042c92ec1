package auth

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/parley-im/parley"
)

// KeySet is the keys of one issuer, who publishes them (JWKS) and changes them
// now and then.
type KeySet struct {
	// Name says in the log which set it is.
	Name string
	// URL is where the keys are: https, see Reach.
	URL string
	// Algorithms are those that its tokens may have: RS256, ES256 and EdDSA.
	Algorithms []string

	Rules
}

// How long keys are believed.
const (
	// fresh bounds what an answer says of how long it may be kept, and is what
	// counts when it says nothing.
	minFresh, usualFresh, maxFresh = 5 * time.Minute, time.Hour, 24 * time.Hour
	// MaxStale is how long keys that should have been fetched again are still
	// used while their issuer cannot be reached.
	MaxStale = 24 * time.Hour
	// betweenFetches is how often a set is fetched at most because of a token
	// whose key is not known, or after a failure.
	betweenFetches = time.Minute
	// firstRetry is the wait after a first failure, while there are no keys yet.
	firstRetry = 5 * time.Second
)

// set is a KeySet with the keys that were fetched. Its run fetches, one at a
// time; everybody else asks and waits.
type set struct {
	cfg    KeySet
	now    func() time.Time
	out    *outbound
	logger *slog.Logger
	// locate is where the keys are, which may have to be found out.
	locate func(ctx context.Context) (string, error)

	asked chan struct{} // somebody waits for a fetch
	bell  *bell         // rings after each attempt

	mu   sync.Mutex // guards what follows
	keys map[setKey]crypto.PublicKey
	// fresh is until when they need not be fetched, usable until when they may
	// be used.
	fresh, usable time.Time
	tried         time.Time // when the last attempt began
	failures      int       // since the last success
	stopped       bool      // run has ended: nobody is there to be asked
	fetching      bool
}

// newSet makes one without keys.
func (a *Authenticator) newSet(cfg KeySet) *set {
	return &set{
		cfg: cfg, now: a.now, out: a.outbound, logger: a.logger, bell: &a.bell,
		locate: func(context.Context) (string, error) { return cfg.URL, nil },
		asked:  make(chan struct{}, 1),
	}
}

// bell wakes all who wait for keys, of whichever set. The zero value is useful.
type bell struct {
	mu   sync.Mutex
	next chan struct{}
}

// wait returns what is closed when the bell rings next.
func (b *bell) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}

// check finds what is wrong with the configuration.
func (k *KeySet) check(out *outbound) error {
	if _, err := out.checkURL(k.URL); err != nil {
		return fmt.Errorf("key set %q: %w", k.Name, err)
	}
	return k.checkRest()
}

func (k *KeySet) checkRest() error {
	fault := func(err error) error { return fmt.Errorf("auth: key set %q: %w: %w", k.Name, err, parley.ErrInvalid) }
	if k.Legacy {
		return fault(errors.New("only a key of its own can be legacy"))
	}
	if len(k.Algorithms) == 0 {
		return fault(errors.New("no algorithm"))
	}
	for _, a := range k.Algorithms {
		if !slices.Contains([]string{RS256, ES256, EdDSA}, a) {
			return fault(fmt.Errorf("the algorithm %.20q is not one of RS256, ES256 and EdDSA", a))
		}
	}
	if err := k.Rules.check(); err != nil {
		return fault(err)
	}
	return nil
}

// look returns the keys that the token may have been signed with: one or none,
// but where the token has no kid.
func (s *set) look(t *token) []crypto.PublicKey {
	if !slices.Contains(s.cfg.Algorithms, t.algorithm) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if now.After(s.fresh) && s.dueLocked(now) {
		s.ask() // nobody waits for it: what is there is usable
	}
	if !now.Before(s.usable) {
		return nil
	}
	return s.matchingLocked(t)
}

// want asks for the keys to be fetched because that of the token is not known,
// and reports whether that happens, or happens already: then the bell will ring.
// It does not when it is too early to fetch again.
func (s *set) want(t *token) bool {
	if !slices.Contains(s.cfg.Algorithms, t.algorithm) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped:
		return false
	case s.fetching:
		return true
	case s.dueLocked(s.now()):
		s.ask()
		return true
	}
	return false
}

// matchingLocked returns the keys with the token's kid, or, if it has none, those
// that it may be of.
func (s *set) matchingLocked(t *token) []crypto.PublicKey {
	if key, ok := s.keys[setKey{t.kid, t.algorithm}]; ok {
		return []crypto.PublicKey{key}
	}
	if t.kid != "" {
		return nil
	}
	const most = 8
	var all []crypto.PublicKey
	for name, key := range s.keys {
		if name.algorithm == t.algorithm && len(all) < most {
			all = append(all, key)
		}
	}
	return all
}

// holds reports whether a key is still one of the set.
func (s *set) holds(key crypto.PublicKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.now().Before(s.usable) {
		return false
	}
	for _, k := range s.keys {
		if equal(k, key) {
			return true
		}
	}
	return false
}

func equal(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(x crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

func (s *set) available() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now().Before(s.usable)
}

// dueLocked reports whether enough time has passed since the last attempt.
func (s *set) dueLocked(now time.Time) bool {
	return s.tried.IsZero() || now.Sub(s.tried) >= s.pauseLocked()
}

// pauseLocked is the least time between two attempts.
func (s *set) pauseLocked() time.Duration {
	if s.failures > 0 && s.keys == nil {
		return min(firstRetry<<min(s.failures-1, 4), betweenFetches)
	}
	return betweenFetches
}

func (s *set) ask() {
	select {
	case s.asked <- struct{}{}:
	default: // one is enough
	}
}
