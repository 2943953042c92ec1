package auth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/auth"
	"github.com/parley-im/parley/internal/clock"
)

const (
	issuer   = "https://id.example"
	audience = "parley"
)

// watch is a clock that a test sets.
type watch struct {
	mu      sync.Mutex
	elapsed time.Duration
}

func start() time.Time { return time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC) }

func (w *watch) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.elapsed += d
}

func (w *watch) since() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.elapsed
}

func (w *watch) clock() *clock.Clock {
	return clock.New(clock.Options{
		Wall: func() time.Time { return start().Add(w.since()) }, Elapsed: w.since, Logger: slog.New(slog.DiscardHandler),
	})
}

// encode is base64 as tokens have it.
func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// mint signs a token whose header and claims are as given, right or wrong.
func mint(t testing.TB, header, claims, algorithm string, key any) string {
	t.Helper()
	text := encode([]byte(header)) + "." + encode([]byte(claims))
	return text + "." + encode(signature(t, text, algorithm, key))
}

func signature(t testing.TB, text, algorithm string, key any) []byte {
	t.Helper()
	sum := sha256.Sum256([]byte(text))
	var b []byte
	var err error
	switch algorithm {
	case "HS256", "HS384", "HS512":
		made := map[string]func() hash.Hash{"HS256": sha256.New, "HS384": sha512.New384, "HS512": sha512.New}[algorithm]
		mac := hmac.New(made, key.([]byte))
		mac.Write([]byte(text))
		return mac.Sum(nil)
	case "RS256":
		b, err = rsa.SignPKCS1v15(rand.Reader, key.(*rsa.PrivateKey), crypto.SHA256, sum[:])
	case "ES256":
		var r, s *big.Int
		r, s, err = ecdsa.Sign(rand.Reader, key.(*ecdsa.PrivateKey), sum[:])
		if err == nil {
			b = make([]byte, 64)
			r.FillBytes(b[:32])
			s.FillBytes(b[32:])
		}
	case "EdDSA":
		return ed25519.Sign(key.(ed25519.PrivateKey), []byte(text))
	default:
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// head is a usual header.
func head(algorithm, kid string) string {
	if kid == "" {
		return fmt.Sprintf(`{"alg":%q,"typ":"JWT"}`, algorithm)
	}
	return fmt.Sprintf(`{"alg":%q,"typ":"JWT","kid":%q}`, algorithm, kid)
}

// says are usual claims, changed and with null for those to leave out.
func says(changes map[string]any) string {
	now := start()
	claims := map[string]any{
		"iss": issuer, "aud": audience, "sub": "Ann", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "jti": "t1",
	}
	for name, value := range changes {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	text, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// keys are private keys of each kind, made once.
type keys struct {
	secret []byte
	rsa    *rsa.PrivateKey
	ecdsa  *ecdsa.PrivateKey
	ed     ed25519.PrivateKey
}

var newKeys = sync.OnceValue(func() *keys {
	k := &keys{secret: []byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")}
	var err1, err2, err3 error
	k.rsa, err1 = rsa.GenerateKey(rand.Reader, 2048)
	k.ecdsa, err2 = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, k.ed, err3 = ed25519.GenerateKey(rand.Reader)
	if err := errors.Join(err1, err2, err3); err != nil {
		panic(err)
	}
	return k
})

func rules() auth.Rules {
	return auth.Rules{Issuers: []string{issuer}, Audiences: []string{audience}, DeviceClaim: "device", GrantsClaim: "grants"}
}

// all are one key of each algorithm, each with a kid.
func (k *keys) all() []auth.Key {
	return []auth.Key{
		{Name: "hs", ID: "hs", Algorithms: []string{"HS256"}, Secret: k.secret, Rules: rules()},
		{Name: "hs384", ID: "hs384", Algorithms: []string{"HS384"}, Secret: k.secret, Rules: rules()},
		{Name: "hs512", ID: "hs512", Algorithms: []string{"HS512"}, Secret: k.secret, Rules: rules()},
		{Name: "rs", ID: "rs", Algorithms: []string{"RS256"}, Public: k.rsa.Public(), Rules: rules()},
		{Name: "es", ID: "es", Algorithms: []string{"ES256"}, Public: k.ecdsa.Public(), Rules: rules()},
		{Name: "ed", ID: "ed", Algorithms: []string{"EdDSA"}, Public: k.ed.Public(), Rules: rules()},
	}
}

// newAuth makes an authenticator; what cfg lacks is filled in.
func newAuth(t testing.TB, cfg auth.Config) *auth.Authenticator {
	t.Helper()
	if cfg.Clock == nil {
		cfg.Clock = new(watch).clock()
	}
	if cfg.Directory == nil {
		cfg.Directory = newDirectory(t)
	}
	a, err := auth.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// running runs an authenticator until the test ends.
func running(t testing.TB, a *auth.Authenticator) *auth.Authenticator {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { _ = a.Run(ctx) })
	t.Cleanup(func() { stop(); done.Wait() })
	return a
}

func token(secret string) account.Credential {
	return account.Credential{Kind: account.Token, Secret: secret}
}

// refused checks that an error is a refusal that tells the client nothing, and
// returns the reason.
func refused(t testing.TB, err error) string {
	t.Helper()
	e, ok := errors.AsType[*auth.Error](err)
	if !ok || !errors.Is(err, parley.ErrUnauthenticated) {
		t.Errorf("the error is %v, want a refusal", err)
		return ""
	}
	if got, want := err.Error(), "the credential is not accepted: unauthenticated"; got != want {
		t.Errorf("the client is told %q, want %q", got, want)
	}
	if e.Reason == "" || len(e.Reason) > 300 {
		t.Errorf("the reason is %q", e.Reason)
	}
	return e.Reason
}
