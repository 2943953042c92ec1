package account

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-im/parley"
)

// maxTokenID bounds the id of a token, in bytes.
const maxTokenID = 1024

// revokedRecord is how a revoked token is kept, under a hash of its id.
type revokedRecord struct {
	Until time.Time `json:"until,omitzero"` // zero is for ever
}

// RevokeToken refuses the token with that jti until it would have expired; zero
// is for ever. Whether there is such a token, nobody knows.
func (d *Directory) RevokeToken(ctx context.Context, id string, until time.Time) error {
	if id == "" || len(id) > maxTokenID {
		return fmt.Errorf("the id of a token has 1 to %d bytes: %w", maxTokenID, parley.ErrInvalid)
	}
	if !until.IsZero() && !until.After(d.cfg.Clock.Past()) {
		return nil // it has ended by itself
	}
	key := revokedKeys + fingerprint(id)
	d.revoked.add(key)
	if err := d.set(ctx, key, revokedRecord{until}); err != nil {
		return err
	}
	d.endCredential("jwt:"+id, "the token was revoked")
	return nil
}

// endCredential ends the sessions that the credential of that name has opened.
func (d *Directory) endCredential(name, reason string) {
	d.end(func(p *Principal) bool { return p.Credential == name }, reason)
}

func (d *Directory) tokenRevoked(ctx context.Context, id string) (bool, error) {
	key := revokedKeys + fingerprint(id)
	if may, err := d.revoked.mayHold(ctx, key); err != nil || !may {
		return false, err
	}
	var r revokedRecord
	return d.get(ctx, key, &r)
}

// RevokeTokens refuses all credentials of a user that were issued until now:
// tokens, keys and certificates. It makes the user's record if there is none,
// because a token may have been issued for somebody who never came.
func (d *Directory) RevokeTokens(ctx context.Context, name string) error {
	name, err := parley.ParseUser(name)
	if err != nil {
		return err
	}
	_, after, err := d.alter(ctx, name, true, func(u *user) error {
		// Never back: what was refused stays refused.
		if now := d.cfg.Clock.Now(); now.After(u.NotBefore) {
			u.NotBefore = now
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.end(olderThan(after), "the credentials were revoked")
	return nil
}
