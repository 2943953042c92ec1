package chaos_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/parley-im/parley/server/servertest"
)

// gauges are a server's, by name without the prefix, labels included.
type gauges map[string]float64

// get is the body of a GET request, which must succeed.
func get(t *testing.T, s *servertest.Server, path string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v", path, response.Status, err)
	}
	return string(body)
}

// scrape reads the metrics as an operator's program does.
func scrape(t *testing.T, s *servertest.Server) gauges {
	t.Helper()
	m := gauges{}
	for line := range strings.Lines(get(t, s, "/admin/metrics")) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("metric %s: %v", name, err)
		}
		m[strings.TrimPrefix(name, "parley_")] = v
	}
	if m["ready"] == 0 {
		t.Errorf("the metrics say that the server is not ready, or nothing: %d values", len(m))
	}
	return m
}

// quiet waits until nobody is connected and nothing waits to be stored.
func quiet(t *testing.T, s *servertest.Server) gauges {
	t.Helper()
	var m gauges
	eventually(t, "all sessions have ended", func() bool {
		m = scrape(t, s)
		return m["sessions"]+m["subscriptions"]+m["feeds"]+m["publish_queue_bytes"]+
			m[`connections{protocol="native"}`]+m[`connections{protocol="gobbler"}`]+m[`connections{protocol="sse"}`] == 0
	})
	if err := unbalanced(m); err != nil {
		t.Error(err)
	}
	return m
}

// unbalanced says what is wrong with the books of a server where nothing waits
// (R21): whatever was to be published was stored, or refused for some reason.
func unbalanced(m gauges) error {
	var sum float64
	for _, became := range []string{"published", "duplicate", "conflicting", "refused", "storage_full", "failed", "invalid"} {
		n, ok := m[became+"_messages_total"]
		if !ok && became != "storage_full" {
			return fmt.Errorf("there is no %s_messages_total", became)
		}
		sum += n
	}
	if received, ok := m["received_messages_total"]; !ok || received != sum {
		return fmt.Errorf("%v messages were received, and it is known of %v what became of them", received, sum)
	}
	return nil
}

// TestUnbalancedIsFound: the check of the books fails when a message is missing.
func TestUnbalancedIsFound(t *testing.T) {
	t.Parallel()
	m := gauges{"received_messages_total": 7}
	for _, became := range []string{"published", "duplicate", "conflicting", "refused", "storage_full", "failed", "invalid"} {
		if unbalanced(m) == nil {
			t.Errorf("a message is missing before %s", became)
		}
		m[became+"_messages_total"] = 1
	}
	if err := unbalanced(m); err != nil {
		t.Error(err)
	}
	m["received_messages_total"]++
	if unbalanced(m) == nil {
		t.Error("a message is missing")
	}
}

// unharmed demands that nothing panicked and nothing failed to be stored.
func unharmed(t *testing.T, m gauges) {
	t.Helper()
	if m["panics_total"] != 0 || m["failed_messages_total"] != 0 {
		t.Errorf("%v panics, %v messages that the store failed to take", m["panics_total"], m["failed_messages_total"])
	}
}
