package crash_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestJob is what people start the program for: a text of 200,000 lines, 20,000
// with -short, piped through parley pub, comes out of three parley sub complete,
// in order, once. One of them is live from the beginning; one starts later, from
// the oldest message; the connection of one is cut again and again. All of them,
// and the publisher, live through a kill -9 of the server in the middle.
func TestJob(t *testing.T) {
	n := 200_000
	if testing.Short() {
		n = 20_000
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	w := &world{binary: build(t), dir: t.TempDir()}
	server, address := w.start(ctx, t)
	defer func() { server.kill() }()
	w.args = []string{"--http", address} // The next life is found where this one is.
	cut := newCutter(t, address, int64(20*n))

	text, want := lines(n)
	sub := func(address string, more ...string) *task {
		args := []string{"sub", "/lines", "--server", "http://" + address, "--count", strconv.Itoa(n)}
		return run(ctx, t, w.binary, nil, append(args, more...)...)
	}
	live, broken := sub(address), sub(cut.listener.Addr().String())
	subscribed(ctx, t, address, 2)

	// The end of the text is held back, so that the publisher is not done before
	// the server is killed, however fast it is.
	killed := make(chan struct{})
	held := readFunc(func([]byte) (int, error) {
		select {
		case <-killed:
		case <-ctx.Done():
		}
		return 0, io.EOF
	})
	most := len(text) * 9 / 10
	stdin := io.MultiReader(strings.NewReader(text[:most]), held, strings.NewReader(text[most:]))
	pub := run(ctx, t, w.binary, stdin, "pub", "/lines", "--server", "http://"+address, "--id", "job")
	live.out.reach(ctx, t, n/3)
	server.kill()
	close(killed)
	server, _ = w.start(ctx, t)
	late := sub(address, "--from", "oldest")

	pub.end(t, "pub", "")
	live.end(t, "the live sub", want)
	late.end(t, "the late sub", want)
	broken.end(t, "the sub whose connection is cut", want)
	if said := fmt.Sprintf("published %d\n", n); !strings.HasSuffix(pub.talk.String(), said) {
		t.Errorf("pub says %q, want %q at its end", pub.talk.String(), said)
	}
	if cuts := cut.cuts.Load(); cuts != maxCuts {
		t.Errorf("%d cuts, want %d", cuts, maxCuts)
	}
}

// lines is a text of n lines, the last of them without a line feed, and what a
// subscriber prints of it.
func lines(n int) (text, printed string) {
	var in, out strings.Builder
	for i := range n {
		line := fmt.Sprintf("%d %s", i, strings.Repeat("lorem ", i%7))
		switch i % 1000 {
		case 1:
			line = ""
		case 2:
			line += "\xff\x00 is not UTF-8"
		case 3:
			line += "\"é\\\t\r"
		case 4:
			line += strings.Repeat("x", 5000)
		}
		in.WriteString(line)
		if i < n-1 {
			in.WriteByte('\n')
		}
		out.WriteString("/lines: " + line + "\n")
	}
	return in.String(), out.String()
}

// readFunc is a reader.
type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// subscribed waits until the server has n subscriptions.
func subscribed(ctx context.Context, t *testing.T, address string, n int) {
	t.Helper()
	want := fmt.Appendf(nil, "\nparley_subscriptions %d\n", n)
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/admin/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatalf("waiting for %d subscriptions: %v", n, err)
		}
		metrics, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatalf("waiting for %d subscriptions: %v", n, err)
		}
		if bytes.Contains(metrics, want) {
			return
		}
	}
}

// task is a run of the command.
type task struct {
	cmd  *exec.Cmd
	out  printed
	talk bytes.Buffer // what it says on stderr
}

// run starts the command; it is killed when ctx ends.
func run(ctx context.Context, t *testing.T, binary string, stdin io.Reader, args ...string) *task {
	t.Helper()
	k := &task{cmd: exec.CommandContext(ctx, binary, args...), out: printed{more: make(chan struct{}, 1)}}
	k.cmd.Stdin, k.cmd.Stdout, k.cmd.Stderr = stdin, &k.out, &k.talk
	if err := k.cmd.Start(); err != nil {
		t.Fatalf("parley %s: %v", args[0], err)
	}
	return k
}

// end waits for the command's end and compares what it printed.
func (k *task) end(t *testing.T, name, want string) {
	t.Helper()
	if err := k.cmd.Wait(); err != nil {
		t.Errorf("%s: %v\n%s", name, err, k.talk.String())
	}
	got := k.out.text.String()
	if got == want {
		return
	}
	g, w := strings.SplitAfter(got, "\n"), strings.SplitAfter(want, "\n")
	i := 0
	for i < min(len(g), len(w))-1 && g[i] == w[i] {
		i++
	}
	t.Errorf("%s printed %d lines, want %d; line %d is %.100q, want %.100q\n%s",
		name, len(g)-1, len(w)-1, i+1, g[i], w[i], k.talk.String())
}

// printed is what a command printed.
type printed struct {
	text  bytes.Buffer // to be read after the end of the command
	lines atomic.Int64
	more  chan struct{} // there are more lines than before
}

func (p *printed) Write(b []byte) (int, error) {
	p.lines.Add(int64(bytes.Count(b, []byte("\n"))))
	select {
	case p.more <- struct{}{}:
	default:
	}
	return p.text.Write(b)
}

// reach waits until n lines are printed.
func (p *printed) reach(ctx context.Context, t *testing.T, n int) {
	t.Helper()
	for p.lines.Load() < int64(n) {
		select {
		case <-p.more:
		case <-ctx.Done():
			t.Fatalf("%d lines are printed, want %d: %v", p.lines.Load(), n, ctx.Err())
		}
	}
}

// maxCuts is after how many cuts a cutter lets connections live.
const maxCuts = 5

// cutter stands between a client and the server. It breaks a connection after a
// number of bytes from the server, wherever in a frame that is.
type cutter struct {
	listener net.Listener
	server   string
	after    int64
	cuts     atomic.Int64
}

func newCutter(t *testing.T, server string, after int64) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: l, server: server, after: after}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { c.pass(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		conns.Wait()
	})
	return c
}

// pass serves one connection; the next comes when it is over.
func (c *cutter) pass(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", c.server)
	if err != nil {
		return // It was killed.
	}
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	})
	if c.cuts.Load() == maxCuts {
		_, _ = io.Copy(client, server)
	} else if _, err := io.CopyN(client, server, c.after); err == nil {
		c.cuts.Add(1)
	}
	_ = client.Close()
	up.Wait()
}
