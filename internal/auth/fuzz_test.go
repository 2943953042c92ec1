package auth_test

import (
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/auth"
)

// FuzzToken: no token panics, none is accepted that nobody signed, and every
// refusal is one.
func FuzzToken(f *testing.F) {
	k := newKeys()
	a := newAuth(f, auth.Config{Keys: k.all()})
	good := mint(f, head("HS256", "hs"), says(nil), "HS256", k.secret)
	for _, s := range []string{
		good, good[:len(good)-1], "..", "a.b.c", encode([]byte(`{"alg":"none"}`)) + ".e30.", strings.Repeat(".", 100),
		encode([]byte(`{"alg":"ES256","kid":"es"}`)) + ".e30." + encode(make([]byte, 64)),
		encode([]byte(`{"alg":"RS256","kid":"rs","crit":[]}`)) + ".e30.AA", encode([]byte(`{"alg":"EdDSA","kid":"ed"}`)) + ".e30." + encode(make([]byte, 64)),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_, err := a.Verify(t.Context(), token(s))
		if err == nil && s != good {
			t.Errorf("%q is accepted", s)
		}
		if err != nil {
			refused(t, err)
		}
	})
}

// FuzzClaims: whatever a key signs, what is accepted has a valid user and has not
// expired.
func FuzzClaims(f *testing.F) {
	k := newKeys()
	a := newAuth(f, auth.Config{Keys: k.all()})
	f.Add(head("HS256", "hs"), says(nil))
	f.Add(head("HS256", "hs"), says(map[string]any{"grants": []string{"publish:/a"}, "device": "x", "aud": []string{"a", audience}, "nbf": 1}))
	f.Add(`{"alg":"HS256","kid":"hs","typ":"at+jwt","cty":""}`, `{"exp":1e3}`)
	f.Fuzz(func(t *testing.T, header, claims string) {
		login, err := a.Verify(t.Context(), token(mint(t, header, claims, "HS256", k.secret)))
		if err != nil {
			refused(t, err)
			return
		}
		p := login.Principal
		if user, err := parley.ParseUser(p.User); err != nil || user != p.User || !p.Expires.After(start()) || p.Open {
			t.Errorf("%q is accepted as %+v", claims, p)
		}
	})
}

// FuzzKeySet: no answer of an issuer panics, and no key comes of it that does not
// fit its algorithm.
func FuzzKeySet(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"AA","y":"AA"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","kid":"1","n":"` + strings.Repeat("_", 400) + `","e":"AQAB"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"` + strings.Repeat("A", 43) + `"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if n, err := auth.ParseSet(text); (err == nil) != (n > 0) {
			t.Errorf("%d keys and %v", n, err)
		}
	})
}

// FuzzCertificate: no certificate panics, and none is accepted but the CA's own.
func FuzzCertificate(f *testing.F) {
	c := newCA(f, false)
	a := newAuth(f, auth.Config{CA: c})
	_, good := made(f, c, auth.Request{User: "ann"})
	_, server := made(f, c, auth.Request{Hosts: []string{"chat.example"}})
	f.Add(good)
	f.Add(server)
	f.Add([]byte{0x30, 0x82})
	f.Fuzz(func(t *testing.T, der []byte) {
		_, err := a.Verify(t.Context(), account.Credential{Kind: account.Certificate, Certificate: der})
		if err == nil && string(der) != string(good) {
			t.Errorf("%x is accepted", der)
		}
		if err != nil && !errors.Is(err, parley.ErrUnauthenticated) {
			t.Error(err)
		}
	})
}

// FuzzPublicKey: no PEM text panics.
func FuzzPublicKey(f *testing.F) {
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte{0x30}}))
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{0x30}}))
	f.Fuzz(func(t *testing.T, text []byte) {
		if key, err := auth.ParsePublicKey(text); (err == nil) != (key != nil) {
			t.Errorf("%v and %v", key, err)
		}
	})
}
