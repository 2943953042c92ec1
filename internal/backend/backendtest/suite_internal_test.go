package backendtest

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/parley-im/parley/internal/backend"
)

// faultVar names the fault that a child process of TestSuitesFindFaults has.
const faultVar = "PARLEY_TEST_FAULT"

func TestReference(t *testing.T) {
	fault := os.Getenv(faultVar)
	Log(t, func(*testing.T) backend.Log { return newReference(fault) })
	LogReopen(t, func(*testing.T) func() backend.Log {
		l := newReference(fault)
		return func() backend.Log { return l }
	})
}

func TestRacyReference(t *testing.T) {
	if os.Getenv(faultVar) == "" {
		t.Skip("fails on purpose: TestSuitesFindFaults runs it")
	}
	for range 10 {
		readerSeesOneOrder(newRig(t, racy{newReference("")}))
	}
}

// TestSuitesFindFaults plants one fault at a time and demands that the suite
// fails, in a process of its own because a test cannot survive its failure.
func TestSuitesFindFaults(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the suites themselves are tested in full runs")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for test, faults := range map[string][]string{
		"TestReference": {
			"drops one of a batch", "reorders", "alters a body", "loses filters", "stores some twice",
			"forgets keys", "stores what goes along", "ignores another payload", "shares keys between streams",
			"takes After inclusively", "ends after a page", "forgets what it passed over", "hides the floor",
			"ignores expiry", "ignores Since", "ignores filters", "matches names by their beginning",
			"counts the expired", "counts from the oldest", "forgets the last of a purged stream",
			"keeps one too many", "trims nothing by bytes", "raises the floor without end", "lists empty streams",
			"ignores the context",
		},
		"TestRacyReference": {"lets readers pass"},
		"TestReferenceKV": {
			"serves the expired", "hands out its own bytes", "overwrites any revision", "begins revisions anew",
			"deletes any revision", "takes any key", "scans backwards", "scans from the prefix on",
		},
		"TestReferenceBus": {
			"wakes one subscriber", "ignores the subject", "turns signals round", "goes on after the end",
			"keeps the publisher's buffer", "leaves goroutines behind",
		},
	} {
		for _, fault := range faults {
			t.Run(strings.ReplaceAll(fault, " ", "-"), func(t *testing.T) {
				t.Parallel()
				child := exec.CommandContext(t.Context(), self, "-test.run=^"+test+"$", "-test.short", "-test.failfast")
				child.Env = append(os.Environ(), faultVar+"="+fault)
				out, err := child.CombinedOutput()
				if err == nil || !strings.Contains(string(out), "--- FAIL") {
					t.Errorf("the suite passes a backend that %s (%v)\n%s", fault, err, out)
				}
			})
		}
	}
}
