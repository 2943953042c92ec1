package auth

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/parley-im/parley"
)

// Key is a key that tokens are checked with.
type Key struct {
	// Name says in the log which key it is.
	Name string
	// ID is the kid of the tokens that it is for. A key without one is for all
	// tokens whose kid is no key's ID.
	ID string
	// Algorithms are those that its tokens may have; one, except that one secret
	// may be for several sizes of HMAC.
	Algorithms []string
	// Secret is the key of HMAC algorithms. It is as long as their hash, or the
	// key is Legacy.
	Secret []byte
	// Public is the key of the others: *rsa.PublicKey, *ecdsa.PublicKey or
	// ed25519.PublicKey.
	Public crypto.PublicKey

	Rules
}

// material is what signatures are checked with.
func (k *Key) material() any {
	if k.Public != nil {
		return k.Public
	}
	return k.Secret
}

// check finds what is wrong with a key.
func (k *Key) check() error {
	fault := func(err error) error {
		return fmt.Errorf("auth: key %q: %w: %w", k.Name, err, parley.ErrInvalid)
	}
	if len(k.Algorithms) == 0 {
		return fault(errors.New("no algorithm"))
	}
	if (k.Public == nil) == (k.Secret == nil) {
		return fault(errors.New("either a secret or a public key"))
	}
	// Who puts a public key where a secret belongs lets everybody sign.
	if bytes.Contains(k.Secret, []byte("-----BEGIN")) {
		return fault(errors.New("the secret is a PEM file, which is for public keys"))
	}
	for _, a := range k.Algorithms {
		if method(a) == nil {
			return fault(fmt.Errorf("there is no algorithm %.20q", a))
		}
		if err := fits(a, k.material(), k.Legacy); err != nil {
			return fault(err)
		}
	}
	if err := k.Rules.check(); err != nil {
		return fault(err)
	}
	return nil
}

func (r *Rules) check() error {
	if !r.Legacy && (len(r.Issuers) == 0 || len(r.Audiences) == 0) {
		return errors.New("an issuer and an audience are needed")
	}
	if slices.Contains(r.Issuers, "") || slices.Contains(r.Audiences, "") {
		return errors.New("an issuer or audience is empty")
	}
	return nil
}

// ParsePublicKey reads the public key in a PEM text: a PUBLIC KEY, an RSA PUBLIC
// KEY, or a CERTIFICATE, whose key it takes. The error wraps parley.ErrInvalid.
func ParsePublicKey(text []byte) (crypto.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("auth: there is no PEM text: %w", parley.ErrInvalid)
	}
	var key crypto.PublicKey
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var c *x509.Certificate
		if c, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = c.PublicKey
		}
	default:
		err = fmt.Errorf("it holds a %.40q, and a PUBLIC KEY is needed", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("auth: public key: %w: %w", err, parley.ErrInvalid)
	}
	if algorithmOf(key) == "" {
		return nil, fmt.Errorf("auth: public key: there is no algorithm for a %T: %w", key, parley.ErrInvalid)
	}
	return key, nil
}

// ring is the configured keys. It does not change.
type ring struct {
	byID    map[string][]*Key
	without []*Key
}

func newRing(keys []Key) (*ring, error) {
	r := &ring{byID: make(map[string][]*Key)}
	for i := range keys {
		k := &keys[i]
		if err := k.check(); err != nil {
			return nil, err
		}
		if k.ID == "" {
			r.without = append(r.without, k)
			continue
		}
		r.byID[k.ID] = append(r.byID[k.ID], k)
	}
	return r, nil
}

// find returns the keys that a token may have been signed with.
func (r *ring) find(t *token) []*Key {
	keys := r.without
	if named := r.byID[t.kid]; t.kid != "" && len(named) > 0 {
		keys = named
	}
	var all []*Key
	for _, k := range keys {
		if slices.Contains(k.Algorithms, t.algorithm) {
			all = append(all, k)
		}
	}
	return all
}

// signedBy reports whether a key has signed the token.
func (t *token) signedBy(key any) bool {
	return method(t.algorithm).Verify(t.signed, t.signature, key) == nil
}
