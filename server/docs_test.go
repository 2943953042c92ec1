package server_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// settingsTable is the table of docs/configuration.md, made from the settings
// themselves.
func settingsTable() string {
	cell := strings.NewReplacer("|", `\|`, "<", "&lt;")
	var b strings.Builder
	b.WriteString("| flag, and key in the file | environment | default | allowed | what it does |\n|---|---|---|---|---|\n")
	for _, s := range server.Settings() {
		def := "`" + s.Default + "`"
		switch {
		case s.Repeatable:
			def = "none; a list"
		case s.Default == "":
			def = "empty"
		}
		fmt.Fprintf(&b, "| `--%s` | `%s` | %s | %s | %s |\n", s.Flag(), s.Env(), def, cell.Replace(s.Allowed), cell.Replace(s.Usage))
	}
	return b.String()
}

func TestSettingsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := settingsTable(); !strings.Contains(string(text), want) {
		t.Errorf("docs/configuration.md needs this table:\n%s", want)
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
	for _, name := range []string{"parley_sessions_closed_total", "parley_connections_refused_total"} {
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
