package server_test

import (
	"testing"

	"github.com/parley-im/parley/internal/protocol/protocoltest"
	"github.com/parley-im/parley/server/servertest"
	"github.com/parley-im/parley/test/require"
)

// What the pages say of HTTP, the server does.
func TestHTTPTranscripts(t *testing.T) {
	for _, page := range []string{"http", "users", "gobbler", "texto"} {
		t.Run(page, func(t *testing.T) {
			protocoltest.RunHTTP(t, "../docs/protocol/"+page+".md", func(t *testing.T) string { return servertest.Start(t).URL })
		})
	}
}

// The commands of the page do what it says.
func TestShellTask(t *testing.T) {
	require.Program(t, "bash", "bash")
	require.Program(t, "curl", "curl")
	s := servertest.Start(t)
	protocoltest.RunShell(t, "../docs/tasks/publish-from-a-shell-script.md", "PARLEY="+s.URL)
}
