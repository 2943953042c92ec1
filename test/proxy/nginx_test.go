package proxy_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parley-im/parley/test/require"
)

// certificate and key are those of 127.0.0.1, which this process trusts.
const (
	certificateFile = "certificate.pem"
	keyFile         = "key.pem"
)

// TestMain makes a certificate before anything reads which ones are trusted.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "parley-proxy-")
	if err == nil {
		err = makeCertificate(dir)
	}
	if err == nil {
		err = os.Setenv("SSL_CERT_FILE", filepath.Join(dir, certificateFile))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

func makeCertificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "parley test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{
		certificateFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// nginx is a running nginx.
type nginx struct {
	// URL is where it serves with TLS, plain where it does without.
	URL, plain string
}

// start starts nginx before a server at upstream, with the shipped file, in
// which only addresses and files are others, and what edits says.
func start(t *testing.T, upstream string, edits ...string) *nginx {
	t.Helper()
	binary := require.Program(t, "nginx", "nginx", "/usr/sbin/nginx")
	shipped, err := os.ReadFile("../../deploy/nginx/parley.conf")
	if err != nil {
		t.Fatal(err)
	}
	secure, plain := freeAddress(t), freeAddress(t)
	trusted := filepath.Dir(os.Getenv("SSL_CERT_FILE"))
	conf := string(shipped)
	edits = append([]string{
		"server 127.0.0.1:8080;", "server " + upstream + ";",
		"listen 80;", "listen " + plain + ";",
		"listen 443 ssl", "listen " + secure + " ssl",
		"/etc/letsencrypt/live/chat.example/fullchain.pem", filepath.Join(trusted, certificateFile),
		"/etc/letsencrypt/live/chat.example/privkey.pem", filepath.Join(trusted, keyFile),
	}, edits...)
	for i := 0; i < len(edits); i += 2 {
		if !strings.Contains(conf, edits[i]) {
			t.Fatalf("the shipped file has no %q", edits[i])
		}
		conf = strings.ReplaceAll(conf, edits[i], edits[i+1])
	}
	dir := t.TempDir()
	whole := "daemon off;\npid " + dir + "/pid;\nerror_log stderr warn;\nworker_processes 1;\nevents {}\nhttp {\naccess_log off;\n"
	if os.Getuid() == 0 {
		whole = "user root;\n" + whole // its files are ours
	}
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		whole += kind + "_temp_path " + dir + "/" + kind + ";\n"
	}
	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(whole+conf+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, exec.CommandContext(context.WithoutCancel(t.Context()), binary, "-p", dir, "-c", path, "-e", "stderr"), secure)
	return &nginx{URL: "https://" + secure, plain: "http://" + plain}
}

// run runs a program until the test ends, and waits until it listens.
func run(t *testing.T, program *exec.Cmd, address string) {
	t.Helper()
	var said bytes.Buffer
	program.Stdout, program.Stderr = &said, &said
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	ended := make(chan struct{})
	running.Go(func() {
		defer close(ended)
		_ = program.Wait()
	})
	t.Cleanup(func() {
		_ = program.Process.Signal(syscall.SIGTERM)
		running.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", program.Path, said.String())
		}
	})
	eventually(t, program.Path+" listens", func() bool {
		select {
		case <-ended:
			t.Fatalf("%s has ended:\n%s", program.Path, said.String())
		default:
		}
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// freeAddress is one of loopback that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// patience bounds every wait.
const patience = 30 * time.Second

// eventually polls a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
