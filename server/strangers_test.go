package server_test

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// operatorsRoutes are an operator's business, as METHOD path.
func operatorsRoutes() []string {
	return []string{
		"GET /admin/metrics", "GET /admin/metrics-old", "GET /admin/toggles?a=true", "POST /admin/toggles?a=true", "GET /admin/router",
		"GET /admin/backup", "GET /debug/vars", "GET /admin/debug/pprof/", "GET /admin/debug/pprof/heap", "GET /admin/debug/pprof/goroutine?debug=2",
		"GET /admin/debug/pprof/profile?seconds=1", "GET /admin/debug/pprof/trace?seconds=1", "GET /admin/debug/pprof/symbol",
		"DELETE /v1/topics/a", "PUT /v1/retention/a", "DELETE /v1/retention/a",
		"GET /v1/users", "POST /v1/users", "GET /v1/users/a", "PATCH /v1/users/a", "DELETE /v1/users/a", "GET /v1/users/a/devices",
		"DELETE /v1/users/a/devices/b", "GET /v1/users/a/export", "POST /v1/users/a/tokens", "DELETE /v1/users/a/tokens", "DELETE /v1/tokens/a",
		"GET /v1/keys", "POST /v1/keys", "DELETE /v1/keys/0123456789abcdef", "GET /v1/certificates", "POST /v1/certificates", "DELETE /v1/certificates/1f",
		"GET /v1/subscriptions", "GET /v1/subscriptions/a", "PATCH /v1/subscriptions/a", "DELETE /v1/subscriptions/a",
		"GET /v1/dead-letters", "POST /v1/dead-letters/1/replay", "DELETE /v1/dead-letters/1",
	}
}

// outside is an address of this machine that is not loopback.
func outside(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && ip.IP.IsGlobalUnicast() {
			return ip.IP.String()
		}
	}
	t.Skip("this machine has no address but loopback")
	return ""
}

// TestStrangersReachNoOperatorsRoute (S2, S20): on a server for the network, what
// is an operator's business is refused to other addresses, and is not there at
// all when operators have a listener of their own.
func TestStrangersReachNoOperatorsRoute(t *testing.T) {
	t.Parallel()
	at := outside(t)
	open := func(c *server.Config) { c.HTTP.Listen, c.HTTP.OpenToNetwork = "0.0.0.0:0", true }
	shared := servertest.Start(t, open)
	separate := servertest.Start(t, open, func(c *server.Config) { c.HTTP.Admin = "127.0.0.1:0" })
	for _, s := range []*servertest.Server{shared, separate} {
		u, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		there := "http://" + net.JoinHostPort(at, u.Port())
		if got := request(t, "GET", there+"/v1/topics", nil); got.status != http.StatusOK {
			t.Fatalf("a client from %s is answered %d %s", at, got.status, got.body)
		}
		for _, route := range operatorsRoutes() {
			method, path, _ := strings.Cut(route, " ")
			for _, edit := range []func(*http.Request){
				nil,
				func(r *http.Request) { r.Host = "localhost" },
				func(r *http.Request) { r.Header.Set("X-Forwarded-For", "127.0.0.1") },
				func(r *http.Request) { r.Header.Set("X-Original-URL", "/admin/metrics") },
			} {
				got := request(t, method, there+path, edit)
				if s == shared && got.status != http.StatusForbidden || got.status < 400 {
					t.Errorf("%s from %s is answered %d %.100s", route, at, got.status, got.body)
				}
			}
		}
	}
	if _, err := net.DialTimeout("tcp", net.JoinHostPort(at, portOf(t, separate.Admin)), time.Second); err == nil {
		t.Error("the operators' listener is reached from elsewhere")
	}
}

func portOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

// TestReboundNames (S6): a page that points a name of its own at this machine is
// refused at every listener, whatever it asks for.
func TestReboundNames(t *testing.T) {
	t.Parallel()
	cfg := secured(t)
	cfg.HTTP.Listen, cfg.HTTP.Admin = "127.0.0.1:0", "127.0.0.1:0"
	s := run(t, cfg)
	c := &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		Timeout:   10 * time.Second,
	}
	defer c.CloseIdleConnections()
	routes := append(operatorsRoutes(), "GET /", "GET /v1/rpc", "GET /v1/docs", "GET /v1/subscribe/a", "POST /v1/messages/a",
		"GET /v1/topics", "POST /api/message/a", "GET /stream/user/a", "GET /admin/healthcheck", "GET /nowhere")
	for _, address := range []string{"https://" + s.Addr().String(), s.URL(), s.AdminURL()} {
		for _, route := range routes {
			method, path, _ := strings.Cut(route, " ")
			r, err := http.NewRequestWithContext(t.Context(), method, address+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = "evil.example"
			resp, err := c.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusForbidden {
				t.Errorf("%s %s for another name is answered %d, want 403", method, address+path, resp.StatusCode)
			}
		}
	}
}

// TestReboundOperator (S20): with authentication any Host will do for clients, but
// an operator who shows nothing is one by a name of this machine's only: a page
// whose own name leads here by now is no operator.
func TestReboundOperator(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, func(c *server.Config) { c.Access.Required = true })
	for _, route := range operatorsRoutes() {
		method, path, _ := strings.Cut(route, " ")
		if got := request(t, method, s.URL+path, func(r *http.Request) { r.Host = "evil.example:8080" }); got.status != http.StatusUnauthorized && got.status != http.StatusForbidden {
			t.Errorf("%s for another name is answered %d %s", route, got.status, got.body)
		}
	}
	if got := request(t, http.MethodGet, s.URL+"/v1/users", func(r *http.Request) { r.Host = "localhost" }); got.status != http.StatusOK {
		t.Errorf("an operator here is answered %d %s", got.status, got.body)
	}
}

// TestRootIsWarned (S25): who runs the server as root is told so, once.
func TestRootIsWarned(t *testing.T) {
	t.Parallel()
	log := new(logbook)
	servertest.Start(t, func(c *server.Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) }).Stop()
	want := 0
	if os.Geteuid() == 0 {
		want = 1
	}
	if text := log.take(); strings.Count(text, "running as root") != want {
		t.Errorf("the log warns of root not %d times:\n%s", want, text)
	}
}

// TestNoSecretIsShown (S14): what clients put where secrets are put is in no log,
// metric, list or profile.
func TestNoSecretIsShown(t *testing.T) {
	t.Parallel()
	const secret = "S3cr3tHunter2"
	log := new(logbook)
	s := servertest.Start(t, servertest.Dir(t.TempDir()), func(c *server.Config) {
		c.Logger = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	for _, method := range []string{"GET", "POST", "PUT", "DELETE", "OPTIONS"} {
		for _, path := range []string{
			"/v1/messages/a", "/v1/messages", "/v1/subscribe/a", "/v1/topics/a", "/v1/retention/a", "/v1/rpc", "/v1/none", "/stream/user/a", "/api/message/a",
			"/api/subscribers/a", "/admin/healthcheck", "/admin/toggles", "/admin/backup", "/debug/vars", "/admin/debug/pprof/heap", "/",
		} {
			r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path+"?token="+secret+"&userId=ann", strings.NewReader(secret))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"Authorization", "Cookie", "Idempotency-Key", "Parley-Header-Token", "X-Gobbler-Token", "Last-Event-ID", "Sec-WebSocket-Protocol", "Origin", "Referer"} {
				r.Header.Set(name, secret)
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
		}
	}
	// One that is stored, and one that is refused.
	key := func(r *http.Request) {
		r.Header.Set("Idempotency-Key", secret+secret)
		withBody("text/plain", secret)(r)
	}
	if got := request(t, "POST", s.URL+"/v1/messages/a", key); got.status != http.StatusCreated {
		t.Errorf("a publish is answered %d", got.status)
	}
	shown := map[string]string{}
	for _, route := range operatorsRoutes() {
		if method, path, _ := strings.Cut(route, " "); method == "GET" && path != "/admin/backup" && !strings.HasPrefix(path, "/admin/toggles") { // the messages themselves, and nothing
			shown[path] = request(t, method, s.URL+path, nil).body
		}
	}
	for _, path := range []string{
		"/admin/debug/pprof/cmdline", "/admin/debug/pprof/allocs?debug=1", "/admin/debug/pprof/block?debug=1", "/admin/debug/pprof/mutex?debug=1",
		"/admin/healthcheck", "/v1/topics", "/v1/topics/a", "/v1/openapi.json",
	} {
		shown[path] = request(t, "GET", s.URL+path, nil).body
	}
	s.Stop()
	shown["the log"] = log.take()
	for _, arg := range os.Args { // what a command line holds is nobody's business
		if len(arg) > 8 && strings.Contains(shown["/debug/vars"]+shown["/admin/metrics-old"]+shown["/admin/debug/pprof/cmdline"], arg) {
			t.Errorf("the command line is shown: %s", arg)
		}
	}
	for where, text := range shown {
		if text == "" || strings.Contains(text, secret) {
			t.Errorf("%s is empty, or shows the secret: %.2000s", where, text)
		}
	}
}
