package main

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/parley-im/parley/internal/protocol/protocoltest"
	"github.com/parley-im/parley/server/servertest"
	"github.com/parley-im/parley/test/require"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"parley": main})
}

// TestCommand runs the scripts in testdata, each with the real command in a
// directory of its own. Beside what testscript knows, they use
//
//	exits CODE command…   run a command that must exit with CODE
//	ready                 wait until the server at $PARLEY_URL is ready
//	count METRIC N        wait until a metric of that server is N
//	get PATH STATUS       that server answers PATH with STATUS
//	capture NAME N        $NAME is the word N of what was printed last
//	reject, certified     see there
func TestCommand(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			addr, err := freeAddress()
			admin, adminErr := freeAddress()
			env.Setenv("ADDR", addr)
			env.Setenv("ADMIN", admin)
			env.Setenv("PARLEY_URL", "http://"+addr)
			env.Setenv("GORACE", promptExit)
			return errors.Join(err, adminErr)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "ready": ready, "count": count, "get": get,
			"reject": reject, "certified": certified, "capture": capture,
		},
	})
}

// promptExit is GORACE for commands: under the race detector they would otherwise
// stay a second before they exit.
const promptExit = "atexit_sleep_ms=0"

// TestTasks: the commands of the pages do what these say.
func TestTasks(t *testing.T) {
	require.Program(t, "bash", "bash")
	s := servertest.Start(t)
	protocoltest.RunShell(t, "../../docs/tasks/users-and-keys.md", "PARLEY_URL="+s.URL, "GORACE="+promptExit)
}

// freeAddress is one where nobody listens at the moment.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// TestInterruptedExitCode interrupts a command that follows a topic.
func TestInterruptedExitCode(t *testing.T) {
	s := servertest.Start(t)
	var stdout, stderr bytes.Buffer
	c := exec.CommandContext(t.Context(), "parley", "sub", "--server", s.URL, "/x")
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for subscribed := false; !subscribed && t.Context().Err() == nil; {
		resp, err := http.Get(s.URL + "/admin/metrics")
		if err != nil {
			t.Fatal(err)
		}
		subscribed = hasLine(resp.Body, "parley_subscriptions 1")
		_ = resp.Body.Close()
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	err := c.Wait()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != exitInterrupted {
		t.Errorf("the command ends with %v, want exit code %d", err, exitInterrupted)
	}
	if stdout.Len()+stderr.Len() > 0 {
		t.Errorf("the command says %q and %q, want nothing", &stdout, &stderr)
	}
}

func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v: %v", args, err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%v exits with %d, want %d", args[1:], got, want)
	}
}

func ready(ts *testscript.TestScript, _ bool, _ []string) {
	poll(ts, "/admin/readycheck", func(resp *http.Response) bool { return resp.StatusCode == http.StatusOK })
}

func count(ts *testscript.TestScript, _ bool, args []string) {
	poll(ts, "/admin/metrics", func(resp *http.Response) bool { return hasLine(resp.Body, args[0]+" "+args[1]) })
}

func get(ts *testscript.TestScript, _ bool, args []string) {
	poll(ts, args[0], func(resp *http.Response) bool { return strconv.Itoa(resp.StatusCode) == args[1] })
}

// poll asks until the answer is good, for ten seconds at most.
func poll(ts *testscript.TestScript, path string, good func(*http.Response) bool) {
	c := http.Client{Timeout: 5 * time.Second}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
		resp, err := c.Get(ts.Getenv("PARLEY_URL") + path)
		if err != nil {
			continue
		}
		ok := good(resp)
		_ = resp.Body.Close()
		if ok {
			return
		}
	}
	ts.Fatalf("%s is never as it should be", path)
}

// TestHugeArgument: what is wrong with an argument is said in a few words,
// however long it is.
func TestHugeArgument(t *testing.T) {
	huge := strings.Repeat("x", 1<<20)
	for _, args := range [][]string{{"serve", "--" + huge}, {"serve", "--ms", huge}, {"config", "--ws=" + huge}, {huge}, {"serve", huge}} {
		var stdout, stderr bytes.Buffer
		c := newRoot()
		c.SetArgs(args)
		c.SetOut(&stdout)
		if code := exit(t.Context(), &stderr, c.ExecuteContext(t.Context())); code != exitUsage || stderr.Len() > 1000 {
			t.Errorf("%.20q exits with %d and says %d bytes", args, code, stderr.Len())
		}
	}
}
