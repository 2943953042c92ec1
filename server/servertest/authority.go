package servertest

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/parley-im/parley/internal/auth"
	"github.com/parley-im/parley/server"
)

// NewAuthority makes a CA in a directory of its own.
func NewAuthority(t testing.TB) (dir string, ca *auth.CA) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "ca")
	if err := auth.InitCA(dir, auth.Init{Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	ca, err := auth.OpenCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, ca
}

// WithDevastator serves Devastator's clients, with certificates of the CA in dir.
func WithDevastator(t testing.TB, dir string, ca *auth.CA) Option {
	t.Helper()
	made, err := ca.Issue(t.Context(), auth.Request{Hosts: []string{"127.0.0.1"}, TTL: time.Hour, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	cert, key := filepath.Join(at, "server.crt"), filepath.Join(at, "server.key")
	for name, text := range map[string][]byte{cert: made.Certificate, key: made.Key} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return func(c *server.Config) {
		c.Auth.CA = dir
		c.Titan.Devastator, c.Titan.DevastatorCert, c.Titan.DevastatorKey = "127.0.0.1:0", cert, key
	}
}

// Holding is how a client connects to a server of that CA with a new certificate
// of a user; nobody, the empty name, has none.
func Holding(t testing.TB, ca *auth.CA, user string) *tls.Config {
	t.Helper()
	config := &tls.Config{RootCAs: ca.Pool(), ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
	if user == "" {
		return config
	}
	made, err := ca.Issue(t.Context(), auth.Request{User: user, TTL: time.Hour, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(made.Certificate, made.Key)
	if err != nil {
		t.Fatal(err)
	}
	config.Certificates = []tls.Certificate{pair}
	return config
}
