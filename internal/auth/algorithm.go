package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
)

// The algorithms that a key can be pinned to.
const (
	HS256 = "HS256"
	HS384 = "HS384"
	HS512 = "HS512"
	RS256 = "RS256"
	ES256 = "ES256"
	EdDSA = "EdDSA"
)

// Algorithms lists them.
func Algorithms() []string { return []string{HS256, HS384, HS512, RS256, ES256, EdDSA} }

// method is the library's implementation of an algorithm, of which only signing
// and checking is used: it parses nothing here. There is none for "none".
func method(algorithm string) jwt.SigningMethod {
	switch algorithm {
	case HS256:
		return jwt.SigningMethodHS256
	case HS384:
		return jwt.SigningMethodHS384
	case HS512:
		return jwt.SigningMethodHS512
	case RS256:
		return jwt.SigningMethodRS256
	case ES256:
		return jwt.SigningMethodES256
	case EdDSA:
		return jwt.SigningMethodEdDSA
	}
	return nil
}

// Bounds of RSA keys: what is smaller can be broken, and what is larger costs
// too much to check.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// fits says why a public key or secret cannot be used with an algorithm. This is
// what keeps a public key from ever being taken for a secret.
func fits(algorithm string, key any, legacy bool) error {
	switch k := key.(type) {
	case []byte:
		least := map[string]int{HS256: 32, HS384: 48, HS512: 64}[algorithm]
		if least == 0 {
			return fmt.Errorf("a secret is no key for %s", algorithm)
		}
		if len(k) == 0 || len(k) < least && !legacy {
			return fmt.Errorf("the secret has %d bytes, and %s needs %d or more", len(k), algorithm, least)
		}
		return nil
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return fmt.Errorf("the RSA key has %d bits; allowed: %d to %d", bits, minRSABits, maxRSABits)
		}
		if k.E < 3 || k.E&1 == 0 {
			return errors.New("the RSA key has an even exponent")
		}
		return only(algorithm, RS256)
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return errors.New("the key is not of the curve P-256")
		}
		return only(algorithm, ES256)
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return errors.New("the key is no Ed25519 key")
		}
		return only(algorithm, EdDSA)
	}
	return fmt.Errorf("there is no algorithm for a %T", key)
}

func only(algorithm, allowed string) error {
	if algorithm != allowed {
		return fmt.Errorf("the key is for %s, not %s", allowed, algorithm)
	}
	return nil
}

// algorithmOf is the one algorithm that a public key is for.
func algorithmOf(key crypto.PublicKey) string {
	switch key.(type) {
	case *rsa.PublicKey:
		return RS256
	case *ecdsa.PublicKey:
		return ES256
	case ed25519.PublicKey:
		return EdDSA
	}
	return ""
}
