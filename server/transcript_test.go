package server_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/parley-im/parley/internal/protocol/protocoltest"
	"github.com/parley-im/parley/server/servertest"
)

// What the pages say of HTTP, the server does.
func TestHTTPTranscripts(t *testing.T) {
	for _, page := range []string{"http", "gobbler"} {
		t.Run(page, func(t *testing.T) {
			protocoltest.RunHTTP(t, "../docs/protocol/"+page+".md", func(t *testing.T) string { return servertest.Start(t).URL })
		})
	}
}

// The commands of the page do what it says.
func TestShellTask(t *testing.T) {
	requires(t, "bash", "curl")
	s := servertest.Start(t)
	protocoltest.RunShell(t, "../docs/tasks/publish-from-a-shell-script.md", "PARLEY="+s.URL)
}

// requires skips a test by name where programs are missing, unless they are
// required.
func requires(t *testing.T, programs ...string) {
	t.Helper()
	required := strings.Split(os.Getenv("PARLEY_TEST_REQUIRE"), ",")
	for _, name := range programs {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		if slices.Contains(required, name) {
			t.Fatalf("%s is required, and there is none", name)
		}
		t.Skipf("there is no %s", name)
	}
}
