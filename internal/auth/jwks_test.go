package auth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/auth"
)

// publisher serves a set of keys, or whatever a test wants instead.
type publisher struct {
	*httptest.Server

	fetches atomic.Int64
	answer  atomic.Pointer[http.HandlerFunc]
}

func newPublisher(t testing.TB, keys ...map[string]any) *publisher {
	t.Helper()
	p := new(publisher)
	p.publish(keys...)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.fetches.Add(1)
		(*p.answer.Load())(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *publisher) serve(f http.HandlerFunc) { p.answer.Store(&f) }

func (p *publisher) publish(keys ...map[string]any) {
	text, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		panic(err)
	}
	p.serve(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=600")
		_, _ = w.Write(text)
	})
}

// jwk writes a public key.
func jwk(kid string, key crypto.PublicKey) map[string]any {
	m := map[string]any{"kid": kid, "use": "sig"}
	switch k := key.(type) {
	case *rsa.PublicKey:
		m["kty"], m["alg"] = "RSA", "RS256"
		m["n"], m["e"] = encode(k.N.Bytes()), encode(big.NewInt(int64(k.E)).Bytes())
	case *ecdsa.PublicKey:
		b, err := k.Bytes()
		if err != nil {
			panic(err)
		}
		m["kty"], m["crv"], m["x"], m["y"] = "EC", "P-256", encode(b[1:33]), encode(b[33:])
	case ed25519.PublicKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", encode(k)
	}
	return m
}

func keySet(at string) auth.KeySet {
	return auth.KeySet{Name: "id", URL: at, Algorithms: []string{"RS256", "ES256", "EdDSA"}, Rules: rules()}
}

// withSets runs an authenticator that fetches keys from there.
func withSets(t testing.TB, w *watch, sets ...auth.KeySet) *auth.Authenticator {
	t.Helper()
	return running(t, newAuth(t, auth.Config{Clock: w.clock(), Sets: sets, Reach: auth.Reach{Private: true}}))
}

// TestKeySets: a published key of each kind verifies, with and without a kid.
func TestKeySets(t *testing.T) {
	k := newKeys()
	p := newPublisher(t, jwk("r", k.rsa.Public()), jwk("e", k.ecdsa.Public()), jwk("d", k.ed.Public()))
	a := withSets(t, new(watch), keySet(p.URL))
	for kid, with := range map[string]struct {
		algorithm string
		key       any
	}{"r": {"RS256", k.rsa}, "e": {"ES256", k.ecdsa}, "d": {"EdDSA", k.ed}} {
		for _, kid := range []string{kid, ""} {
			login, err := a.Verify(t.Context(), token(mint(t, head(with.algorithm, kid), says(nil), with.algorithm, with.key)))
			if err != nil || login.Principal.User != "ann" {
				t.Errorf("%s with kid %q: %v", with.algorithm, kid, err)
			}
		}
	}
	if n := p.fetches.Load(); n != 1 {
		t.Errorf("the keys were fetched %d times, want once", n)
	}
}

// TestKeySetStorm: however many come at once, before the keys are there, these are
// fetched once.
func TestKeySetStorm(t *testing.T) {
	k := newKeys()
	p := newPublisher(t, jwk("e", k.ecdsa.Public()))
	publish := *p.answer.Load()
	gate := make(chan struct{})
	p.serve(func(w http.ResponseWriter, r *http.Request) { <-gate; publish(w, r) })
	a := withSets(t, new(watch), keySet(p.URL))
	const clients = 5000
	texts := make([]string, 50)
	for i := range texts {
		texts[i] = mint(t, head("ES256", "e"), says(map[string]any{"sub": fmt.Sprint("user", i)}), "ES256", k.ecdsa)
	}
	var storm sync.WaitGroup
	var failed atomic.Int64
	for i := range clients {
		storm.Go(func() {
			if i == clients/2 {
				close(gate)
			}
			if _, err := a.Verify(t.Context(), token(texts[i%len(texts)])); err != nil {
				failed.Add(1)
			}
		})
	}
	storm.Wait()
	if failed.Load() != 0 || p.fetches.Load() != 1 {
		t.Errorf("%d of %d failed, and the keys were fetched %d times, want once", failed.Load(), clients, p.fetches.Load())
	}
}

// TestKeyRotation: an unknown kid has the keys fetched again, at most once a
// minute; and a key that is withdrawn is not believed for what is remembered.
func TestKeyRotation(t *testing.T) {
	k := newKeys()
	w := new(watch)
	p := newPublisher(t, jwk("1", k.ecdsa.Public()))
	a := withSets(t, w, keySet(p.URL))
	first := mint(t, head("ES256", "1"), says(nil), "ES256", k.ecdsa)
	second := mint(t, head("EdDSA", "2"), says(nil), "EdDSA", k.ed)
	verify := func(text string, ok bool, fetches int64) {
		t.Helper()
		if _, err := a.Verify(t.Context(), token(text)); (err == nil) != ok {
			t.Errorf("verifying says %v", err)
		}
		if n := p.fetches.Load(); n != fetches {
			t.Errorf("the keys were fetched %d times, want %d", n, fetches)
		}
	}
	verify(first, true, 1)
	p.publish(jwk("2", k.ed.Public()))
	verify(second, false, 1) // too early
	w.advance(time.Minute)
	verify(second, true, 2)
	verify(first, false, 2)
	for i := range 100 {
		verify(mint(t, head("EdDSA", fmt.Sprint("guess", i)), says(nil), "EdDSA", k.ed), false, 2)
	}
	w.advance(time.Minute)
	for i := range 100 {
		verify(mint(t, head("EdDSA", fmt.Sprint("guess", i)), says(nil), "EdDSA", k.ed), false, 3)
	}
	// An algorithm that the issuer does not have asks for nothing.
	w.advance(time.Minute)
	verify(mint(t, head("HS256", "x"), says(nil), "HS256", k.secret), false, 3)
}

// TestIssuerDown: keys outlive their issuer for a while, and not for ever; and
// with none the client is told to come back, not that its token is wrong.
func TestIssuerDown(t *testing.T) {
	k := newKeys()
	w := new(watch)
	p := newPublisher(t, jwk("1", k.ecdsa.Public()))
	a := withSets(t, w, keySet(p.URL))
	verify := func() error {
		text := mint(t, head("ES256", "1"), says(map[string]any{"exp": start().Add(time.Hour * 1000).Unix()}), "ES256", k.ecdsa)
		_, err := a.Verify(t.Context(), token(text))
		return err
	}
	if err := verify(); err != nil {
		t.Fatal(err)
	}
	p.serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	w.advance(auth.MaxStale)
	if err := verify(); err != nil {
		t.Errorf("with old keys: %v", err)
	}
	w.advance(11 * time.Minute)
	err := verify()
	if e, ok := errors.AsType[*auth.Error](err); !ok || !errors.Is(err, parley.ErrUnavailable) || errors.Is(err, parley.ErrUnauthenticated) {
		t.Errorf("with keys that are too old: %v, %+v", err, e)
	}
	p.publish(jwk("1", k.ecdsa.Public()))
	w.advance(time.Minute)
	if err := verify(); err != nil {
		t.Errorf("when it is back: %v", err)
	}
}

// TestOneIssuerDown: one that does not answer is not waited for by another's
// clients.
func TestOneIssuerDown(t *testing.T) {
	k := newKeys()
	stuck := newPublisher(t)
	gate := make(chan struct{})
	stuck.serve(func(http.ResponseWriter, *http.Request) { <-gate })
	t.Cleanup(func() { close(gate) })
	up := newPublisher(t, jwk("1", k.ecdsa.Public()))
	other := keySet(stuck.URL)
	other.Issuers = []string{"https://other.example"}
	a := withSets(t, new(watch), other, keySet(up.URL))
	text := mint(t, head("ES256", "1"), says(nil), "ES256", k.ecdsa)
	began := time.Now()
	_, err := a.Verify(t.Context(), token(text))
	if took := time.Since(began); err != nil || took > 5*time.Second {
		t.Errorf("%v after %v", err, took)
	}
}

// TestBadKeySets: what an issuer may serve and is not taken.
func TestBadKeySets(t *testing.T) {
	t.Parallel()
	k := newKeys()
	good := jwk("1", k.ecdsa.Public())
	write := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) }
	}
	set := func(keys ...map[string]any) http.HandlerFunc {
		text, err := json.Marshal(map[string]any{"keys": keys})
		if err != nil {
			t.Fatal(err)
		}
		return write(string(text))
	}
	changed := func(name string, value any) map[string]any {
		m := map[string]any{}
		maps.Copy(m, good)
		m[name] = value
		return m
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := newPublisher(t, good)
	many := make([]map[string]any, 65)
	for i := range many {
		many[i] = good
	}
	for name, answer := range map[string]http.HandlerFunc{
		"no JSON":    write("<html>"),
		"nothing":    write(""),
		"no keys":    set(),
		"keys twice": write(`{"keys":[],"keys":[]}`),
		"too many":   set(many...),
		"too large":  write(`{"keys":[` + strings.Repeat(" ", 300<<10) + `]}`),
		"an error with it": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			set(good)(w, r)
		},
		"elsewhere":        func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) },
		"for encryption":   set(changed("use", "enc")),
		"another alg":      set(changed("alg", "ES384")),
		"symmetric":        set(map[string]any{"kty": "oct", "kid": "1", "k": encode(k.secret), "alg": "HS256"}),
		"off the curve":    set(changed("x", encode(make([]byte, 32)))),
		"another curve":    set(changed("crv", "P-224")),
		"a short point":    set(changed("x", encode(p224.X.Bytes()))),
		"a small RSA key":  set(map[string]any{"kty": "RSA", "kid": "1", "n": encode(make([]byte, 64)), "e": "AQAB"}),
		"a huge RSA key":   set(map[string]any{"kty": "RSA", "kid": "1", "n": encode([]byte(strings.Repeat("\xff", 4000))), "e": "AQAB"}),
		"an even exponent": set(map[string]any{"kty": "RSA", "kid": "1", "n": encode(k.rsa.N.Bytes()), "e": "Ag"}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPublisher(t)
			p.serve(answer)
			a := withSets(t, new(watch), keySet(p.URL))
			_, err := a.Verify(t.Context(), token(mint(t, head("ES256", "1"), says(nil), "ES256", k.ecdsa)))
			if !errors.Is(err, parley.ErrUnavailable) {
				t.Errorf("the error is %v", err)
			}
			if name == "elsewhere" && elsewhere.fetches.Load() != 0 {
				t.Error("it follows to another place")
			}
		})
	}
}

// TestOddKeySets: keys of other kinds beside a good one do not matter.
func TestOddKeySets(t *testing.T) {
	k := newKeys()
	p := newPublisher(t,
		map[string]any{"kty": "EC", "crv": "secp256k1", "kid": "9", "x": "AA", "y": "AA", "x5c": []string{"AA"}},
		map[string]any{"kty": "new", "kid": "8", "stuff": map[string]int{"a": 1}},
		jwk("1", k.ecdsa.Public()))
	a := withSets(t, new(watch), keySet(p.URL))
	if _, err := a.Verify(t.Context(), token(mint(t, head("ES256", "1"), says(nil), "ES256", k.ecdsa))); err != nil {
		t.Error(err)
	}
	// The confusion of a public key with a secret, with what is published.
	b, err := k.ecdsa.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Verify(t.Context(), token(mint(t, head("HS256", "1"), says(nil), "HS256", b))); err == nil {
		t.Error("HS256 with the published key is accepted")
	}
}

// TestKeySetURLs: which are accepted in the configuration.
func TestKeySetURLs(t *testing.T) {
	for at, private := range map[string]bool{
		"http://id.example/keys": false, "http://192.168.1.1/keys": true, "ftp://id.example/": true, "file:///etc/passwd": true, "": true, "https://": true,
		"https://user:pass@id.example/": true, "https://id.example/#x": true, "http://localhost/": false, "//id.example/keys": true, "https:id.example": true,
	} {
		_, err := auth.New(auth.Config{Clock: new(watch).clock(), Sets: []auth.KeySet{keySet(at)}, Reach: auth.Reach{Private: private}})
		if !errors.Is(err, parley.ErrInvalid) {
			t.Errorf("%q: %v", at, err)
		}
	}
	for name, change := range map[string]func(*auth.KeySet){
		"legacy": func(s *auth.KeySet) { s.Legacy = true }, "HMAC": func(s *auth.KeySet) { s.Algorithms = []string{"HS256"} },
		"no algorithm": func(s *auth.KeySet) { s.Algorithms = nil }, "no issuer": func(s *auth.KeySet) { s.Issuers = nil },
	} {
		set := keySet("https://id.example/keys")
		change(&set)
		if _, err := auth.New(auth.Config{Clock: new(watch).clock(), Sets: []auth.KeySet{set}}); !errors.Is(err, parley.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNotRunning: who comes before the keys can be fetched waits only as long as
// they want, and nobody waits when they will not be any more.
func TestNotRunning(t *testing.T) {
	a := newAuth(t, auth.Config{Sets: []auth.KeySet{keySet("https://id.example/keys")}})
	text := mint(t, head("ES256", "1"), says(nil), "ES256", newKeys().ecdsa)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Verify(over, token(text)); !errors.Is(err, parley.ErrUnavailable) {
		t.Errorf("before it runs: %v", err)
	}
	if err := a.Run(over); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Verify(t.Context(), token(text)); !errors.Is(err, parley.ErrUnavailable) {
		t.Errorf("after it ran: %v", err)
	}
}
