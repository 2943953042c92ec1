package security_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// operatorRoutes are an operator's business.
func operatorRoutes() []string {
	return []string{
		"GET /admin/metrics", "GET /admin/metrics-old", "GET /admin/router", "GET /debug/vars", "GET /admin/debug/pprof/", "POST /admin/toggles",
		"GET /v1/keys", "POST /v1/keys", "DELETE /v1/keys/a", "DELETE /v1/topics/a", "PUT /v1/retention/a", "DELETE /v1/retention/a",
		"GET /v1/users", "POST /v1/users", "GET /v1/users/ann", "PATCH /v1/users/ann", "DELETE /v1/users/carol", "GET /v1/users/ann/devices",
		"DELETE /v1/users/ann/devices/a", "GET /v1/users/ann/export", "POST /v1/users/ann/tokens", "DELETE /v1/users/carol/tokens", "DELETE /v1/tokens/a",
		"GET /v1/certificates", "POST /v1/certificates", "DELETE /v1/certificates/1f",
		"GET /v1/subscriptions", "GET /v1/subscriptions/a", "PATCH /v1/subscriptions/a", "DELETE /v1/subscriptions/a",
		"GET /v1/dead-letters", "POST /v1/dead-letters/1/replay", "DELETE /v1/dead-letters/1", "GET /admin/backup",
	}
}

// clientRoutes are for who may do what they are about, which the matrix tries, or
// for anybody.
func clientRoutes() []string {
	return []string{
		"POST /v1/messages", "POST /v1/messages/a", "GET /v1/messages/a", "GET /v1/body/a", "GET /v1/count/a", "GET /v1/topics", "GET /v1/topics/a",
		"GET /v1/subscribe/a", "GET /v1/retention/a", "POST /v1/send", "GET /v1/inbox", "GET /v1/inbox/unread", "POST /v1/inbox/read", "GET /v1/whoami",
		"GET /v1/openapi.json", "GET /v1/docs", "GET /v1/docs/page.css", "GET /v1/docs/page.js",
	}
}

// TestRoutesAreKnown: a route that is described is one of those that are tried
// here, so that a new one needs a thought about who may use it.
func TestRoutesAreKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quiet)
	var document struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal([]byte(w.ask(t, "GET /v1/openapi.json", "", "").body), &document); err != nil || len(document.Paths) < 20 {
		t.Fatalf("%d paths, %v", len(document.Paths), err)
	}
	// A segment in braces stands for any one.
	matches := func(route, method, path string) bool {
		has, at, _ := strings.Cut(route, " ")
		a, b := strings.Split(at, "/"), strings.Split(path, "/")
		if !strings.EqualFold(has, method) || len(a) != len(b) {
			return false
		}
		for i := range a {
			if a[i] != b[i] && !strings.HasPrefix(b[i], "{") {
				return false
			}
		}
		return true
	}
	for path, methods := range document.Paths {
		for method := range methods {
			if len(method) > len("delete") || method == "trace" {
				continue // what all of the path's methods have in common
			}
			if !slices.ContainsFunc(slices.Concat(operatorRoutes(), clientRoutes()), func(route string) bool { return matches(route, method, path) }) {
				t.Errorf("%s %s is nobody's", method, path)
			}
		}
	}
}

// TestOperators (S2, S20): what is an operator's business is for who has admin on
// /*, wherever they come from, and for nobody else but this machine.
func TestOperators(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quiet)
	operator := w.key(t, "root", []string{"admin:/*"}, "").Secret
	others := []string{
		"", w.key(t, "ann", []string{"all:/*"}, "").Secret, w.key(t, "bob", []string{"admin:/a"}, "").Secret, w.key(t, "eve", []string{"admin:/"}, "").Secret,
	}
	// A proxy has passed these on, so they are not this machine's.
	proxied := []string{"X-Forwarded-For", "127.0.0.1"}
	for _, route := range operatorRoutes() {
		method, path, _ := strings.Cut(route, " ")
		if got := w.ask(t, method+" "+path, operator, "", proxied...); got.status == 401 || got.status == 403 {
			t.Errorf("an operator's %s is answered %d %s", route, got.status, got.body)
		}
		for i, secret := range others {
			want := http.StatusForbidden
			if secret == "" {
				want = http.StatusUnauthorized
			}
			if got := w.ask(t, method+" "+path, secret, "", proxied...); got.status != want {
				t.Errorf("%s of other %d is answered %d %s, want %d", route, i, got.status, got.body, want)
			}
		}
	}
}
