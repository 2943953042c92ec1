package server_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley/server"
)

// writeCertificate makes a certificate for 127.0.0.1 with that serial number.
func writeCertificate(t *testing.T, files server.TLS, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "parley"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{files.Cert: {Type: "CERTIFICATE", Bytes: cert}, files.Key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		// A test may be faster than the file system's clock.
		changed := time.Unix(1_700_000_000+serial, 0)
		if err := os.Chtimes(name, changed, changed); err != nil {
			t.Fatal(err)
		}
	}
}

// secured is a configuration with TLS and files for it.
func secured(t *testing.T) server.Config {
	dir := t.TempDir()
	c := server.Default()
	c.HTTP.Listen, c.Storage.Kind = "", server.StorageMemory
	c.HTTP.TLS = server.TLS{Listen: "127.0.0.1:0", Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	c.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	writeCertificate(t, c.HTTP.TLS, 1)
	return c
}

// run starts a server until the test ends.
func run(t *testing.T, c server.Config) *server.Server {
	t.Helper()
	s, err := server.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return s
}

// handshake connects and returns the connection's state.
func handshake(s *server.Server, c *tls.Config) (tls.ConnectionState, error) {
	c.InsecureSkipVerify = true
	conn, err := tls.Dial("tcp", s.Addr().String(), c)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	return conn.ConnectionState(), nil
}

// TestTLS (S13): what is negotiated, and what is not.
func TestTLS(t *testing.T) {
	s := run(t, secured(t))
	if !strings.HasPrefix(s.URL(), "https://") {
		t.Errorf("the server's URL is %s", s.URL())
	}
	for name, tt := range map[string]struct {
		config *tls.Config
		good   bool
	}{
		"1.3":                  {&tls.Config{MinVersion: tls.VersionTLS13}, true},
		"1.2":                  {&tls.Config{MaxVersion: tls.VersionTLS12}, true},
		"1.1":                  {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
		"1.2, CBC":             {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA}}, false},
		"1.2, no ephemeral":    {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}, false},
		"another protocol":     {&tls.Config{NextProtos: []string{"h2"}}, false},
		"one of two protocols": {&tls.Config{NextProtos: []string{"h2", "http/1.1"}}, true},
	} {
		if _, err := handshake(s, tt.config); (err == nil) != tt.good {
			t.Errorf("%s: %v, want success to be %v", name, err, tt.good)
		}
	}

	conn, err := tls.Dial("tcp", s.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /v1/rpc HTTP/1.1\r\nHost: %s\r\nOrigin: https://%[1]s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", s.Addr())
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("a WebSocket over TLS is answered %d", resp.StatusCode)
	}

	plain, err := http.Get("http://" + s.Addr().String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = plain.Body.Close()
	if plain.StatusCode != http.StatusBadRequest {
		t.Errorf("plain HTTP on the port of TLS is answered %d", plain.StatusCode)
	}
}

// TestCertificateReload: new files are used at once, and wrong ones never.
func TestCertificateReload(t *testing.T) {
	c := secured(t)
	log := new(logbook)
	c.Logger = slog.New(slog.NewTextHandler(log, nil))
	s := run(t, c)
	serial := func() int64 {
		t.Helper()
		state, err := handshake(s, &tls.Config{})
		if err != nil {
			t.Fatal(err)
		}
		return state.PeerCertificates[0].SerialNumber.Int64()
	}
	look := func(why string, want int64) {
		t.Helper()
		log.take()
		if err := s.LookAtCertificate(t.Context()); (err == nil) != (why == "") {
			t.Errorf("looking at the files: %v", err)
		}
		if text := log.take(); !strings.Contains(text, why) {
			t.Errorf("the log does not say %q: %s", why, text)
		}
		if got := serial(); got != want {
			t.Errorf("the certificate is number %d, want %d", got, want)
		}
	}
	look("", 1)
	writeCertificate(t, c.HTTP.TLS, 2)
	look("", 2)
	writeCertificate(t, server.TLS{Cert: c.HTTP.TLS.Cert, Key: filepath.Join(t.TempDir(), "other.pem")}, 3)
	look("does not match", 2) // the key is still that of number 2
	writeCertificate(t, c.HTTP.TLS, 4)
	if err := os.Chmod(c.HTTP.TLS.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	look("mode 0644", 2)
	if err := os.Chmod(c.HTTP.TLS.Key, 0o640); err != nil {
		t.Fatal(err)
	}
	look("", 4)
	if err := os.Remove(c.HTTP.TLS.Cert); err != nil {
		t.Fatal(err)
	}
	look("no such file", 4)
}

// TestDevastatorCertificateReload: the certificate of that listener is read again
// with the others.
func TestDevastatorCertificateReload(t *testing.T) {
	dir, ca := authority(t)
	c := server.Default()
	c.HTTP.Listen, c.Storage.Kind = "127.0.0.1:0", server.StorageMemory
	c.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	devastator(t, dir, ca)(&c)
	s := run(t, c)
	serial := func() int64 {
		t.Helper()
		conn, err := tls.Dial("tcp", s.Devastator(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	writeCertificate(t, server.TLS{Cert: c.Titan.DevastatorCert, Key: c.Titan.DevastatorKey}, 7)
	if got := serial(); got == 7 {
		t.Error("the new certificate is used before it is read")
	}
	if _, err := s.Reload(c); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != 7 {
		t.Errorf("after a reload the certificate is number %d, want 7", got)
	}
}

// TestRedirect: beside TLS, plain HTTP is served on loopback and otherwise leads
// to TLS.
func TestRedirect(t *testing.T) {
	c := secured(t)
	c.HTTP.Listen = "127.0.0.1:0"
	if got := request(t, http.MethodGet, run(t, c).URL()+"/v1/rpc", nil); got.status != http.StatusBadRequest {
		t.Errorf("on loopback a route is answered %d, want that of the route", got.status)
	}

	c = secured(t)
	_, port, err := net.SplitHostPort(freePort(t))
	if err != nil {
		t.Fatal(err)
	}
	c.HTTP.Listen = ":" + port
	s := run(t, c)
	for path, want := range map[string]int{"/admin/readycheck": 200, "/admin/metrics": 308, "/v1/rpc?a=%2Fb": 308, "/": 308} {
		got := request(t, http.MethodGet, "http://127.0.0.1:"+port+path, nil)
		if got.status != want {
			t.Errorf("%s is answered %d, want %d", path, got.status, want)
		}
		if to := got.header.Get("Location"); want == 308 && to != "https://"+s.Addr().String()+path {
			t.Errorf("%s leads to %s", path, to)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestTLSFaults(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(*testing.T, *server.Config)
		want  string
	}{
		"no files":          {func(_ *testing.T, c *server.Config) { c.HTTP.TLS.Cert = "" }, "needs --tls-cert and --tls-key"},
		"no listener":       {func(_ *testing.T, c *server.Config) { c.HTTP.TLS.Listen, c.HTTP.Listen = "", "127.0.0.1:0" }, "not used without --https"},
		"nowhere":           {func(_ *testing.T, c *server.Config) { c.HTTP.TLS = server.TLS{} }, "nowhere to listen"},
		"wide":              {func(_ *testing.T, c *server.Config) { c.HTTP.TLS.Listen = ":0" }, "--open-to-network"},
		"missing file":      {func(_ *testing.T, c *server.Config) { c.HTTP.TLS.Cert += "x" }, "no such file"},
		"a key for all":     {func(t *testing.T, c *server.Config) { chmod(t, c.HTTP.TLS.Key, 0o644) }, "holds a secret and has mode 0644"},
		"not a pair":        {func(_ *testing.T, c *server.Config) { c.HTTP.TLS.Cert = c.HTTP.TLS.Key }, "certificate"},
		"port in use":       {func(t *testing.T, c *server.Config) { c.HTTP.Listen = busyPort(t) }, "address already in use"},
		"admin port in use": {func(t *testing.T, c *server.Config) { c.HTTP.Admin = busyPort(t) }, "address already in use"},
	} {
		t.Run(name, func(t *testing.T) {
			c := secured(t)
			tt.spoil(t, &c)
			if _, err := server.New(c); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %v, want one with %q", err, tt.want)
			}
		})
	}
}

func chmod(t *testing.T, name string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func busyPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}
