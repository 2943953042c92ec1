package server_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/auth"
	"github.com/parley-im/parley/server"
)

const longSecret = "0123456789abcdef0123456789abcdef"

// TestAuthSettings: what each may say, and that it reads as it is written.
func TestAuthSettings(t *testing.T) {
	for flag, tt := range map[string]struct{ good, bad []string }{
		"jwt-key": {
			good: []string{
				"alg=HS256,iss=https://id.example,aud=parley,file=/run/secret",
				"name=ours,alg=RS256,iss=a,iss=b,aud=c,aud=d,user=uid,device=dev,grants=scope,kid=2026,file=/etc/key.pem",
				"alg=HS256,alg=HS384,alg=HS512,user=userid,env=PASS,legacy",
			},
			bad: []string{
				"", "alg=HS256", "alg=HS256,file=x", "alg=HS256,iss=a,aud=b", "alg=HS256,iss=a,aud=b,file=x,env=Y", "alg=none,iss=a,aud=b,file=x",
				"alg=HS256,iss=a,aud=b,file=x,file=y", "alg=HS256,iss=a,aud=b,file=x,secret=hunter2", "iss=a,aud=b,file=x", "alg=HS256,iss=a,aud=b,file=",
				"alg=HS256,legacy=yes,file=x", "alg=HS256,iss=a b,aud=b,file=x", "alg=HS256,iss=a,aud=b,env=PARLEY_SECRET", "alg,iss=a,aud=b,file=x",
			},
		},
		"jwks": {
			good: []string{"alg=RS256,iss=https://id.example,aud=parley,url=https://id.example/keys"},
			bad:  []string{"url=https://id.example/keys", "alg=RS256,iss=a,aud=b", "alg=RS256,iss=a,aud=b,url=https://x,legacy"},
		},
		"oidc": {
			good: []string{"name=id,iss=https://id.example,aud=a,aud=b", "name=id,iss=https://id.example,aud=a,alg=ES256,jwks=https://id.example/keys"},
			bad:  []string{"name=id", "name=id,iss=https://id.example", "iss=https://id.example,aud=a", "name=id,iss=x,aud=a,alg=XS256"},
		},
		"google-client": {good: []string{"123.apps.googleusercontent.com"}, bad: []string{"", "a,b"}},
		"token-ttl":     {good: []string{"1d"}, bad: []string{"1s", "-1h", "forever"}},
	} {
		for _, value := range tt.good {
			src := server.Sources{Flags: map[string][]string{flag: {value}}}
			cfg, err := server.Load(src)
			if err != nil {
				t.Errorf("%s %q: %v", flag, value, err)
				continue
			}
			if flag != "token-ttl" && !cfg.Auth.Configured() {
				t.Errorf("%s %q: nobody has to show a credential", flag, value)
			}
			if text, err := server.Effective(src); err != nil || flag != "token-ttl" && !strings.Contains(text, value) {
				t.Errorf("%s %q is shown otherwise, %v", flag, value, err)
			}
		}
		for _, value := range tt.bad {
			if _, err := server.Load(server.Sources{Flags: map[string][]string{flag: {value}}}); !errors.Is(err, parley.ErrInvalid) {
				t.Errorf("%s %q: %v", flag, value, err)
			}
		}
	}
	plain := server.Default()
	if plain.Auth.Configured() {
		t.Error("everybody is asked for a credential by default")
	}
}

// TestAuthFiles: what a start would refuse of the files, it says, and no secret
// with it.
func TestAuthFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return name
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err1 := x509.MarshalPKIXPublicKey(public)
	secret, err2 := x509.MarshalPKCS8PrivateKey(private)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	publicPEM := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	privatePEM := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	ca := filepath.Join(dir, "ca")
	if err := auth.InitCA(ca, auth.Init{Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TEST_JWT_SECRET", "short-hunter2")
	const rest = ",iss=https://id.example,aud=parley"
	with := map[string]map[string]string{ // what a setting is nothing without
		"devastator-cert": {"devastator-listen": "127.0.0.1:0", "devastator-key": dir + "/none.key", "ca-dir": ca},
		"redis-ca":        {"texto": "/v1/texto", "redis-url": "rediss://127.0.0.1:1"},
		"acme-ca":         {"https": "127.0.0.1:0", "acme-domain": "chat.example"},
	}
	for name, tt := range map[string]struct{ flag, value, err string }{
		"no certificate":        {"devastator-cert", dir + "/none.crt", "none.crt"},
		"a CA of Redis":         {"redis-ca", ca + "/root.crt", ""},
		"no CA of Redis":        {"redis-ca", write("signing5", privatePEM, 0o600), "redis-ca"},
		"a CA of ACME":          {"acme-ca", ca + "/root.crt", ""},
		"no CA of ACME":         {"acme-ca", dir + "/none", "acme-ca"},
		"a secret":              {"jwt-key", "alg=HS256,file=" + write("secret", longSecret+"\n", 0o600) + rest, ""},
		"a public key":          {"jwt-key", "alg=EdDSA,file=" + write("public", publicPEM, 0o644) + rest, ""},
		"an open secret":        {"jwt-key", "alg=HS256,file=" + write("open", longSecret, 0o644) + rest, "mode 0644"},
		"a short secret":        {"jwt-key", "alg=HS256,file=" + write("short", "hunter2", 0o600) + rest, "32 or more"},
		"a short variable":      {"jwt-key", "alg=HS256,env=TEST_JWT_SECRET" + rest, "32 or more"},
		"a legacy variable":     {"jwt-key", "alg=HS256,env=TEST_JWT_SECRET,legacy", ""},
		"no variable":           {"jwt-key", "alg=HS256,env=TEST_NO_SUCH" + rest, "TEST_NO_SUCH"},
		"no file":               {"jwt-key", "alg=HS256,file=" + dir + "/none" + rest, "none"},
		"a directory":           {"jwt-key", "alg=EdDSA,file=" + dir + rest, "directory"},
		"the public key secret": {"jwt-key", "alg=HS256,file=" + write("confused", publicPEM, 0o600) + rest, "PEM"},
		"a private key":         {"jwt-key", "alg=EdDSA,file=" + write("private", privatePEM, 0o600) + rest, "PUBLIC KEY is needed"},
		"another algorithm":     {"jwt-key", "alg=RS256,file=" + write("public2", publicPEM, 0o644) + rest, "EdDSA"},
		"a signing key":         {"token-key", write("signing", privatePEM, 0o600), ""},
		"a signing secret":      {"token-key", write("signing2", longSecret+"\n", 0o600), ""},
		"an open signing key":   {"token-key", write("signing3", privatePEM, 0o644), "mode 0644"},
		"a public signing key":  {"token-key", write("signing4", publicPEM, 0o600), "signing key"},
		"a CA":                  {"ca-dir", ca, ""},
		"no CA":                 {"ca-dir", dir, "root.crt"},
		"plain HTTP":            {"jwks", "alg=RS256,url=http://id.example/keys" + rest, "https"},
		"a provider":            {"oidc", "name=id,iss=https://id.example,aud=a", ""},
		"a provider inside":     {"oidc", "name=id,iss=http://127.0.0.1:1,aud=a", "https"},
	} {
		flags := map[string][]string{tt.flag: {tt.value}}
		for key, value := range with[tt.flag] {
			flags[key] = []string{value}
		}
		err := server.CheckSources(server.Sources{Flags: flags})
		if tt.err == "" && err != nil || tt.err != "" && (!errors.Is(err, parley.ErrInvalid) || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: %v, want an error with %q", name, err, tt.err)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), longSecret)) {
			t.Errorf("%s: the secret is shown: %v", name, err)
		}
	}
}

// TestSigningKey (S25): the key for the server's own tokens is made once, closed to
// others, and used again.
func TestSigningKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	var tokens []string
	for range 2 {
		cfg := server.Default()
		cfg.HTTP.Listen, cfg.Storage.Path, cfg.Access.Required = "127.0.0.1:0", dir, true
		cfg.Logger = slog.New(slog.DiscardHandler)
		s, err := server.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		made, err := s.Issuer().Issue("ann", "", time.Hour, nil)
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, made.Token[:strings.IndexByte(made.Token, '.')])
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Run(over); err != nil {
			t.Fatal(err)
		}
	}
	if tokens[0] != tokens[1] {
		t.Errorf("the key was made anew: %v", tokens)
	}
	info, err := os.Stat(filepath.Join(dir, auth.SignerFile))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the key's mode is %v, %v", info, err)
	}
}
