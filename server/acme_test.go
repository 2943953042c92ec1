package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/auth"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/test/require"
)

// acmeServer is a real ACME server, Pebble, for which every name is this machine.
type acmeServer struct {
	directory, ca string
}

// buildPebble builds it.
func buildPebble(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "pebble")
	out, err := exec.Command("go", "build", "-modfile=../tools/go.mod", "-o", name, "github.com/letsencrypt/pebble/v2/cmd/pebble").CombinedOutput()
	if err != nil {
		require.Missing(t, "pebble", fmt.Sprintf("%v: %s", err, out))
	}
	return name
}

// startAuthority starts one that answers challenges on those ports.
func startAuthority(t *testing.T, program string, httpPort, tlsPort int) *acmeServer {
	t.Helper()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca")
	if err := auth.InitCA(ca, auth.Init{Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	own, err := auth.OpenCA(ca)
	if err != nil {
		t.Fatal(err)
	}
	made, err := own.Issue(t.Context(), auth.Request{Hosts: []string{"127.0.0.1"}, TTL: time.Hour, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	a := &acmeServer{ca: filepath.Join(ca, auth.RootFile)}
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	listen := fmt.Sprintf("127.0.0.1:%d", port(t))
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": "", "certificate": cert, "privateKey": key,
		"httpPort": httpPort, "tlsPort": tlsPort, "retryAfter": map[string]int{"authz": 1, "order": 1}, "keyAlgorithm": "ecdsa",
		"profiles": map[string]any{"default": map[string]any{"description": "usual", "validityPeriod": 7776000}},
	}})
	if err := errors.Join(err, os.WriteFile(cert, made.Certificate, 0o600), os.WriteFile(key, made.Key, 0o600),
		os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600)); err != nil {
		t.Fatal(err)
	}
	log := new(logbook)
	cmd := exec.Command(program, "-config", filepath.Join(dir, "config.json"), "-dnsserver", nameServer(t))
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0", "PEBBLE_AUTHZREUSE=0")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("pebble says:\n%s", log.take())
		}
	})
	a.directory = "https://" + listen + "/dir"
	root, err := os.ReadFile(a.ca)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	eventually(t, "the authority is ready", func() bool {
		resp, err := client.Get(a.directory)
		if err != nil {
			return false
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
	return a
}

func port(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// nameServer answers every question for an address with this machine, over TCP.
func nameServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			var size [2]byte
			if _, err := io.ReadFull(conn, size[:]); err == nil {
				query := make([]byte, binary.BigEndian.Uint16(size[:]))
				if _, err := io.ReadFull(conn, query); err == nil {
					reply := addressOf(query)
					_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
				}
			}
			_ = conn.Close()
		}
	})
	return l.Addr().String()
}

// addressOf is the answer to a DNS query: 127.0.0.1, or nothing.
func addressOf(query []byte) []byte {
	end := 12 + bytes.IndexByte(query[12:], 0) + 5
	reply := append([]byte(nil), query[:end]...)
	copy(reply[2:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0})
	if reply[end-3] == 1 { // for A
		reply[7] = 1
		reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1)
	}
	return reply
}

// TestACME: certificates come by both challenges, are there for the first client,
// and are used again after a restart.
func TestACME(t *testing.T) {
	if testing.Short() {
		t.Skip("runs an authority")
	}
	program := buildPebble(t)
	for name, overHTTP := range map[string]bool{"over TLS": false, "over HTTP": true} {
		t.Run(name, func(t *testing.T) {
			httpPort, tlsPort := port(t), port(t)
			seenHTTP, seenTLS := httpPort, tlsPort
			if overHTTP {
				seenTLS = port(t) // nobody answers there
			}
			a := startAuthority(t, program, seenHTTP, seenTLS)
			dir := filepath.Join(t.TempDir(), "data")
			book := new(logbook)
			var log strings.Builder
			config := func() server.Config {
				c := server.Default()
				c.HTTP.Listen, c.HTTP.OpenToNetwork = fmt.Sprintf("127.0.0.1:%d", httpPort), true
				c.HTTP.TLS.Listen = fmt.Sprintf("127.0.0.1:%d", tlsPort)
				c.HTTP.TLS.ACME = server.ACME{Domains: []string{"chat.example", "www.chat.example"}, Email: "ann@chat.example", Directory: a.directory, CA: a.ca}
				c.Storage = server.Storage{Kind: server.StorageFile, Path: dir}
				c.Logger = slog.New(slog.NewTextHandler(book, nil))
				return c
			}
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("the server says:\n%s", log.String()+book.take())
				}
			})
			var serials []string
			for start := range 2 {
				stop := started(t, config())
				eventually(t, "certificates are there", func() bool {
					log.WriteString(book.take())
					return strings.Count(log.String(), "certificates are there") > start
				})
				for _, host := range []string{"chat.example", "WWW.chat.example", ""} {
					conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", tlsPort), &tls.Config{ServerName: host, InsecureSkipVerify: true})
					if err != nil {
						t.Fatalf("start %d, %q: %v", start, host, err)
					}
					leaf := conn.ConnectionState().PeerCertificates[0]
					conn.Close()
					want := strings.ToLower(host)
					if want == "" {
						want = "chat.example"
					}
					if err := leaf.VerifyHostname(want); err != nil {
						t.Errorf("%q: %v", host, err)
					}
					serials = append(serials, leaf.SerialNumber.String())
				}
				if _, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", tlsPort), &tls.Config{ServerName: "evil.example", InsecureSkipVerify: true}); err == nil {
					t.Error("there is a certificate for any name")
				}
				stop()
			}
			if serials[0] != serials[3] || serials[1] != serials[4] || serials[0] == serials[1] {
				t.Errorf("after a restart they are others: %v", serials)
			}
			entries, err := os.ReadDir(filepath.Join(dir, "acme"))
			if err != nil || len(entries) < 3 {
				t.Fatalf("kept are %v, %v", entries, err)
			}
			for _, e := range entries {
				if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%s has mode %v, %v", e.Name(), info.Mode(), err)
				}
			}
		})
	}
}

// started runs a server until the returned function is called.
func started(t *testing.T, c server.Config) (stop func()) {
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
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	return stop
}

// TestACMEDown: without an authority the server runs, says why, and asks again
// later only.
func TestACMEDown(t *testing.T) {
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	writeCertificate(t, server.TLS{Cert: ca, Key: filepath.Join(dir, "key.pem")}, 1)
	asked := make(chan struct{}, 100)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			asked <- struct{}{}
			_ = conn.Close()
		}
	})
	c := server.Default()
	c.HTTP.Listen, c.HTTP.TLS.Listen = "", "127.0.0.1:0"
	c.HTTP.TLS.ACME = server.ACME{Domains: []string{"chat.example"}, Directory: "https://" + l.Addr().String() + "/dir", CA: ca}
	c.Storage.Path = filepath.Join(dir, "data")
	book := new(logbook)
	c.Logger = slog.New(slog.NewTextHandler(book, nil))
	s := run(t, c)
	var log strings.Builder
	eventually(t, "the failure is logged", func() bool {
		log.WriteString(book.take())
		return strings.Contains(log.String(), "cannot get a certificate")
	})
	before := len(asked)
	for range 20 {
		if _, err := handshake(s, &tls.Config{ServerName: "chat.example"}); err == nil {
			t.Error("there is a certificate")
		}
	}
	if after := len(asked); after != before || before == 0 {
		t.Errorf("the authority was asked %d times, and %d times after the failure", before, after-before)
	}
}

// TestACMESettings: what does not go together is refused.
func TestACMESettings(t *testing.T) {
	dir := t.TempDir()
	pair := server.TLS{Cert: filepath.Join(dir, "c.pem"), Key: filepath.Join(dir, "k.pem")}
	writeCertificate(t, pair, 1)
	junk := filepath.Join(dir, "junk")
	if err := os.WriteFile(junk, pem.EncodeToMemory(&pem.Block{Type: "JUNK"}), 0o600); err != nil {
		t.Fatal(err)
	}
	one := func(values ...string) map[string][]string {
		flags := map[string][]string{"https": {"127.0.0.1:0"}}
		for i := 0; i < len(values); i += 2 {
			flags[values[i]] = append(flags[values[i]], values[i+1])
		}
		return flags
	}
	for name, tt := range map[string]struct {
		flags map[string][]string
		err   string
	}{
		"good":             {one("acme-domain", "chat.example", "acme-domain", "www.chat.example", "acme-email", "a@chat.example"), ""},
		"with files":       {one("acme-domain", "chat.example", "tls-cert", pair.Cert, "tls-key", pair.Key), "one of them"},
		"in memory":        {one("acme-domain", "chat.example", "ms", "memory"), "store on disk"},
		"records on disk":  {one("acme-domain", "chat.example", "ms", "memory", "kvs", "file"), ""},
		"no TLS":           {map[string][]string{"acme-domain": {"chat.example"}}, "--https"},
		"no domain":        {one("acme-email", "a@chat.example", "tls-cert", pair.Cert, "tls-key", pair.Key), "acme-domain"},
		"an address":       {one("acme-domain", "127.0.0.1"), "is no such name"},
		"one label":        {one("acme-domain", "localhost"), "is no such name"},
		"capitals":         {one("acme-domain", "Chat.example"), "is no such name"},
		"a wildcard":       {one("acme-domain", "*.chat.example"), "is no such name"},
		"a path":           {one("acme-domain", "chat.example/x"), "is no such name"},
		"a plain URL":      {one("acme-domain", "chat.example", "acme-directory", "http://ca.example"), "is none"},
		"nothing at all":   {one(), "or --acme-domain"},
		"two dots":         {one("acme-domain", "chat..example"), "is no such name"},
		"ends with a dash": {one("acme-domain", "chat.example-"), "is no such name"},
	} {
		_, err := server.Load(server.Sources{Flags: tt.flags})
		if tt.err == "" && err != nil || tt.err != "" && (!errors.Is(err, parley.ErrInvalid) || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: %v, want an error with %q", name, err, tt.err)
		}
	}
	c := server.Default()
	c.HTTP.TLS.Listen, c.HTTP.TLS.ACME = "127.0.0.1:0", server.ACME{Domains: []string{"chat.example"}, CA: junk}
	c.Storage.Path, c.Logger = filepath.Join(dir, "data"), slog.New(slog.DiscardHandler)
	if _, err := server.New(c); !errors.Is(err, parley.ErrInvalid) || !strings.Contains(err.Error(), "acme-ca") {
		t.Errorf("with junk for acme-ca: %v", err)
	}
}
