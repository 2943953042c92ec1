package wire_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/test/require"
)

// npmWS skips the test unless node finds the npm package ws, a WebSocket that
// shares nothing with ours.
func npmWS(t *testing.T) {
	t.Helper()
	if err := exec.CommandContext(t.Context(), "node", "-e", "require('ws')").Run(); err != nil {
		require.Missing(t, "node", "node with the npm package ws in NODE_PATH: "+err.Error())
	}
}

func TestNPMClient(t *testing.T) {
	t.Parallel()
	npmWS(t)
	server := serve(t, &wire.Config{}, echo)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "node", "testdata/client.cjs", "ws://"+server.addr+"/").CombinedOutput()
	if err != nil || string(out) != "ok\n" {
		t.Errorf("%v\n%s", err, out)
	}
	endedWith(t, server.err(t), 4001, "done")
	endedWith(t, server.err(t), 1009, "message too big")
	endedWith(t, server.err(t), 1007, "text is not UTF-8")
}

// TestNPMDeflate: both sides compress, and a bomb, noise and bad text end as they
// should. Every other answer has a part that was compressed by itself.
func TestNPMDeflate(t *testing.T) {
	t.Parallel()
	npmWS(t)
	server := serve(t, &wire.Config{Compression: true}, func(c wire.Conn) error {
		w, n := c.(wire.Sharing), 0
		return echoAs(c, func(dst []byte, f wire.Frame) []byte {
			if n++; n%2 == 0 || len(f.Payload) < 10 {
				return w.AppendFrame(dst, f.Text, f.Payload)
			}
			head, part, tail := f.Payload[:5], f.Payload[5:len(f.Payload)-3], f.Payload[len(f.Payload)-3:]
			return w.AppendShared(dst, f.Text, head, w.Share(part), tail)
		})
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "node", "testdata/deflate.cjs", "ws://"+server.addr+"/").CombinedOutput()
	if err != nil || string(out) != "ok\n" {
		t.Errorf("%v\n%s", err, out)
	}
	for range 3 {
		endedWith(t, server.err(t), 1000, "")
	}
	endedWith(t, server.err(t), 1009, "message too big")
	endedWith(t, server.err(t), 1007, "compressed message is malformed")
	endedWith(t, server.err(t), 1007, "text is not UTF-8")
}

func TestNPMServer(t *testing.T) {
	t.Parallel()
	npmWS(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	node := exec.CommandContext(ctx, "node", "testdata/server.cjs")
	node.Stderr = os.Stderr
	stdin, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = node.Wait() }()
	defer cancel()
	r := bufio.NewReader(stdout)
	port, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}

	url := "ws://127.0.0.1:" + strings.TrimSpace(port) + "/"
	c, err := wire.Dial(ctx, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c)
	say(t, c, "fragments")
	if frames, err := c.Read(); err != nil || len(frames) != 1 || string(frames[0].Payload) != "one two" {
		t.Errorf("fragments: got %v, %v", frames, err)
	}
	say(t, c, "close me")
	_, err = c.Read()
	endedWith(t, err, 4002, "as asked")

	if c, err = wire.Dial(ctx, url, nil); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, c)
	if err := c.Close(4003, "bye"); err != nil {
		t.Error(err)
	}

	for _, want := range []string{"pong are you there", "pong between", "close 4002 ", "pong are you there", "close 4003 bye"} {
		if line, err := r.ReadString('\n'); err != nil || line != want+"\n" {
			t.Errorf("the server saw %q, %v, want %q", line, err, want)
		}
	}
	stdin.Close()
}

func say(t *testing.T, c wire.Conn, s string) {
	t.Helper()
	if err := c.Write(c.AppendFrame(nil, true, []byte(s))); err != nil {
		t.Fatal(err)
	}
}
