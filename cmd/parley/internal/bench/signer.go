package bench

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/parley-im/parley"
)

// pointBytes is the length of each coordinate, and of each half of a signature, of
// ES256.
const pointBytes = 32

// Signer makes the tokens of the users of a load. Without a key users say their
// names, which a server in open mode believes.
type Signer struct {
	// KeyID, Issuer and Audience are the token's kid, iss and aud; empty leaves
	// one out.
	KeyID, Issuer, Audience string

	secret []byte        // of HS256
	key    crypto.Signer // of the others
	public jwk           // belongs to key
}

// jwk is a public key as it is published.
type jwk struct {
	Kty string `json:"kty"`
	Use string `json:"use"`
	Alg string `json:"alg"`
	Kid string `json:"kid,omitempty"`
	Crv string `json:"crv,omitempty"`
	X   string `json:"x,omitempty"`
	Y   string `json:"y,omitempty"`
	N   string `json:"n,omitempty"`
	E   string `json:"e,omitempty"`
}

// SetKey has tokens signed with a key: a private one in PEM (PKCS #8), for RS256,
// ES256 or EdDSA, as it happens to be; anything else is a secret for HS256. The
// error wraps parley.ErrInvalid and tells nothing of the key.
func (s *Signer) SetKey(text string) error {
	if !strings.HasPrefix(text, "-----BEGIN") {
		s.secret = []byte(text)
		return nil
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return fmt.Errorf("the key is not PEM: %w", parley.ErrInvalid)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return fmt.Errorf("the key is not a private one in PKCS #8, as \"openssl genpkey\" writes it: %w", parley.ErrInvalid)
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		s.key, s.public = k, jwk{Kty: "RSA", Alg: "RS256", N: encode(k.N.Bytes()), E: encode(big.NewInt(int64(k.E)).Bytes())}
	case *ecdsa.PrivateKey:
		point, err := k.PublicKey.Bytes()
		if err != nil || k.Curve.Params().BitSize != 8*pointBytes {
			return fmt.Errorf("the key is not of the curve P-256: %w", parley.ErrInvalid)
		}
		point = point[1:] // behind the form
		s.key, s.public = k, jwk{Kty: "EC", Alg: "ES256", Crv: "P-256", X: encode(point[:pointBytes]), Y: encode(point[pointBytes:])}
	case ed25519.PrivateKey:
		s.key, s.public = k, jwk{Kty: "OKP", Alg: "EdDSA", Crv: "Ed25519", X: encode(k[len(k)-ed25519.PublicKeySize:])}
	default:
		return fmt.Errorf("the key is not one for RS256, ES256 or EdDSA: %w", parley.ErrInvalid)
	}
	s.public.Use = "sig"
	return nil
}

// signs reports whether there is a key.
func (s *Signer) signs() bool { return s.secret != nil || s.key != nil }

// algorithm is the alg of tokens.
func (s *Signer) algorithm() string {
	if s.key == nil {
		return "HS256"
	}
	return s.public.Alg
}

func encode(p []byte) string { return base64.RawURLEncoding.EncodeToString(p) }

// token is one for a user, valid for an hour.
func (s *Signer) token(user string) (string, error) {
	header := map[string]string{"alg": s.algorithm(), "typ": "JWT"}
	if s.KeyID != "" {
		header["kid"] = s.KeyID
	}
	now := time.Now()
	claims := map[string]any{"sub": user, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "jti": rand.Text()}
	if s.Issuer != "" {
		claims["iss"] = s.Issuer
	}
	if s.Audience != "" {
		claims["aud"] = s.Audience
	}
	head, err := json.Marshal(header)
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed := encode(head) + "." + encode(body)
	signature, err := s.sign([]byte(signed))
	return signed + "." + encode(signature), err
}

// sign makes the signature of a token.
func (s *Signer) sign(text []byte) ([]byte, error) {
	digest := sha256.Sum256(text)
	switch key := s.key.(type) {
	case nil:
		mac := hmac.New(sha256.New, s.secret)
		mac.Write(text)
		return mac.Sum(nil), nil
	case *rsa.PrivateKey:
		return rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	case *ecdsa.PrivateKey:
		a, b, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			return nil, err
		}
		signature := make([]byte, 2*pointBytes)
		a.FillBytes(signature[:pointBytes])
		b.FillBytes(signature[pointBytes:])
		return signature, nil
	case ed25519.PrivateKey:
		return ed25519.Sign(key, text), nil
	}
	return nil, errors.New("no such key")
}

// authRequest shows who a user is.
func (s *Signer) authRequest(user string) ([]byte, error) {
	b := []byte(`{"jsonrpc":"2.0","id":"auth","method":"auth","params":{"device":"bench","`)
	if !s.signs() {
		return append(b, `user":"`+user+`"}}`...), nil
	}
	token, err := s.token(user)
	return append(b, `token":"`+token+`"}}`...), err
}
