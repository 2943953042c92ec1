package server_test

import (
	"os"
	"strings"
	"testing"

	"github.com/parley-im/parley/server"
)

// TestSecrets (S14, S25): a secret is not taken from the command line, nor from a
// file that everybody may read, and neither shown nor named in an error.
func TestSecrets(t *testing.T) {
	mode := func(name string, mode os.FileMode) string {
		t.Helper()
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for name, tt := range map[string]struct {
		src  server.Sources
		text string
		err  string
	}{
		"environment":     {server.Sources{Environ: []string{"PARLEY_TOKEN=hunter2"}}, "token: \"***\" # environment PARLEY_TOKEN\n", ""},
		"file":            {server.Sources{File: file(t, "token: hunter2")}, "token: \"***\" # file ", ""},
		"file of a group": {server.Sources{File: mode(file(t, "token: hunter2"), 0o640)}, "token: \"***\" # file ", ""},
		"file of all":     {server.Sources{File: mode(file(t, "token: hunter2"), 0o644)}, "", "its mode is 0644; allowed: 0600 or 0640"},
		"flag":            {server.Sources{Flags: map[string][]string{"token": {"hunter2"}}}, "", "everybody on this machine sees a command line"},
		"wrong":           {server.Sources{Environ: []string{"PARLEY_TOKEN=wrong"}}, "", "environment PARLEY_TOKEN: is not allowed; allowed: "},
		"wrong in a file": {server.Sources{File: file(t, "token: wrong")}, "", "token: is not allowed; allowed: "},
		"read back":       {server.Sources{File: file(t, "token: \"***\"")}, "", "stands for a secret that was hidden"},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := server.EffectiveSecret(tt.src)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("the error is %v, want %q", err, tt.err)
			}
			if !strings.HasPrefix(text, tt.text) {
				t.Errorf("it is shown as %q, want %q", text, tt.text)
			}
			if all := text + errorText(err); strings.Contains(all, "hunter2") || strings.Contains(all, `"wrong"`) {
				t.Errorf("the secret is shown: %s", all)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
