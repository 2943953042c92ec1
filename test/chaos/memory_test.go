package chaos_test

import (
	"os"
	"runtime"
	"runtime/metrics"
	"testing"
)

// memory is how many bytes of heap are in use, and of stacks, after a garbage
// collection; the second one empties the pools.
func memory() int {
	runtime.GC()
	runtime.GC()
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	n := 0
	for _, s := range samples {
		n += int(s.Value.Uint64())
	}
	return n
}

// files is how many file descriptors the process has open.
func files(t *testing.T) int {
	t.Helper()
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Skip("counting file descriptors needs " + dir)
	}
	return len(entries)
}
