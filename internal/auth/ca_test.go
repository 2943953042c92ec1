package auth_test

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/auth"
	"github.com/parley-im/parley/test/require"
)

// caDir is a directory with a new CA.
func caDir(t testing.TB, ofRSA bool) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	if err := auth.InitCA(dir, auth.Init{RSA: ofRSA, Now: start()}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func newCA(t testing.TB, ofRSA bool) *auth.CA {
	t.Helper()
	c, err := auth.OpenCA(caDir(t, ofRSA))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// made issues a certificate, of which a test wants the DER.
func made(t testing.TB, c *auth.CA, r auth.Request) (*auth.Made, []byte) {
	t.Helper()
	if r.Now.IsZero() {
		r.Now = start()
	}
	if r.TTL == 0 {
		r.TTL = time.Hour
	}
	m, err := c.Issue(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(m.Certificate)
	return m, block.Bytes
}

// TestCA: what it issues it accepts, of whatever kind of key.
func TestCA(t *testing.T) {
	for _, ofRSA := range []bool{false, true} {
		c := newCA(t, ofRSA)
		m, der := made(t, c, auth.Request{User: "Ann", RSA: ofRSA})
		h, err := c.Verify(der, start())
		if err != nil {
			t.Fatal(err)
		}
		if h.User != "ann" || h.Device != m.Record.Serial || h.Serial != m.Record.Serial || len(h.Serial) != 32 || m.Record.User != "ann" {
			t.Errorf("the holder is %+v, the record %+v", h, m.Record)
		}
		if !h.Issued.Equal(start()) || !h.Expires.Equal(start().Add(time.Hour)) {
			t.Errorf("it holds from %v to %v", h.Issued, h.Expires)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if key, ok := cert.PublicKey.(*rsa.PublicKey); ok != ofRSA || ok && key.N.BitLen() != 3072 {
			t.Errorf("the key is %T", cert.PublicKey)
		}
		if len(cert.DNSNames)+len(cert.IPAddresses) != 0 || len(cert.ExtKeyUsage) != 1 || cert.Subject.String() != "CN=ann" || !cert.BasicConstraintsValid {
			t.Errorf("the certificate is of %s for %v", cert.Subject, cert.ExtKeyUsage)
		}
		renewed, err := c.Renew(t.Context(), m.Certificate, auth.Request{TTL: time.Hour, Now: start().Add(100 * time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(renewed.Certificate)
		again, err := c.Verify(block.Bytes, start().Add(100*time.Hour))
		if err != nil || again.User != "ann" || again.Device != h.Device || again.Serial == h.Serial || again.Serial != renewed.Record.Serial {
			t.Errorf("the renewed one is of %+v, %v", again, err)
		}
		block, _ = pem.Decode(renewed.Certificate)
		twice, err := c.Renew(t.Context(), pem.EncodeToMemory(block), auth.Request{TTL: time.Hour, Now: start()})
		if err != nil || twice.Record.Serial == renewed.Record.Serial {
			t.Errorf("renewed twice: %v", err)
		}
	}
}

// TestCARefuses: certificates that prove nobody.
func TestCARefuses(t *testing.T) {
	c, other := newCA(t, false), newCA(t, false)
	_, good := made(t, c, auth.Request{User: "ann"})
	_, foreign := made(t, other, auth.Request{User: "ann"})
	_, server := made(t, c, auth.Request{Hosts: []string{"chat.example", "192.0.2.7"}})
	broken := append([]byte(nil), good...)
	broken[len(broken)-5] ^= 1
	for name, tt := range map[string]struct {
		der    []byte
		at     time.Time
		reason string
	}{
		"expired":           {good, start().Add(time.Hour + time.Second), "expired"},
		"not yet":           {good, start().Add(-time.Second), "expired, or is not valid yet"},
		"of another":        {foreign, start(), "authority"},
		"of a server":       {server, start(), "not a client's"},
		"changed":           {broken, start(), ""},
		"nothing":           {nil, start(), "no certificate"},
		"garbage":           {[]byte("garbage"), start(), "read"},
		"too large":         {make([]byte, 20<<10), start(), "bytes"},
		"something after":   {append(append([]byte(nil), good...), 0), start(), "read"},
		"the intermediate":  {readDER(t, c, auth.IntermediateFile), start(), ""},
		"the root's, whole": {readDER(t, c, auth.RootFile), start(), ""},
	} {
		_, err := c.Verify(tt.der, tt.at)
		if !errors.Is(err, parley.ErrUnauthenticated) || !strings.Contains(err.Error(), tt.reason) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, r := range map[string]auth.Request{
		"no user": {TTL: time.Hour}, "a slash": {User: "a/b", TTL: time.Hour}, "too long": {User: strings.Repeat("a", 65), TTL: time.Hour},
		"no time": {User: "ann"}, "for ever": {User: "ann", TTL: 1 << 62}, "no host": {Hosts: []string{""}, TTL: time.Hour}, "a bad device": {User: "ann", Device: "a b", TTL: time.Hour},
	} {
		r.Now = start()
		if _, err := c.Issue(t.Context(), r); !errors.Is(err, parley.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := c.Renew(t.Context(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: foreign}), auth.Request{TTL: time.Hour, Now: start()}); !errors.Is(err, parley.ErrInvalid) {
		t.Errorf("renewing another's: %v", err)
	}
	m, _ := made(t, c, auth.Request{User: "ann", TTL: 9 * 366 * 24 * time.Hour, Now: start().Add(5 * 366 * 24 * time.Hour)})
	if m.Record.Expires.After(c.Expires()) {
		t.Errorf("it outlives the CA: %v", m.Record.Expires)
	}
}

// readDER is one of the CA's own certificates.
func readDER(t testing.TB, c *auth.CA, name string) []byte {
	t.Helper()
	for _, cert := range auth.Chain(c) {
		if (name == auth.RootFile) == (cert.CheckSignatureFrom(cert) == nil) {
			return cert.Raw
		}
	}
	t.Fatal("there is no such certificate")
	return nil
}

// TestCAFiles (S25): they are closed to others, never overwritten, and read only
// when they fit together.
func TestCAFiles(t *testing.T) {
	dir := caDir(t, false)
	if err := auth.InitCA(dir, auth.Init{Now: start()}); !errors.Is(err, parley.ErrConflict) {
		t.Errorf("a second time: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 4 {
		t.Fatalf("there are %v, %v", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory has mode %v, %v", info.Mode(), err)
	}
	if err := os.Remove(filepath.Join(dir, auth.RootKeyFile)); err != nil {
		t.Fatal(err)
	}
	if c, err := auth.OpenCA(dir); err != nil || !c.Issues() {
		t.Errorf("without the root's key: %v", err)
	}
	key := filepath.Join(dir, auth.IntermediateKeyFile)
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.OpenCA(dir); !errors.Is(err, parley.ErrInvalid) || !strings.Contains(err.Error(), "0644") {
		t.Errorf("with an open key: %v", err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	c, err := auth.OpenCA(dir)
	if err != nil || c.Issues() {
		t.Errorf("without the key: %v", err)
	}
	if _, err := c.Issue(t.Context(), auth.Request{User: "ann", TTL: time.Hour, Now: start()}); !errors.Is(err, parley.ErrUnavailable) {
		t.Errorf("issuing without the key: %v", err)
	}
	other := caDir(t, false)
	for _, name := range []string{auth.IntermediateKeyFile, auth.IntermediateFile} {
		text, err := os.ReadFile(filepath.Join(other, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := auth.OpenCA(dir); !errors.Is(err, parley.ErrInvalid) {
			t.Errorf("with %s of another: %v", name, err)
		}
	}
	if _, err := auth.OpenCA(t.TempDir()); err == nil {
		t.Error("an empty directory is a CA")
	}
}

// TestHandshakes: Go's TLS between a server and clients with certificates of the
// CA, in both versions.
func TestHandshakes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	now := time.Now() // that of TLS
	if err := auth.InitCA(dir, auth.Init{RSA: true, Now: now}); err != nil {
		t.Fatal(err)
	}
	c, err := auth.OpenCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	server, _ := made(t, c, auth.Request{Hosts: []string{"127.0.0.1", "chat.example"}, Now: now})
	ann, _ := made(t, c, auth.Request{User: "ann", RSA: true, Now: now})
	bob, _ := made(t, newCA(t, false), auth.Request{User: "bob", Now: now})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
			Certificates: []tls.Certificate{pair(t, server)}, ClientCAs: c.Pool(), ClientAuth: tls.VerifyClientCertIfGiven,
			MinVersion: version, MaxVersion: version,
		})
		if err != nil {
			t.Fatal(err)
		}
		var serving sync.WaitGroup
		serving.Go(func() { answerNames(l, c) })
		dial := func(name string, certificates ...tls.Certificate) (string, error) {
			d := &tls.Dialer{Config: &tls.Config{RootCAs: c.Pool(), ServerName: name, Certificates: certificates, MinVersion: tls.VersionTLS12}}
			made, err := d.DialContext(context.Background(), "tcp", l.Addr().String())
			if err != nil {
				return "", err
			}
			defer func() { _ = made.Close() }()
			b, err := io.ReadAll(made)
			return string(b), err
		}
		if name, err := dial("chat.example", pair(t, ann)); err != nil || name != "ann" {
			t.Errorf("%x: ann is %q, %v", version, name, err)
		}
		if name, err := dial("127.0.0.1"); err != nil || name != "nobody" {
			t.Errorf("%x: without a certificate %q, %v", version, name, err)
		}
		if name, err := dial("chat.example", pair(t, server)); err != nil || name != "nobody" {
			t.Errorf("%x: with the server's certificate %q, %v", version, name, err)
		}
		if _, err := dial("evil.example"); err == nil {
			t.Errorf("%x: the server has any name", version)
		}
		forced := pair(t, bob)
		if name, err := dial("chat.example", forced); err == nil && name != "nobody" {
			t.Errorf("%x: another CA's certificate is %q", version, name)
		}
		_ = l.Close()
		serving.Wait()
	}
}

// answerNames tells each client who it is, as far as its certificate says.
func answerNames(l net.Listener, c *auth.CA) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		secure := conn.(*tls.Conn)
		if secure.Handshake() == nil {
			name := "nobody"
			if given := secure.ConnectionState().PeerCertificates; len(given) > 0 {
				if h, err := c.Verify(given[0].Raw, time.Now()); err == nil {
					name = h.User
				}
			}
			_, _ = io.WriteString(secure, name)
		}
		_ = secure.Close()
	}
}

func pair(t testing.TB, m *auth.Made) tls.Certificate {
	t.Helper()
	p, err := tls.X509KeyPair(m.Certificate, m.Key)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestOpenSSL: another program reads the files and verifies the chain.
func TestOpenSSL(t *testing.T) {
	openssl := require.Program(t, "openssl", "openssl")
	dir := filepath.Join(t.TempDir(), "ca")
	now := time.Now()
	if err := auth.InitCA(dir, auth.Init{RSA: true, Now: now}); err != nil {
		t.Fatal(err)
	}
	c, err := auth.OpenCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	client, _ := made(t, c, auth.Request{User: "ann", RSA: true, Now: now})
	server, _ := made(t, c, auth.Request{Hosts: []string{"chat.example"}, Now: now})
	write := func(name string, text []byte) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), openssl, args...).CombinedOutput()
		if err != nil {
			t.Errorf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	root, intermediate := filepath.Join(dir, auth.RootFile), filepath.Join(dir, auth.IntermediateFile)
	cert, key := write("ann.crt", client.Certificate), write("ann.key", client.Key)
	run("verify", "-purpose", "sslclient", "-CAfile", root, "-untrusted", intermediate, cert)
	run("verify", "-purpose", "sslserver", "-verify_hostname", "chat.example", "-CAfile", root, "-untrusted", intermediate, write("server.crt", server.Certificate))
	run("verify", "-partial_chain", "-CAfile", intermediate, cert)
	run("rsa", "-in", key, "-check", "-noout")
	text := run("x509", "-in", cert, "-noout", "-text", "-subject", "-serial")
	for _, want := range []string{"CN = ann", "serial=" + strings.ToUpper(client.Record.Serial), "Public-Key: (3072 bit)", "TLS Web Client Authentication", "CA:FALSE", "sha256WithRSAEncryption"} {
		if !strings.Contains(text, want) && !strings.Contains(text, strings.ReplaceAll(want, " = ", "=")) {
			t.Errorf("openssl does not say %q:\n%s", want, text)
		}
	}
}
