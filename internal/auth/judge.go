package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
)

// verifyToken tells who a token proves.
func (a *Authenticator) verifyToken(ctx context.Context, c account.Credential) (*account.Principal, error) {
	if len(c.Secret) > MaxTokenBytes {
		return nil, refuse("the token has more than %d bytes", MaxTokenBytes)
	}
	key := cacheKey(sha256.Sum256([]byte(c.Secret)))
	v := a.cache.get(key, a.now())
	if v == nil {
		t, err := parse(c.Secret)
		if err != nil {
			return nil, err
		}
		if v, err = a.judge(ctx, t); err != nil {
			return nil, err
		}
		a.cache.put(key, v)
	}
	p := v.claims.principal()
	device, err := sameDevice(p.Device, c.Device)
	if err != nil {
		return nil, err
	}
	p.Device = device
	return p, nil
}

// judge finds the key that signed a token and checks its claims.
func (a *Authenticator) judge(ctx context.Context, t *token) (*verified, error) {
	if method(t.algorithm) == nil {
		return nil, refuse("the token's alg %.20q is not accepted", t.algorithm)
	}
	var claimed error
	for _, k := range a.ring.find(t) {
		if !t.signedBy(k.material()) {
			continue
		}
		c, err := k.read(t, a.now())
		if err == nil {
			err = k.readUser(c)
		}
		if err == nil {
			return a.verdict(c, nil), nil
		}
		claimed = err // one key may stand there twice, with other rules
	}
	if claimed != nil {
		return nil, claimed
	}
	v, by, err := a.judgeBySets(ctx, t, a.sets)
	if err == nil {
		err = by.cfg.readUser(v.claims)
	}
	return v, err
}

// verdict is what to remember of good claims.
func (a *Authenticator) verdict(c *claims, holds func() bool) *verified {
	until := a.now().Add(maxTrust)
	if !c.expires.IsZero() && c.expires.Before(until) {
		until = c.expires
	}
	return &verified{claims: c, until: until, holds: holds}
}

// judgeBySets is judge with keys that are fetched. It waits for them while that
// may help.
func (a *Authenticator) judgeBySets(ctx context.Context, t *token, sets []*set) (*verified, *set, error) {
	patient, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	for tries := 0; tries == 0 || patient.Err() == nil; tries++ {
		rings := a.bell.wait() // first, so that no ring is missed
		if v, by, err := a.tryByKeys(t, sets); v != nil || err != nil {
			return v, by, err
		}
		coming := false
		for _, s := range sets {
			coming = s.want(t) || coming
		}
		if !coming && !closed(rings) {
			break
		}
		select {
		case <-rings:
		case <-patient.Done():
		}
	}
	for _, s := range sets {
		if slices.Contains(s.cfg.Algorithms, t.algorithm) && !s.available() {
			return nil, nil, notNow("the keys of %q could not be fetched", s.cfg.Name)
		}
	}
	return nil, nil, refuse("no key for alg %.20q and kid %.60q has signed the token", t.algorithm, t.kid)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// tryByKeys tries the keys that are there. Nothing but nils says that none has
// signed the token.
func (a *Authenticator) tryByKeys(t *token, sets []*set) (*verified, *set, error) {
	for _, s := range sets {
		for _, key := range s.look(t) {
			if !t.signedBy(key) {
				continue
			}
			c, err := s.cfg.read(t, a.now())
			if err != nil {
				return nil, nil, err
			}
			return a.verdict(c, func() bool { return s.holds(key) }), s, nil
		}
	}
	return nil, nil, nil
}

// sameDevice is the device that the credential names, or else what the client
// says; they must not contradict.
func sameDevice(proved, said string) (string, error) {
	if said == "" || said == proved {
		return proved, nil
	}
	if proved != "" {
		return "", refuse("the credential is of the device %.60q, not of %.60q", proved, said)
	}
	device, err := parley.ParseDevice(said)
	if err != nil {
		return "", refuse("the device's name is not valid")
	}
	return device, nil
}

// verifyKey tells who an API key proves.
func (a *Authenticator) verifyKey(ctx context.Context, c account.Credential) (*account.Principal, error) {
	if len(c.Secret) > MaxTokenBytes {
		return nil, refuse("the key has more than %d bytes", MaxTokenBytes)
	}
	p, err := a.directory.VerifyKey(ctx, c.Secret)
	if err != nil {
		return nil, err
	}
	if p.Device, err = sameDevice(p.Device, c.Device); err != nil {
		return nil, err
	}
	return p, nil
}

// errNone is a credential of a kind that is not configured.
var errNone = errors.New("this kind of credential is not accepted here")

// now is for what was written down by other clocks.
func (a *Authenticator) now() time.Time { return a.clock.Now() }
