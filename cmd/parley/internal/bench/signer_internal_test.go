package bench

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/parley-im/parley"
)

// TestSignatures: tokens verify by the key that they are signed with.
func TestSignatures(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	ecKey, ecErr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	public, edKey, edErr := ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err, ecErr, edErr); err != nil {
		t.Fatal(err)
	}
	for algorithm, tt := range map[string]struct {
		key      any
		verifies func(text, signature []byte) bool
	}{
		"RS256": {rsaKey, func(text, signature []byte) bool {
			digest := sha256.Sum256(text)
			return rsa.VerifyPKCS1v15(&rsaKey.PublicKey, crypto.SHA256, digest[:], signature) == nil
		}},
		"ES256": {ecKey, func(text, signature []byte) bool {
			digest := sha256.Sum256(text)
			r, s := new(big.Int).SetBytes(signature[:pointBytes]), new(big.Int).SetBytes(signature[pointBytes:])
			return len(signature) == 2*pointBytes && ecdsa.Verify(&ecKey.PublicKey, digest[:], r, s)
		}},
		"EdDSA": {edKey, func(text, signature []byte) bool { return ed25519.Verify(public, text, signature) }},
	} {
		t.Run(algorithm, func(t *testing.T) {
			der, err := x509.MarshalPKCS8PrivateKey(tt.key)
			if err != nil {
				t.Fatal(err)
			}
			var s Signer
			if err := s.SetKey(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))); err != nil {
				t.Fatal(err)
			}
			token, err := s.token("ann")
			if err != nil || s.algorithm() != algorithm {
				t.Fatalf("a token of %s: %v", s.algorithm(), err)
			}
			at := strings.LastIndexByte(token, '.')
			signature, err := base64.RawURLEncoding.DecodeString(token[at+1:])
			if err != nil || !tt.verifies([]byte(token[:at]), signature) {
				t.Errorf("the signature of %s is not good, %v", token, err)
			}
		})
	}
}

func TestSetKeyRefuses(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"no PEM":        "-----BEGIN nothing",
		"no key":        string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})),
		"another curve": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	} {
		if err := new(Signer).SetKey(text); !errors.Is(err, parley.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
