package server_test

import (
	"crypto/x509"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// TestTitanEnds (S4): when a token or a certificate is revoked, or its user shut
// out, live connections that were begun with it end within five seconds, and the
// credential begins no other.
func TestTitanEnds(t *testing.T) {
	dir, ca := authority(t)
	for name, end := range map[string]struct{ titan, devastator string }{
		"revoked":             {"DELETE /v1/tokens/TOKEN", "DELETE /v1/certificates/SERIAL"},
		"all of the user's":   {"DELETE /v1/users/ann/tokens", "DELETE /v1/users/bob/tokens"},
		"suspended":           {`PATCH /v1/users/ann {"suspended":true}`, `PATCH /v1/users/bob {"suspended":true}`},
		"deleted":             {"DELETE /v1/users/ann", "DELETE /v1/users/bob"},
		"the token's own end": {"", "DELETE /v1/users/bob"},
	} {
		t.Run(name, func(t *testing.T) {
			s := servertest.Start(t, devastator(t, dir, ca))
			operate := func(what string) string {
				t.Helper()
				method, rest, _ := strings.Cut(what, " ")
				path, body, _ := strings.Cut(rest, " ")
				got := request(t, method, s.URL+path, withBody("application/json", body))
				if got.status/100 != 2 {
					t.Fatalf("%s is answered %d %s", what, got.status, got.body)
				}
				return got.body
			}
			operate(`POST /v1/users {"user":"ann"}`)
			operate(`POST /v1/users {"user":"bob"}`)
			issue := `POST /v1/users/ann/tokens {"ttl":"1h"}`
			if end.titan == "" {
				issue = `POST /v1/users/ann/tokens {"ttl":"2s"}`
			}
			made := operate(issue)
			authenticate := `{"id":"j","method":"auth.jwt","params":{"token":"` + member(t, made, "token") + `"}}`
			ann := titanAt(t, s)
			ann.ask(authenticate)
			ann.want(`{"id":"j","result":"ACK"}`)
			config := holding(t, ca, "bob")
			bob := dialLength(t, s.Devastator, config)
			say(t, bob, true, `{"id":"r","method":"msg.recv"}`)
			leaf, err := x509.ParseCertificate(config.Certificates[0].Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			if end.titan != "" {
				operate(strings.Replace(end.titan, "TOKEN", member(t, made, "id"), 1))
			}
			operate(strings.Replace(end.devastator, "SERIAL", fmt.Sprintf("%x", leaf.SerialNumber), 1))
			began := time.Now()
			for who, c := range map[string]wire.Conn{"Titan": ann, "Devastator": bob} {
				stop := time.AfterFunc(20*time.Second, func() { _ = c.Close(wire.CloseNormal, "") })
				if _, err := c.Read(); err == nil {
					t.Errorf("%s goes on", who)
				}
				stop.Stop()
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("it takes %v", took)
			}
			again := titanAt(t, s)
			again.ask(authenticate)
			again.want(`{"id":"j","error":{"code":-32001,"message":"the credential is not accepted"}}`)
			stale := dialLength(t, s.Devastator, config)
			if got := say(t, stale, true, titanProbe); !strings.Contains(strings.Join(got, ""), `"code":-32001`) {
				t.Errorf("the certificate is answered %q", got)
			}
		})
	}
}

// TestDevastatorIsBounded: its connections count like others for an address, and
// one more costs the others nothing.
func TestDevastatorIsBounded(t *testing.T) {
	dir, ca := authority(t)
	s := servertest.Start(t, devastator(t, dir, ca), func(c *server.Config) { c.HTTP.PerAddress = 2 })
	config := holding(t, ca, "1")
	first := dialLength(t, s.Devastator, config)
	say(t, first, true, titanProbe)
	second := dialLength(t, s.Devastator, holding(t, ca, "2"))
	say(t, second, true, titanProbe)
	conn, err := dialTLS(t, s.Devastator, config)
	if err == nil {
		_, _ = conn.Write(framed(titanProbe))
		var p []byte
		p, err = io.ReadAll(conn)
		if len(p) > 0 {
			t.Errorf("the third is told %q", p)
		}
		_ = conn.Close()
	}
	for _, c := range []*wire.Length{first, second} {
		if got := say(t, c, true, titanProbe); got[0] != `{"id":"probe","result":"ACK"}` {
			t.Errorf("the others are answered %q (the third: %v)", got, err)
		}
	}
	_ = second.Close(0, "")
	eventually(t, "there is room again", func() bool {
		conn, err := dialTLS(t, s.Devastator, config)
		if err != nil {
			return false
		}
		defer conn.Close()
		if _, err := conn.Write(framed(titanProbe)); err != nil {
			return false
		}
		_, err = io.ReadFull(conn, make([]byte, 4))
		return err == nil
	})
}

// TestDevastatorSlowReader: a client that reads nothing is closed after the write
// timeout, what it did not get is kept for it, and others wait for nothing.
func TestDevastatorSlowReader(t *testing.T) {
	dir, ca := authority(t)
	s := servertest.Start(t, devastator(t, dir, ca), func(c *server.Config) { c.HTTP.WriteTimeout = time.Second })
	config := holding(t, ca, "2")
	slow, err := dialTLS(t, s.Devastator, config)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if _, err := slow.Write(framed(`{"id":"r","method":"msg.recv"}`)); err != nil {
		t.Fatal(err)
	}
	writer := dialLength(t, s.Devastator, holding(t, ca, "1"))
	const letters, size = 60, 512 << 10 // more than the buffers of two sockets hold
	for range letters {
		if got := say(t, writer, true, `{"id":"s","method":"msg.send","params":{"to":"2","message":"`+strings.Repeat("x", size)+`"}}`); got[0] != `{"id":"s","result":"ACK"}` {
			t.Fatalf("the writer is answered %q", got)
		}
	}
	eventually(t, "the slow reader is closed", func() bool {
		return strings.Contains(body(t, s.URL+"/admin/metrics"), `parley_sessions_closed_total{reason="slow"} 1`)
	})
	back := dialLength(t, s.Devastator, config)
	if err := back.Write(framed(`{"id":"r","method":"msg.recv"}`)); err != nil {
		t.Fatal(err)
	}
	for got := 0; got < letters; {
		for _, text := range hear(t, back) {
			id, isLetter := strings.CutPrefix(text, `{"id":"`)
			if !isLetter || !strings.Contains(text, `"msg.recv"`) {
				continue
			}
			got++
			if err := back.Write(framed(`{"id":"` + id[:22] + `","result":"ACK"}`)); err != nil {
				t.Fatal(err)
			}
		}
	}
}
