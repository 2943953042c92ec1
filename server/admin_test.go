package server_test

import (
	"net/http"
	"strings"
	"testing"

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
