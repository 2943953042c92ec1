package server_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/auth"
	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/server"
)

// hs256 signs a token.
func hs256(secret, claims string) string {
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode([]byte(claims))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(text))
	return text + "." + encode(mac.Sum(nil))
}

// reply is what a server answers to who shows that, over TLS.
func reply(t *testing.T, s *server.Server, c *tls.Config, method, path, bearer, body string) (int, string) { //nolint:revive // a request has many parts
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestIdentities: who has a token of a configured key, a token of the server's
// own, or a certificate of its CA is let in, and until it is revoked.
func TestIdentities(t *testing.T) {
	dir := t.TempDir()
	secret, ca := filepath.Join(dir, "secret"), filepath.Join(dir, "ca")
	if err := os.WriteFile(secret, []byte(longSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := auth.InitCA(ca, auth.Init{Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	opened, err := auth.OpenCA(ca)
	if err != nil {
		t.Fatal(err)
	}
	cfg := secured(t)
	cfg.Auth.CA = ca
	cfg.Auth.Keys = []server.TokenKey{{File: secret, TokenRules: server.TokenRules{
		Name: "test", Algorithms: []string{"HS256"}, Issuers: []string{"https://id.example"}, Audiences: []string{"parley"}, GrantsClaim: "grants",
	}}}
	grant, err := account.ParseGrant("publish,history:/open/*")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Access.Grants = []account.Grant{grant}
	s := run(t, cfg)
	plain := &tls.Config{InsecureSkipVerify: true}
	eventually(t, "the server is ready", func() bool {
		status, _ := reply(t, s, plain, http.MethodGet, "/admin/readycheck", "", "")
		return status == http.StatusOK
	})
	claims := func(rest string) string {
		return fmt.Sprintf(`{"iss":"https://id.example","aud":"parley","sub":"root","iat":%d,"exp":%d%s}`, time.Now().Unix(), time.Now().Add(time.Hour).Unix(), rest)
	}
	const publish = "/v1/messages/open/a"
	root := hs256(longSecret, claims(`,"grants":["admin:/*","publish:/open/*"]`))
	user := hs256(longSecret, claims(""))
	if status, body := reply(t, s, plain, http.MethodPost, publish, root, `{"a":1}`); status/100 != 2 {
		t.Fatalf("publishing is answered %d %s", status, body)
	}
	for name, tt := range map[string]struct {
		token string
		want  int
	}{
		"nobody": {"", 401}, "another secret": {hs256("x", claims("")), 401}, "no exp": {hs256(longSecret, `{"iss":"https://id.example","aud":"parley","sub":"ann"}`), 401},
		"a user": {user, 200}, "junk": {"junk", 401},
	} {
		if status, body := reply(t, s, plain, http.MethodGet, publish, tt.token, ""); status != tt.want {
			t.Errorf("%s is answered %d %s", name, status, body)
		} else if status == 401 && strings.Contains(body, "expired") {
			t.Errorf("%s learns why: %s", name, body)
		}
	}

	// A token of the server's own, from a route, and its end.
	status, body := reply(t, s, plain, http.MethodPost, "/v1/users/bob/tokens", root, `{"ttl":"1h"}`)
	var made struct{ ID, Token string }
	if err := json.Unmarshal([]byte(body), &made); status != http.StatusCreated || err != nil {
		t.Fatalf("a token is answered %d %s", status, body)
	}
	if status, body := reply(t, s, plain, http.MethodGet, publish, made.Token, ""); status != 200 {
		t.Errorf("the new token is answered %d %s", status, body)
	}

	// A certificate, from a route and from the files.
	status, body = reply(t, s, plain, http.MethodPost, "/v1/certificates", root, `{"user":"bob","ttl":"1h"}`)
	var issued struct{ Serial, PEM, Key string }
	if err := json.Unmarshal([]byte(body), &issued); status != http.StatusCreated || err != nil {
		t.Fatalf("a certificate is answered %d %s", status, body)
	}
	offline, err := opened.Issue(t.Context(), auth.Request{User: "carol", TTL: time.Hour, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	host, err := opened.Issue(t.Context(), auth.Request{Hosts: []string{"chat.example"}, TTL: time.Hour, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	with := func(cert, key string) *tls.Config {
		pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}
	}
	bob := with(issued.PEM, issued.Key)
	for name, tt := range map[string]struct {
		config *tls.Config
		want   int
	}{
		"of the route": {bob, 200}, "of the files": {with(string(offline.Certificate), string(offline.Key)), 200},
		"a server's": {with(string(host.Certificate), string(host.Key)), 401},
	} {
		if status, body := reply(t, s, tt.config, http.MethodGet, publish, "", ""); status != tt.want {
			t.Errorf("a certificate %s is answered %d %s", name, status, body)
		}
	}
	// The same by the native protocol: shown again on the connection that began with
	// it, and where there was none, nothing that a client says makes up for it.
	certified, err := client.Dial(t.Context(), s.URL(), client.Options{TLS: bob})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = certified.Close() }()
	if me, err := certified.WhoAmI(t.Context()); err != nil || me.User != "bob" || me.Device != issued.Serial {
		t.Errorf("by the certificate it is %+v, %v", me, err)
	}
	bare, err := wire.DialTLS(t.Context(), s.URL()+"/v1/rpc", nil, plain)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = bare.Close(wire.CloseNormal, "") }()
	if err := bare.Write(bare.AppendFrame(nil, true, []byte(`{"jsonrpc":"2.0","id":1,"method":"auth","params":{"certificate":true}}`))); err != nil {
		t.Fatal(err)
	}
	if frames, err := bare.Read(); err != nil || !strings.Contains(string(frames[0].Payload), `"kind":"unauthenticated"`) {
		t.Errorf("without a certificate it is %v, %v", frames, err)
	}
	for _, path := range []string{"/v1/certificates/" + issued.Serial, "/v1/tokens/" + made.ID} {
		if status, body := reply(t, s, plain, http.MethodDelete, path, root, ""); status != 200 {
			t.Errorf("revoking %s is answered %d %s", path, status, body)
		}
	}
	if status, body := reply(t, s, bob, http.MethodGet, publish, "", ""); status != 401 {
		t.Errorf("the revoked certificate is answered %d %s", status, body)
	}
	if status, body := reply(t, s, plain, http.MethodGet, publish, made.Token, ""); status != 401 {
		t.Errorf("the revoked token is answered %d %s", status, body)
	}
}
