package security_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// TestCertificateIsNotForPages (S6): a browser that has a client certificate shows
// it for any page, so it counts for pages that the operator has admitted, and for
// no other that a protocol lets in.
func TestCertificateIsNotForPages(t *testing.T) {
	t.Parallel()
	dir, ca := servertest.NewAuthority(t)
	w := newWorld(t, quiet, servertest.WithDevastator(t, dir, ca), func(c *server.Config) {
		c.HTTP.Listen, c.HTTP.TLS = "", server.TLS{Listen: "127.0.0.1:0", Cert: c.Titan.DevastatorCert, Key: c.Titan.DevastatorKey}
		c.HTTP.Origins = []string{"https://chat.example"}
	})
	ann, nobody := servertest.Holding(t, ca, "ann"), servertest.Holding(t, ca, "")
	for _, tt := range []struct {
		path, origin string
		with         *tls.Config
		want         verdict
	}{
		{"/", "", ann, done},
		{"/", "", nobody, unknown},
		{"/", w.URL, ann, done},
		{"/", "https://chat.example", ann, done},
		{"/", "http://localhost", ann, unknown}, // any program's page at port 80 of somebody's machine
		{"/", "http://localhost", nobody, unknown},
		{"/", "https://evil.example", ann, refused},
		{"/", "null", ann, refused},
		{"/v1/rpc", "", ann, done},
		{"/v1/rpc", "", nobody, unknown},
		{"/v1/rpc", w.URL, ann, done},
		{"/v1/rpc", "https://chat.example", ann, done},
		{"/v1/rpc", "http://localhost", ann, refused},
		{"/v1/rpc", "https://evil.example", ann, refused},
	} {
		if got := certified(t, w.URL+tt.path, tt.origin, tt.with); got != tt.want {
			t.Errorf("%s of %q, with a certificate %t: %s, want %s", tt.path, tt.origin, tt.with == ann, got, tt.want)
		}
	}
}

// certified is what a request on a new connection, with a certificate or without,
// comes to.
func certified(t *testing.T, at, origin string, with *tls.Config) verdict {
	t.Helper()
	h := http.Header{}
	if origin != "" {
		h.Set("Origin", origin)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, err := wire.DialTLS(ctx, at, h, with)
	if err != nil {
		if strings.Contains(err.Error(), "403") {
			return refused
		}
		t.Errorf("%s of %q: %v", at, origin, err)
		return confused
	}
	c := &rpc{t: t, conn: conn}
	defer func() { _ = conn.Close(wire.CloseNormal, "") }()
	ask := `{"id":"s","method":"ping"}` // of Titan
	if strings.HasSuffix(at, "/v1/rpc") {
		ask = `{"jsonrpc":"2.0","id":"s","method":"session.list"}`
	}
	if err := c.say(ask); err != nil {
		t.Error(err)
	}
	p, err := c.read()
	switch text := string(p); {
	case err != nil:
		t.Errorf("%s of %q: %v", at, origin, err)
	case strings.Contains(text, `"result"`):
		return done
	case strings.Contains(text, `"code":-32001`), strings.Contains(text, `"unauthenticated"`):
		return unknown
	default:
		t.Errorf("%s of %q is told %s", at, origin, text)
	}
	return confused
}
