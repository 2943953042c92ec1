package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"

	"github.com/go-json-experiment/json"
)

// Bounds of a set of keys.
const (
	maxSetBytes = 256 << 10
	maxSetKeys  = 64
)

// setKey names a key of a set. Together with the set, which belongs to one
// issuer, it is what a key is found by; two issuers may well use one kid.
type setKey struct{ kid, algorithm string }

// jwk is a key as JWKS writes it (RFC 7517 and 7518).
type jwk struct {
	Type      string `json:"kty"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	ID        string `json:"kid"`
	Curve     string `json:"crv"`
	N         string `json:"n"`
	E         string `json:"e"`
	X         string `json:"x"`
	Y         string `json:"y"`
}

// parseSet reads a set of keys. Keys that are for something else, or of a kind
// that is not known here, are left out; one that is broken too, since its issuer
// may be ahead of us. A set without any usable key is an error.
func parseSet(text []byte) (map[setKey]crypto.PublicKey, error) {
	var set struct {
		Keys []jwk `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("it is no strict JSON Web Key Set")
	}
	if len(set.Keys) > maxSetKeys {
		return nil, fmt.Errorf("it has %d keys, more than %d", len(set.Keys), maxSetKeys)
	}
	keys := make(map[setKey]crypto.PublicKey)
	for i := range set.Keys {
		k := &set.Keys[i]
		key, err := k.public()
		if err != nil {
			continue
		}
		algorithm := algorithmOf(key)
		if fits(algorithm, key, false) != nil || k.Algorithm != "" && k.Algorithm != algorithm {
			continue
		}
		name := setKey{k.ID, algorithm}
		if _, twice := keys[name]; !twice {
			keys[name] = key
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("it has no key that can be used")
	}
	return keys, nil
}

var errOtherKey = errors.New("a key for something else")

// public is the key itself. A symmetric one is refused: whoever can read it could
// sign.
func (k *jwk) public() (crypto.PublicKey, error) {
	if k.Use != "" && k.Use != "sig" || len(k.ID) > MaxKeyIDBytes {
		return nil, errOtherKey
	}
	switch k.Type {
	case "RSA":
		n, err := number(k.N, maxRSABits/8)
		if err != nil {
			return nil, err
		}
		e, err := number(k.E, 4)
		if err != nil || !e.IsInt64() || e.Int64() > 1<<31-1 {
			return nil, errOtherKey
		}
		return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
	case "EC":
		return k.curvePoint()
	case "OKP":
		x, err := base64.RawURLEncoding.DecodeString(k.X)
		if err != nil || k.Curve != "Ed25519" || len(x) != ed25519.PublicKeySize {
			return nil, errOtherKey
		}
		return ed25519.PublicKey(x), nil
	}
	return nil, errOtherKey
}

// curvePoint is a key of the curve P-256. The library checks that the point is on
// the curve.
func (k *jwk) curvePoint() (crypto.PublicKey, error) {
	const size = 32
	x, errX := base64.RawURLEncoding.DecodeString(k.X)
	y, errY := base64.RawURLEncoding.DecodeString(k.Y)
	if errX != nil || errY != nil || k.Curve != "P-256" || len(x) != size || len(y) != size {
		return nil, errOtherKey
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
}

func number(text string, most int) (*big.Int, error) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(b) == 0 || len(b) > most+1 {
		return nil, errOtherKey
	}
	return new(big.Int).SetBytes(b), nil
}
