package security_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley/server"
)

const tokenSecret = "0123456789abcdef0123456789abcdef"

// token makes a JWT with that header and those claims.
func token(t *testing.T, header, claims map[string]any, secret string) string {
	t.Helper()
	encode := func(v any) string {
		p, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(p)
	}
	signed := encode(header) + "." + encode(claims)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// TestTokens (S5): of the tokens that look like Ann's only the one that is, is.
// internal/auth has the long form.
func TestTokens(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(tokenSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, quiet, func(c *server.Config) {
		c.Access.Required = false // a key for tokens asks everybody, too
		c.Auth.Keys = []server.TokenKey{{File: file, TokenRules: server.TokenRules{
			Algorithms: []string{"HS256"}, Issuers: []string{"us"}, Audiences: []string{"parley"}, GrantsClaim: "grants",
		}}}
	})
	header := map[string]any{"alg": "HS256", "typ": "JWT"}
	claims := func(change func(map[string]any)) map[string]any {
		c := map[string]any{"sub": "ann", "iss": "us", "aud": "parley", "exp": time.Now().Add(time.Hour).Unix(), "grants": []string{"history:/a"}}
		if change != nil {
			change(c)
		}
		return c
	}
	good := token(t, header, claims(nil), tokenSecret)
	if got := w.ask(t, "GET /v1/messages/a", good, ""); got.status != http.StatusOK {
		t.Fatalf("a good token is answered %d %s", got.status, got.body)
	}
	if got := w.ask(t, "GET /v1/messages/b", good, ""); got.status != http.StatusForbidden {
		t.Errorf("beyond its grants it is answered %d %s", got.status, got.body)
	}
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	for name, bad := range map[string]string{
		"another secret":   token(t, header, claims(nil), strings.Repeat("x", 32)),
		"no signature":     parts[0] + "." + parts[1] + ".",
		"alg none":         none + "." + parts[1] + ".",
		"alg none, signed": none + "." + parts[1] + "." + parts[2],
		"other algorithm":  token(t, map[string]any{"alg": "HS512"}, claims(nil), tokenSecret),
		"critical":         token(t, map[string]any{"alg": "HS256", "crit": []string{"x"}, "x": 1}, claims(nil), tokenSecret),
		"expired":          token(t, header, claims(func(c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() }), tokenSecret),
		"for ever":         token(t, header, claims(func(c map[string]any) { delete(c, "exp") }), tokenSecret),
		"of no issuer":     token(t, header, claims(func(c map[string]any) { delete(c, "iss") }), tokenSecret),
		"of another":       token(t, header, claims(func(c map[string]any) { c["iss"] = "them" }), tokenSecret),
		"for nobody":       token(t, header, claims(func(c map[string]any) { delete(c, "aud") }), tokenSecret),
		"for others":       token(t, header, claims(func(c map[string]any) { c["aud"] = []string{"a", "b"} }), tokenSecret),
		"not yet":          token(t, header, claims(func(c map[string]any) { c["nbf"] = time.Now().Add(time.Hour).Unix() }), tokenSecret),
		"of nobody":        token(t, header, claims(func(c map[string]any) { delete(c, "sub") }), tokenSecret),
		"of a number":      token(t, header, claims(func(c map[string]any) { c["sub"] = 1 }), tokenSecret),
		"of a path":        token(t, header, claims(func(c map[string]any) { c["sub"] = "../bob" }), tokenSecret),
		"one changed":      parts[0] + "." + parts[1] + "A." + parts[2],
		"dots":             strings.Repeat(".", 5000),
		"nothing":          "..",
	} {
		for _, what := range []string{"GET /v1/messages/a", "HEAD /v1/subscribe/a", "GET /api/subscribers/a"} {
			if got := w.ask(t, what, bad, ""); got.status != http.StatusUnauthorized {
				t.Errorf("%s, %s: answered %d %s", name, what, got.status, got.body)
			}
		}
		if got := w.ask(t, "GET /v1/rpc", bad, "", upgradeHeaders()...); got.status != http.StatusUnauthorized {
			t.Errorf("%s, at a handshake: answered %d %s", name, got.status, got.body)
		}
		if got := ofTitan(t, w.titan(t, ""), `{"id":"s","method":"auth.jwt","params":{"token":`+quote(bad)+`}}`); got != unknown {
			t.Errorf("%s, to Titan: %s", name, got)
		}
	}
	// kid is a name of a key and nothing else.
	for _, kid := range []string{"../../etc/passwd", "http://evil.example/key", "' or 1=1 --", strings.Repeat("k", 4000)} {
		named := token(t, map[string]any{"alg": "HS256", "kid": kid, "jku": "http://127.0.0.1:1/", "jwk": map[string]any{"kty": "oct", "k": "eA"}}, claims(nil), strings.Repeat("x", 32))
		if got := w.ask(t, "GET /v1/messages/a", named, ""); got.status != http.StatusUnauthorized {
			t.Errorf("kid %.20s: answered %d %s", kid, got.status, got.body)
		}
	}
}

// TestConnectionsOfOneUser (S10, S11): a user has so many connections and no
// more, however they come in, and others are not in their way.
func TestConnectionsOfOneUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quiet, func(c *server.Config) { c.Access.PerUser = 2 })
	ann, bob := w.key(t, "ann", []string{"all:/a"}, "").Secret, w.key(t, "bob", []string{"all:/a"}, "").Secret
	first := w.rpc(t, ann)
	if m, err := first.call("ping", `{}`); err != nil || m.Error != nil {
		t.Fatalf("%+v, %v", m.Error, err)
	}
	second := w.rpc(t, "")
	if m, err := second.call("auth", `{"api_key":"`+ann+`"}`); err != nil || m.Error != nil {
		t.Fatalf("%+v, %v", m.Error, err)
	}
	third := w.rpc(t, "")
	if m, err := third.call("auth", `{"api_key":"`+ann+`"}`); err != nil || m.kind() != "unavailable" {
		t.Errorf("one too many is answered %+v, %v", m.Error, err)
	}
	if code, _ := w.rpc(t, ann).expectClose(); code != 1013 {
		t.Errorf("one too many by the handshake is closed with %d", code)
	}
	if m, err := w.rpc(t, bob).call("ping", `{}`); err != nil || m.Error != nil {
		t.Errorf("another user: %+v, %v", m.Error, err)
	}
	_ = first.conn.Close(1000, "")
	deadline := time.Now().Add(patience)
	for {
		c := w.rpc(t, ann)
		if m, err := c.call("ping", `{}`); err == nil && m.Error == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("there is no place again")
		}
	}
}
