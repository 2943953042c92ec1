package account

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// Key is an API key, without its secret.
type Key struct {
	ID   string
	User string // who it proves
	Note string // what it is for
	// Grants are all that it may do; empty is what its user may.
	Grants  []Grant
	Created time.Time
	Expires time.Time // zero is never
	Used    time.Time // when last, to the hour
}

// A secret is KeyPrefix, the key's id and what nobody guesses. Whoever looks for
// secrets that have leaked can find it by the prefix.
const (
	KeyPrefix = "parley_"

	idBytes     = 8  // 64 bits, 16 digits
	secretBytes = 20 // 160 bits, 40 digits
)

// random is n random bytes, in hexadecimal.
func random(n int) string {
	p := make([]byte, n)
	_, _ = rand.Read(p) // it never fails
	return hex.EncodeToString(p)
}

// keyRecord is how a key is kept.
type keyRecord struct {
	User    string    `json:"user"`
	Note    string    `json:"note,omitempty"`
	Grants  []string  `json:"grants,omitempty"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
	Used    time.Time `json:"used,omitzero"`
	Hash    []byte    `json:"sha256"` // of the whole secret
}

func (r *keyRecord) key(id string) (Key, error) {
	grants, err := ParseGrants(r.Grants)
	if err != nil {
		return Key{}, fmt.Errorf("account: record %q: %w", apiKeys+id, err)
	}
	return Key{ID: id, User: r.User, Note: r.Note, Grants: grants, Created: r.Created, Expires: r.Expires, Used: r.Used}, nil
}

// CreateKey makes an API key and returns its secret, which is not kept. The user
// gets a record if there is none. The error wraps parley.ErrConflict when they
// have MaxKeys.
func (d *Directory) CreateKey(ctx context.Context, k Key) (made Key, secret string, err error) {
	now := d.cfg.Clock.Now()
	if k.User, err = parley.ParseUser(k.User); err != nil {
		return Key{}, "", err
	}
	if err := errors.Join(checkText("note", k.Note), checkGrants(k.Grants)); err != nil {
		return Key{}, "", err
	}
	if !k.Expires.IsZero() && !k.Expires.After(now) {
		return Key{}, "", fmt.Errorf("the key would have expired already: %w", parley.ErrInvalid)
	}
	defer d.lock(k.User)()
	if err := d.ensureLocked(ctx, k.User); err != nil {
		return Key{}, "", err
	}
	if n, err := d.ownedBy(ctx, k.User, "key"); err != nil || n >= MaxKeys {
		return Key{}, "", errors.Join(err, tooMany(n >= MaxKeys, "keys", MaxKeys))
	}
	k.ID, k.Created, k.Used = random(idBytes), now, time.Time{}
	secret = KeyPrefix + k.ID + random(secretBytes)
	hash := sha256.Sum256([]byte(secret))
	r := keyRecord{User: k.User, Note: k.Note, Grants: FormatGrants(k.Grants), Created: k.Created, Expires: k.Expires, Hash: hash[:]}
	if err := d.claim(ctx, k.User, "key", k.ID); err != nil {
		return Key{}, "", err
	}
	if err := d.set(ctx, apiKeys+k.ID, r); err != nil {
		return Key{}, "", err
	}
	return k, secret, nil
}

func tooMany(is bool, what string, most int) error {
	if !is {
		return nil
	}
	return fmt.Errorf("the user has %d %s, revoke one first: %w", most, what, parley.ErrConflict)
}

// ensureLocked makes the record of a user who has none. Their lock is held.
func (d *Directory) ensureLocked(ctx context.Context, name string) error {
	for range attempts {
		_, _, err := d.alterLocked(ctx, name, true, func(u *user) error {
			switch {
			case u.deleting:
				return errDeleting
			case u.Rev != 0:
				return errUnchanged
			}
			return nil
		})
		switch {
		case errors.Is(err, errUnchanged):
			return nil
		case !errors.Is(err, errRaced):
			return err
		}
	}
	return errRaced
}

// ownedBy counts the claims of that kind.
func (d *Directory) ownedBy(ctx context.Context, user, kind string) (n int, err error) {
	for _, err := range d.claimed(ctx, user, kind, "") {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// Keys lists the keys of a user, or all when user is empty, by id from the first
// after the given one.
func (d *Directory) Keys(ctx context.Context, user, after string) iter.Seq2[Key, error] {
	return func(yield func(Key, error) bool) {
		for id, r := range d.records(ctx, apiKeys, user, "key", after) {
			var kept keyRecord
			var k Key
			err := r.err
			if err == nil {
				err = decode(r.Record, &kept)
			}
			if err == nil {
				k, err = kept.key(id)
			}
			k.Used = d.pending.usedAt(id, k.Used)
			if !yield(k, err) || err != nil {
				return
			}
		}
	}
}

// found is a record, or why it cannot be read.
type found struct {
	backend.Record

	err error
}

// records yields the records under prefix by id: of everybody, or those that the
// user has claimed.
func (d *Directory) records(ctx context.Context, prefix, user, kind, after string) iter.Seq2[string, found] {
	return func(yield func(string, found) bool) {
		if user == "" {
			for record, err := range d.scan(ctx, prefix, after) {
				if !yield(strings.TrimPrefix(record.Key, prefix), found{record, err}) {
					return
				}
			}
			return
		}
		name, err := parley.ParseUser(user)
		if err != nil {
			yield("", found{err: err})
			return
		}
		for id, err := range d.claimed(ctx, name, kind, after) {
			var record backend.Record
			if err == nil {
				record, err = d.cfg.KV.Get(ctx, prefix+id)
			}
			if errors.Is(err, parley.ErrNotFound) {
				continue // a crash was faster than the record
			}
			if !yield(id, found{record, err}) {
				return
			}
		}
	}
}

// RevokeKey ends a key and the sessions that it opened.
func (d *Directory) RevokeKey(ctx context.Context, id string) error {
	if n := hex.EncodedLen(idBytes); len(id) != n {
		return fmt.Errorf("the id of a key has %d digits: %w", n, parley.ErrInvalid)
	}
	var r keyRecord
	there, err := d.get(ctx, apiKeys+id, &r)
	if err != nil {
		return err
	}
	if !there {
		return errNoKey
	}
	if there, err = d.dropKey(ctx, r.User, id); err != nil {
		return err
	}
	if !there {
		return errNoKey
	}
	d.endCredential("key:"+id, "the key was revoked")
	return nil
}

var errNoKey = fmt.Errorf("there is no such key: %w", parley.ErrNotFound)

// dropKey removes a key, then its claim.
func (d *Directory) dropKey(ctx context.Context, user, id string) (there bool, err error) {
	defer d.lock(user)()
	if there, err = d.unset(ctx, apiKeys+id); err != nil {
		return false, err
	}
	return there, d.release(ctx, user, "key", id)
}

// VerifyKey tells who a secret proves. It costs no more than a hash and a lookup.
// The error wraps parley.ErrUnauthenticated. Who it proves is yet to be admitted.
func (d *Directory) VerifyKey(ctx context.Context, secret string) (*Principal, error) {
	id, ok := keyID(secret)
	if !ok {
		return nil, ErrRefused
	}
	var r keyRecord
	if _, err := d.get(ctx, apiKeys+id, &r); err != nil {
		return nil, err
	}
	hash := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(hash[:], r.Hash) != 1 {
		return nil, ErrRefused
	}
	if !r.Expires.IsZero() && !r.Expires.After(d.cfg.Clock.Past()) {
		return nil, ErrRefused
	}
	k, err := r.key(id)
	if err != nil {
		return nil, err
	}
	if now := d.cfg.Clock.Now().Truncate(usedGrain); k.Used.Before(now) {
		d.pending.used(id, now)
	}
	return &Principal{
		Identity: parley.Identity{User: k.User}, Grants: k.Grants, scoped: len(k.Grants) > 0,
		Expires: k.Expires, Issued: k.Created, Credential: "key:" + id,
	}, nil
}

// keyID is the id that a secret begins with.
func keyID(secret string) (id string, ok bool) {
	text, ok := strings.CutPrefix(secret, KeyPrefix)
	if !ok || len(text) != hex.EncodedLen(idBytes+secretBytes) || strings.ToLower(text) != text {
		return "", false
	}
	_, err := hex.DecodeString(text)
	return text[:hex.EncodedLen(idBytes)], err == nil
}

// keyUsed writes when a key was used last.
func (d *Directory) keyUsed(ctx context.Context, id string, t time.Time) error {
	record, err := d.cfg.KV.Get(ctx, apiKeys+id)
	if err != nil {
		return err
	}
	var r keyRecord
	if err := decode(record, &r); err != nil {
		return err
	}
	if !t.After(r.Used) {
		return errUnchanged
	}
	r.Used = t
	return d.replace(ctx, record, r)
}
