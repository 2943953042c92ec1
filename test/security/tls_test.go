package security_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley/internal/auth"
	"github.com/parley-im/parley/server/servertest"
)

// certificate is a new one of the CA, for what is asked.
func certificate(t *testing.T, ca *auth.CA, r auth.Request) tls.Certificate {
	t.Helper()
	made, err := ca.Issue(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(made.Certificate, made.Key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// selfSigned is a certificate that calls its holder Ann, by nobody's authority.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ann"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestCertificatesThatProveNobody (S5, S9): a certificate that has expired, is
// somebody's own, is not for clients, comes without its key, or has a long tail,
// makes nobody a user, and costs nobody else anything.
func TestCertificatesThatProveNobody(t *testing.T) {
	t.Parallel()
	dir, ca := servertest.NewAuthority(t)
	_, foreign := servertest.NewAuthority(t)
	w := newWorld(t, servertest.WithDevastator(t, dir, ca))
	operate(t, w, "POST", "/v1/users", `{"user":"ann"}`)
	bystander := w.devastator(t, servertest.Holding(t, ca, "ann"))
	bystander.ask(`{"id":"s","method":"auth.cert"}`, well)
	now := time.Now()
	good := certificate(t, ca, auth.Request{User: "ann", TTL: time.Hour, Now: now})
	longer := func(n int) tls.Certificate {
		c := good
		c.Certificate = append(slices.Clone(good.Certificate), slices.Repeat(good.Certificate[:1], n)...)
		return c
	}
	mixed := good
	mixed.Certificate = append(slices.Clone(selfSigned(t).Certificate), good.Certificate...)
	mixed.PrivateKey = selfSigned(t).PrivateKey
	cases := map[string]tls.Certificate{
		"expired":           certificate(t, ca, auth.Request{User: "ann", TTL: time.Minute, Now: now.Add(-time.Hour)}),
		"not yet":           certificate(t, ca, auth.Request{User: "ann", TTL: time.Hour, Now: now.Add(time.Hour)}),
		"one's own":         selfSigned(t),
		"another CA's":      certificate(t, foreign, auth.Request{User: "ann", TTL: time.Hour, Now: now}),
		"a server's":        certificate(t, ca, auth.Request{Hosts: []string{"ann"}, TTL: time.Hour, Now: now}),
		"without its key":   {Certificate: good.Certificate, PrivateKey: selfSigned(t).PrivateKey},
		"behind one's own":  mixed,
		"with a huge chain": longer(1000),
	}
	for name, bad := range cases {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			config := servertest.Holding(t, ca, "")
			config.MinVersion, config.MaxVersion = version, version
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &bad, nil }
			d := tls.Dialer{Config: config}
			conn, err := d.DialContext(t.Context(), "tcp", w.Devastator)
			if err == nil {
				said := `{"id":"s","method":"ping"}`
				_, _ = conn.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(said))), said...))
				_ = conn.SetReadDeadline(time.Now().Add(patience))
				told := make([]byte, 1<<10)
				n, err := conn.Read(told)
				if strings.Contains(string(told[:n]), `"result"`) || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s, %x: told %q, %v", name, version, told[:n], err)
				}
				_ = conn.Close()
			}
			bystander.ask(probe, well)
		}
	}
	// What may be odd, and is good: a tail that nobody needs, any name of the server, or none.
	for name, change := range map[string]func(*tls.Config){
		"a tail":       func(c *tls.Config) { c.Certificates = []tls.Certificate{longer(1)} },
		"no name":      func(c *tls.Config) { c.ServerName, c.InsecureSkipVerify = "", true },
		"another name": func(c *tls.Config) { c.ServerName, c.InsecureSkipVerify = "evil.example", true },
	} {
		config := servertest.Holding(t, ca, "ann")
		change(config)
		c := w.devastator(t, config)
		if err := c.say(probe); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if p, err := c.read(); err != nil || string(p) != well {
			t.Errorf("%s: %s, %v", name, p, err)
		}
	}
	w.Stop()
	if n := strings.Count(w.log.String(), `"kind":"failure"`); n > 2*len(cases) {
		t.Errorf("the log has %d failures", n)
	}
	if strings.Contains(w.log.String(), `"msg":"panic"`) {
		t.Error("there was a panic")
	}
}

// TestRecordsAreNoFrames: where TLS's records end says nothing about frames: many in
// one, and one in many, are read alike.
func TestRecordsAreNoFrames(t *testing.T) {
	t.Parallel()
	dir, ca := servertest.NewAuthority(t)
	w := newWorld(t, quiet, servertest.WithDevastator(t, dir, ca))
	operate(t, w, "POST", "/v1/users", `{"user":"ann"}`)
	frame := append(binary.LittleEndian.AppendUint32(nil, uint32(len(probe))), probe...)
	answer := append(binary.LittleEndian.AppendUint32(nil, uint32(len(well))), well...)
	config := servertest.Holding(t, ca, "ann")
	for cut := range frame { // a cut of 0 has both in one record
		d := tls.Dialer{Config: config}
		conn, err := d.DialContext(t.Context(), "tcp", w.Devastator)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		both := slices.Concat(frame, frame)
		for _, part := range [][]byte{both[:cut], both[cut:]} {
			if _, err := conn.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		got := make([]byte, 2*len(answer))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != string(answer)+string(answer) {
			t.Errorf("cut at %d: %q, %v", cut, got, err)
		}
		_ = conn.Close()
	}
}

// TestSlowClientHello (S10): who says the first words of TLS a byte at a time is
// not waited for, and is in nobody's way.
func TestSlowClientHello(t *testing.T) {
	t.Parallel()
	dir, ca := servertest.NewAuthority(t)
	w := newWorld(t, quiet, servertest.WithDevastator(t, dir, ca))
	operate(t, w, "POST", "/v1/users", `{"user":"ann"}`)
	bystander := w.devastator(t, servertest.Holding(t, ca, "ann"))
	bystander.ask(probe, well)
	const most = 15 * time.Second // of which the handshake has ten
	var slow sync.WaitGroup
	defer slow.Wait()
	for _, says := range [][2]string{{"", ""}, {"\x16\x03\x01\x40\x00", "\x01"}} {
		d := net.Dialer{}
		conn, err := d.DialContext(t.Context(), "tcp", w.Devastator)
		if err != nil {
			t.Fatal(err)
		}
		slow.Go(func() {
			if took, err := overSlowly(conn, bufio.NewReader(conn), []byte(says[0]), says[1]); err != nil || took > most {
				t.Errorf("who says %x is sent away after %v, %v", says, took, err)
			}
		})
	}
	bystander.ask(probe, well)
}
