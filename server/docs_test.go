package server_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// TestSettingsAreDocumented compares docs/configuration.md with the settings
// themselves.
func TestSettingsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- settings: as \"parley config --reference\" prints them -->\n\n", "\n<!-- end of settings -->"
	_, after, found := strings.Cut(string(text), begin)
	got, _, ended := strings.Cut(after, end)
	if want := server.Reference(); !found || !ended || got != want {
		t.Errorf("docs/configuration.md needs what \"parley config --reference\" prints between its markers:\n%s", want)
	}
}

// TestMetricsAreDocumented compares the metrics that a server has with those
// that docs/operations.md explains, both ways.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	s := servertest.Start(t, servertest.Dir(t.TempDir()))
	exported := make(map[string]bool)
	for line := range strings.Lines(request(t, "GET", s.URL+"/admin/metrics", nil).body) {
		if name, ok := strings.CutPrefix(line, "# TYPE parley_"); ok {
			name, _, _ = strings.Cut(name, " ")
			exported["parley_"+name] = true
		}
	}
	documented := make(map[string]bool)
	for _, name := range regexp.MustCompile("`(parley_[a-z0-9_]+)[`{]").FindAllStringSubmatch(string(text), -1) {
		documented[name[1]] = true
	}
	// A labelled counter is not exported before it has counted something.
	for _, name := range []string{"parley_sessions_closed_total", "parley_connections_refused_total", "parley_durable_lag_messages"} {
		exported[name] = true
	}
	for name := range exported {
		if !documented[name] {
			t.Errorf("%s is not documented", name)
		}
	}
	for name := range documented {
		if !exported[name] {
			t.Errorf("%s is documented and does not exist", name)
		}
	}
}
