package security_test

import (
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// lines is how many lines of the log there may be for a flood from one address:
// five, and one each ten seconds.
const lines = 20

// TestFloodOfRefusals (S28): by every route for users, and by the event stream, each
// refusal is counted and few are in the log.
func TestFloodOfRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) { c.Access.Rates = nil })
	powerless := w.key(t, "ann", nil, "").Secret
	routes := map[string]string{
		"GET /v1/subscribe/a": "", "POST /v1/send": `{"to":"bob","text":"x"}`, "GET /v1/messages/$inbox/bob": "", "GET /v1/subscribe/$inbox/bob": "",
		"POST /v1/messages/a": "x", "POST /api/message/a": "x", "GET /api/subscribers/a": "",
	}
	const flood = 20
	for route, body := range routes {
		for range flood {
			for secret, want := range map[string]int{powerless: http.StatusForbidden, "parley_wrong": http.StatusUnauthorized} {
				if got := w.ask(t, route, secret, body); got.status != want {
					t.Fatalf("%s is answered %d %s, want %d", route, got.status, got.body, want)
				}
			}
		}
	}
	metrics := w.ask(t, "GET /admin/metrics", "", "").body
	for _, kind := range []string{"failure", "denial"} {
		if want := fmt.Sprintf("parley_audit_events_total{kind=%q} %d\n", kind, len(routes)*flood); !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s: %s", want, regexp.MustCompile(`parley_audit_events_total.*`).FindAllString(metrics, -1))
		}
	}
	w.Stop()
	for _, kind := range []string{"failure", "denial"} {
		if n := strings.Count(w.log.String(), `"kind":"`+kind+`"`); n == 0 || n > lines {
			t.Errorf("%d lines for %d of the kind %s", n, len(routes)*flood, kind)
		}
	}
}

// TestFloodOfNonsense (S28, S9): frames that nobody understands, and what is no TLS,
// do not fill the log, which here shows all that it ever does.
func TestFloodOfNonsense(t *testing.T) {
	t.Parallel()
	dir, ca := servertest.NewAuthority(t)
	w := newWorld(t, servertest.WithDevastator(t, dir, ca), func(c *server.Config) { c.Access.Rates, c.Texto.Anonymous = nil, true })
	begun := strings.Count(w.log.String(), "\n")
	const flood = 60
	for range flood {
		for _, path := range []string{"/", "/v1/rpc", "/v1/texto"} {
			conn, err := w.dial(t, path, "")
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			_ = conn.Write(conn.AppendFrame(nil, true, []byte("nonsense\r\n{}")))
			_ = conn.Close(wire.CloseNormal, "")
		}
		for _, says := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x00\x02\x01\x00", "\xff\xff\xff\xff"} {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", w.Devastator)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = conn.Write([]byte(says))
			_ = conn.(*net.TCPConn).CloseWrite()
			_, _ = conn.Read(make([]byte, 1<<10)) // until the server has decided
			_ = conn.Close()
		}
	}
	want := fmt.Sprintf("parley_connections_refused_total{reason=\"handshake\"} %d\n", 3*flood)
	eventually(t, "the count of handshakes that failed", func() bool { return strings.Contains(w.ask(t, "GET /admin/metrics", "", "").body, want) })
	w.Stop()
	if n := strings.Count(w.log.String(), "\n") - begun; n > 2*lines {
		t.Errorf("%d lines for %d pieces of nonsense: %.2000s", n, 6*flood, w.log)
	}
}
