package crash_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/parley-im/parley/test/require"
)

// traced makes the world's server run under strace, which injects faults into
// its system calls. It must come before the world's first start.
func (w *world) traced(t *testing.T, calls, fault string) {
	t.Helper()
	strace := require.Program(t, "strace", "strace")
	if err := exec.CommandContext(t.Context(), strace, "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "true").Run(); err != nil {
		require.Missing(t, "strace", "it does not work here: "+err.Error())
	}
	w.under = []string{strace, "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + calls, "-e", "inject=" + calls + ":" + fault}
}

// TestFailingDisk lets one fsync of the real server fail, a random one of those
// that opening the store or the load brings. The server ends at once with an
// error and one line that says why; what it acknowledged before is there after a
// restart, and so is what a reader saw.
func TestFailingDisk(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes seconds")
	}
	binary := build(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	for _, tt := range []struct {
		call  string
		error syscall.Errno
		name  string
		// Which fsync fails. strace counts those of each thread by itself, and
		// opening a store makes fifty fsyncs in a handful of threads.
		least int
		most  int
	}{
		{"fdatasync", syscall.EIO, "EIO", 1, 100},
		{"fdatasync", syscall.ENOSPC, "ENOSPC", 1, 100},
		{"fsync", syscall.EIO, "EIO", 1, 8},
	} {
		n := tt.least + r.IntN(tt.most-tt.least)
		t.Run(tt.call+tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(binary, filepath.Join(t.TempDir(), "store"), nil)
			w.traced(t, tt.call, fmt.Sprintf("error=%s:when=%d", tt.name, n))
			status, out := w.untilEnd(t)
			if status != 1 {
				t.Errorf("%s %d failed: exit status %d, want 1", tt.call, n, status)
			}
			// The first fsyncs make the directories, before there is a store to fail.
			if lines := strings.Count(out, "the store failed") + strings.Count(out, "create store: sync"); lines != 1 || !strings.Contains(out, tt.error.Error()) {
				t.Errorf("%s %d failed: %d lines about it:\n%s", tt.call, n, lines, out)
			}
			w.under = nil
			log := w.fetchAll(t)
			if err := w.ledger.Check(log); err != nil {
				t.Errorf("%s %d failed: %v", tt.call, n, err)
			}
			t.Logf("%s %d failed: %d acknowledged, %d shown, %d stored", tt.call, n, len(w.ledger.Acked()), len(w.ledger.Shown()), len(log))
		})
	}
}

// untilEnd loads the server until it ends by itself, and returns its exit status
// and output.
func (w *world) untilEnd(t *testing.T) (status int, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	server, address, err := w.launch(ctx)
	if err == nil {
		var clients sync.WaitGroup
		for _, r := range w.readers {
			clients.Go(func() { _ = r.run(address) })
		}
		for _, p := range w.publishers {
			clients.Go(func() { _ = p.run(address) })
		}
		clients.Wait()
	}
	select {
	case <-server.gone:
	case <-ctx.Done():
		server.kill()
	}
	return server.cmd.ProcessState.ExitCode(), server.out.String()
}

// TestSlowDisk makes every fsync of the real server take 100 ms longer. Publishes
// wait and share the fsyncs; what does not fit the queue is told to try again,
// and is stored in the end; and memory stays bounded.
func TestSlowDisk(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes seconds")
	}
	w := newWorld(build(t), filepath.Join(t.TempDir(), "store"), rand.New(rand.NewPCG(1, 1)))
	w.traced(t, "fdatasync", "delay_enter=100000")
	w.args = []string{"--publish-queue", "1MiB", "--max-message", "64KiB"}
	server, address := w.start(t.Context(), t)
	defer server.kill()

	const clients, each = 120, 3
	var all sync.WaitGroup
	var refusals atomic.Int64
	waits := make([][]time.Duration, clients)
	for n := range clients {
		f := &filler{world: &world{rand: rand.New(rand.NewPCG(2, uint64(n)))}}
		c := f.open(t, address)
		all.Go(func() {
			defer func() { _ = c.Close() }()
			for len(waits[n]) < each {
				began := time.Now()
				refused, err := f.try(c, "/slow")
				switch {
				case err != nil:
					t.Error(err)
					return
				case refused == "overloaded":
					refusals.Add(1)
					<-time.After(100 * time.Millisecond)
				case refused != "":
					t.Errorf("the answer is %s", refused)
					return
				default:
					waits[n] = append(waits[n], time.Since(began))
				}
			}
		})
	}
	all.Wait()
	stored := slices.Sorted(slices.Values(slices.Concat(waits...)))
	if len(stored) != clients*each || refusals.Load() == 0 {
		t.Fatalf("%d stored of %d, %d told to try again", len(stored), clients*each, refusals.Load())
	}
	least, median, most := stored[0], stored[len(stored)/2], stored[len(stored)-1]
	// Each waits for the commit in hand and for its own.
	if least < 100*time.Millisecond || median > 2*time.Second {
		t.Errorf("publishes took %v to %v, half of them at most %v", least, most, median)
	}
	peak := peakMemory(t, server)
	if peak > 256<<20 {
		t.Errorf("the server took %d MiB of memory", peak>>20)
	}
	t.Logf("%d publishes took %v to %v, half of them at most %v; %d were told to try again; %d MiB of memory",
		len(stored), least, most, median, refusals.Load(), peak>>20)
}

// peakMemory is the most memory that a process has had, in bytes.
func peakMemory(t *testing.T, p *process) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s*(\d+) kB`).FindSubmatch(status)
	if m == nil {
		t.Fatalf("no peak in %s", status)
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}
