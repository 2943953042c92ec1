// Package require decides about tests that need what not every machine has: a
// program, or to be root. They are skipped where it is missing, by name, unless
// PARLEY_TEST_REQUIRE, a list of such names with commas, says that it must be
// there.
package require

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Env is the environment variable that names what must be there.
const Env = "PARLEY_TEST_REQUIRE"

// Program finds one of the binaries that the program called name may be
// installed as, and returns its path. Without any it ends the test as Missing
// does.
func Program(t testing.TB, name string, binaries ...string) string {
	t.Helper()
	for _, binary := range binaries {
		if path, err := exec.LookPath(binary); err == nil {
			return path
		}
	}
	Missing(t, name, "none of "+strings.Join(binaries, ", ")+" is installed")
	return ""
}

// Missing ends a test that needs what is called name: the test fails where Env
// asks for it, and otherwise is skipped.
func Missing(t testing.TB, name, reason string) {
	t.Helper()
	names := strings.FieldsFunc(os.Getenv(Env), func(r rune) bool { return r == ',' || r == ' ' })
	if slices.Contains(names, name) {
		t.Fatalf("%s asks for %s: %s", Env, name, reason)
	}
	t.Skipf("needs %s: %s", name, reason)
}
