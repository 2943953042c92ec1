package chaos_test

import (
	"context"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait: long, because the machine may be slow, and
// finite, because a test that hangs tells nothing.
const patience = time.Minute

// scale chooses how much to do: with -short, usually, and with PARLEY_SOAK=1.
func scale(short, usual, soak int) int {
	switch {
	case os.Getenv("PARLEY_SOAK") == "1":
		return soak
	case testing.Short():
		return short
	}
	return usual
}

// eventually polls a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
