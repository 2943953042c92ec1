package auth

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
)

// SignerFile is the name of the file in the store's directory with the key that
// this server signs tokens with.
const SignerFile = "token.key"

// maxTTL bounds how long an issued token or certificate holds.
const maxTTL = 10 * 366 * 24 * time.Hour

// Signer issues tokens with one key.
type Signer struct {
	id        string // the kid
	algorithm string
	private   any // []byte or ed25519.PrivateKey
	issuer    string
}

// NewSigner makes one from a secret of at least 32 bytes (HS256) or a PEM text
// with an Ed25519 PRIVATE KEY (EdDSA). Its tokens are issued by and for issuer;
// empty is "parley". The error wraps parley.ErrInvalid.
func NewSigner(key []byte, issuer string) (*Signer, error) {
	s := &Signer{issuer: issuer}
	if s.issuer == "" {
		s.issuer = "parley"
	}
	if block, _ := pem.Decode(key); block != nil {
		private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("auth: the signing key: %w: %w", err, parley.ErrInvalid)
		}
		ed, ok := private.(ed25519.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("auth: the signing key is a %T, and an Ed25519 key is needed: %w", private, parley.ErrInvalid)
		}
		s.useEd25519(ed)
		return s, nil
	}
	if err := fits(HS256, key, false); err != nil {
		return nil, fmt.Errorf("auth: the signing key: %w: %w", err, parley.ErrInvalid)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("the name of this key"))
	s.algorithm, s.private = HS256, append([]byte(nil), key...)
	s.id = hex.EncodeToString(mac.Sum(nil)[:8])
	return s, nil
}

// GenerateSigner makes one with a new key, which is lost when the process ends.
func GenerateSigner(issuer string) (*Signer, error) {
	text, err := generateKey()
	if err != nil {
		return nil, err
	}
	return NewSigner(text, issuer)
}

// OpenSigner makes one with the key in a directory, which is generated, with mode
// 0600, if there is none.
func OpenSigner(dir, issuer string) (*Signer, error) {
	name := filepath.Join(dir, SignerFile)
	text, err := ReadSecretFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		if text, err = generateKey(); err == nil {
			err = createFile(name, text, 0o600)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("auth: the signing key: %w", err)
	}
	return NewSigner(text, issuer)
}

func generateKey() ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func (s *Signer) useEd25519(private ed25519.PrivateKey) {
	sum := sha256.Sum256(private.Public().(ed25519.PublicKey))
	s.algorithm, s.private, s.id = EdDSA, private, hex.EncodeToString(sum[:8])
}

// key is what its tokens are checked with.
func (s *Signer) key() Key {
	k := Key{
		Name: "this server", ID: s.id, Algorithms: []string{s.algorithm},
		Rules: Rules{
			Issuers: []string{s.issuer}, Audiences: []string{s.issuer}, DeviceClaim: "device", GrantsClaim: "grants",
		},
	}
	if ed, ok := s.private.(ed25519.PrivateKey); ok {
		k.Public = ed.Public()
	} else {
		k.Secret = s.private.([]byte)
	}
	return k
}

// Issued is a new token.
type Issued struct {
	Token string
	// ID is its jti, by which it can be revoked.
	ID              string
	Issued, Expires time.Time
}

// Issue makes a token for a user, and for one device unless that is empty. It
// holds for ttl, which is at most ten years, and carries the grants. It does not
// look whether there is such a user. The error wraps parley.ErrInvalid, or
// parley.ErrUnavailable when there is no key to sign with.
func (a *Authenticator) Issue(user, device string, ttl time.Duration, grants []account.Grant) (Issued, error) {
	if a.signer == nil {
		return Issued{}, fmt.Errorf("auth: this server issues no tokens: %w", parley.ErrUnavailable)
	}
	return a.signer.issue(a.now(), user, device, ttl, grants)
}

func (s *Signer) issue(now time.Time, user, device string, ttl time.Duration, grants []account.Grant) (Issued, error) {
	user, err := parley.ParseUser(user)
	if err != nil {
		return Issued{}, err
	}
	if device != "" {
		if device, err = parley.ParseDevice(device); err != nil {
			return Issued{}, err
		}
	}
	switch {
	case ttl < time.Second || ttl > maxTTL:
		return Issued{}, fmt.Errorf("auth: a token holds for a second to ten years, not %s: %w", ttl, parley.ErrInvalid)
	case len(grants) > maxGrants:
		return Issued{}, fmt.Errorf("auth: a token holds at most %d grants: %w", maxGrants, parley.ErrInvalid)
	}
	made := Issued{ID: randomID(), Issued: now.Truncate(time.Second), Expires: now.Add(ttl).Truncate(time.Second)}
	payload := struct {
		Issuer   string   `json:"iss"`
		Audience string   `json:"aud"`
		Subject  string   `json:"sub"`
		Device   string   `json:"device,omitempty"`
		Grants   []string `json:"grants,omitempty"`
		ID       string   `json:"jti"`
		Issued   int64    `json:"iat"`
		Expires  int64    `json:"exp"`
	}{
		Issuer: s.issuer, Audience: s.issuer, Subject: user, Device: device,
		ID: made.ID, Issued: made.Issued.Unix(), Expires: made.Expires.Unix(),
	}
	for _, g := range grants {
		if _, err := account.ParseGrant(g.String()); err != nil {
			return Issued{}, err
		}
		payload.Grants = append(payload.Grants, g.String())
	}
	body, err := json.Marshal(payload)
	if err != nil {
		return Issued{}, fmt.Errorf("auth: the token cannot be written: %w", err)
	}
	head := fmt.Sprintf(`{"alg":%q,"typ":"JWT","kid":%q}`, s.algorithm, s.id)
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(head)) + "." + encode(body)
	signature, err := method(s.algorithm).Sign(signed, s.private)
	if err != nil {
		return Issued{}, fmt.Errorf("auth: the token cannot be signed: %w", err)
	}
	if made.Token = signed + "." + encode(signature); len(made.Token) > MaxTokenBytes {
		return Issued{}, fmt.Errorf("auth: the grants make the token larger than %d bytes: %w", MaxTokenBytes, parley.ErrInvalid)
	}
	return made, nil
}

// randomID is 128 random bits.
func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
