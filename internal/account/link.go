package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// linkRecord is how an OpenID Connect subject is kept, under a hash of itself.
type linkRecord struct {
	Issuer  string    `json:"issuer"`
	Subject string    `json:"subject"`
	User    string    `json:"user"`
	Created time.Time `json:"created"`
}

const (
	nameBytes  = 13   // of a new user's name: 104 bits
	maxSubject = 1024 // bytes of an issuer and of a subject
)

// Link finds the user of an OpenID Connect subject, or makes one with a new
// name, which is random and in lower case. The subject is claimed first: who
// signs in on two devices at once is one user, and a crash in between is repaired
// the next time.
func (d *Directory) Link(ctx context.Context, issuer, subject string, p Profile) (name string, created bool, err error) {
	if issuer == "" || subject == "" || len(issuer) > maxSubject || len(subject) > maxSubject {
		return "", false, fmt.Errorf("issuer and subject have 1 to %d bytes: %w", maxSubject, parley.ErrInvalid)
	}
	for range attempts {
		name, err = d.claimSubject(ctx, issuer, subject)
		if err != nil {
			return "", false, err
		}
		created, err = d.ensureLinked(ctx, name, fingerprint(issuer, subject), p)
		if !errors.Is(err, errRaced) {
			return name, created, err
		}
	}
	return "", false, errRaced
}

// claimSubject is the name that belongs to the subject: the one that it has, or a
// new one.
func (d *Directory) claimSubject(ctx context.Context, issuer, subject string) (string, error) {
	var r linkRecord
	key := linkKeys + fingerprint(issuer, subject)
	there, err := d.get(ctx, key, &r)
	if err != nil || there {
		return r.User, err
	}
	r = linkRecord{Issuer: issuer, Subject: subject, User: random(nameBytes), Created: d.cfg.Clock.Now()}
	err = d.replace(ctx, backend.Record{Key: key}, r)
	if errors.Is(err, parley.ErrConflict) { // another device was faster
		_, err = d.get(ctx, key, &r)
	}
	return r.User, err
}

// ensureLinked makes the user of a link, if there is none yet.
func (d *Directory) ensureLinked(ctx context.Context, name, link string, p Profile) (created bool, err error) {
	u, err := d.load(ctx, name)
	if err != nil || u != nil {
		if u != nil && (u.deleting || u.Suspended) {
			return false, ErrRefused
		}
		return false, err
	}
	defer d.lock(name)()
	// The link may have gone with its user meanwhile.
	if there, err := d.get(ctx, linkKeys+link, &linkRecord{}); err != nil || !there {
		return false, errors.Join(err, errRaced)
	}
	if err := d.claim(ctx, name, "link", link); err != nil {
		return false, err
	}
	_, _, err = d.alterLocked(ctx, name, true, func(u *user) error {
		if u.Rev != 0 {
			return errUnchanged
		}
		u.Display = clean(p.Name)
		if p.Verified {
			u.Email = clean(p.Email)
		}
		return nil
	})
	if errors.Is(err, errUnchanged) {
		return false, nil
	}
	return err == nil, err
}
