//go:build linux

package image_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/parley-im/parley/test/require"
)

// TestUnit lets systemd judge the unit: whether it makes sense, and how far a
// fault of the program could reach.
func TestUnit(t *testing.T) {
	t.Parallel()
	text := source(t, "deploy/systemd/parley.service")
	program := regexp.MustCompile(`(?m)^ExecStart=(\S+)`).FindStringSubmatch(text)
	if program == nil {
		t.Fatal("the unit starts nothing")
	}
	analyze := require.Program(t, "systemd-analyze", "systemd-analyze")
	self, err := os.Executable() // stands for the program, which need not be installed
	if err != nil {
		t.Fatal(err)
	}
	text = strings.ReplaceAll(text, program[1], self)
	text = regexp.MustCompile(`(?m)^Documentation=.*`).ReplaceAllString(text, "")
	unit := filepath.Join(t.TempDir(), "parley.service")
	if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", unit).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--threshold=15", unit).CombinedOutput()
	if strings.Contains(string(out), "unrecognized option") {
		require.Missing(t, "systemd-analyze", "before version 250 it judges only what is installed")
	}
	if err != nil { // the threshold is ten times the exposure that it tells
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
