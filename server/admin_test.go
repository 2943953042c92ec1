package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// TestAdminListener (S20): with a listener of their own, what is an operator's
// business is there and nowhere else, and clients are not served there.
func TestAdminListener(t *testing.T) {
	s := servertest.Start(t, func(c *server.Config) { c.HTTP.Admin = "127.0.0.1:0" })
	for _, tt := range []struct {
		path            string
		clients, admins int
	}{
		{"/admin/healthcheck", 200, 200},
		{"/admin/readycheck", 200, 200},
		{"/admin/metrics", 404, 200},
		{"/admin/debug/pprof/", 404, 200},
		{"/v1/rpc", 400, 404},
		{"/stream/", 400, 404},
	} {
		if got := request(t, http.MethodGet, s.URL+tt.path, nil); got.status != tt.clients {
			t.Errorf("a client gets %d for %s, want %d", got.status, tt.path, tt.clients)
		}
		if got := request(t, http.MethodGet, s.Admin+tt.path, nil); got.status != tt.admins {
			t.Errorf("an operator gets %d for %s, want %d", got.status, tt.path, tt.admins)
		}
	}
	rebound := request(t, http.MethodGet, s.Admin+"/admin/metrics", func(r *http.Request) { r.Host = "evil.example" })
	if rebound.status != http.StatusForbidden {
		t.Errorf("a page that points its own name at this machine gets %d, want 403", rebound.status)
	}
}

func TestAdminListenerIsLoopback(t *testing.T) {
	c := server.Default()
	c.HTTP.Admin = ":9090"
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "--admin-open-to-network") {
		t.Errorf("listening everywhere for operators: %v, want an error that names the way out", err)
	}
	c.HTTP.AdminOpen = true
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

// TestVars (S14): the variables have the names that others look for, and no
// secrets.
func TestVars(t *testing.T) {
	s := servertest.Start(t)
	conn, err := wire.Dial(t.Context(), s.RPC, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(wire.CloseNormal, "") }()
	var got map[string]any
	// The conversation begins a moment after the handshake.
	for got["receivers"] != 1.0 && t.Context().Err() == nil {
		answer := request(t, http.MethodGet, s.URL+"/debug/vars", nil)
		if err := json.Unmarshal([]byte(answer.body), &got); err != nil || answer.status != http.StatusOK {
			t.Fatalf("the variables are %d %q: %v", answer.status, answer.body, err)
		}
	}
	if got["conns"] != 1.0 || got["requests"] != 0.0 {
		t.Errorf("conns is %v, requests %v; want 1 and 0", got["conns"], got["requests"])
	}
	if memory, ok := got["memstats"].(map[string]any); !ok || memory["HeapAlloc"] == nil {
		t.Errorf("memstats is %v", got["memstats"])
	}
	if _, ok := got["cmdline"]; ok {
		t.Error("the command line is shown, which may hold secrets")
	}
}
