package console_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/cmd/parley/internal/console"
	"github.com/parley-im/parley/server/servertest"
	"github.com/parley-im/parley/test/tcpproxy"
)

// TestReconnect breaks the connection of a console that a person uses: the
// subscription goes on where it was, without a gap or a repetition.
func TestReconnect(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	p := tcpproxy.Start(t, strings.TrimPrefix(s.URL, "http://"))
	c := start(t, console.Options{URL: "ws://" + p.Addr() + "/stream/", Interactive: true})
	c.enter(t, "+ /r 0\n")
	c.wait(t, "#subscribed-to /r")
	publish(t, s.URL, "/r/below", 1, 3)
	c.wait(t, ": 3\n")
	p.Shut()
	publish(t, s.URL, "/r/below", 4, 6)
	p.Open()
	c.wait(t, ": 6\n")
	publish(t, s.URL, "/r/below", 7, 7)
	c.wait(t, ": 7\n")
	c.enter(t, "- /r\n") // the speaker is at the new connection
	c.wait(t, "#canceled /r")
	c.in.Close() // for a person, not the end
	c.cancel()
	if err := <-c.ended; err != nil {
		t.Errorf("an interrupted console ends with %v", err)
	}
	var got []string
	for line := range strings.SplitSeq(c.out.String(), "\n") {
		if body, ok := strings.CutPrefix(line, ": "); ok {
			got = append(got, body)
		}
	}
	if text := strings.Join(got, " "); text != "1 2 3 4 5 6 7" {
		t.Errorf("it prints %q, want every message once and in order", text)
	}
}

// TestLostAnswer breaks the connection of a script between a command and its
// answer: the script is told, and the command is not repeated.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	p := tcpproxy.Start(t, strings.TrimPrefix(s.URL, "http://"))
	c := start(t, console.Options{URL: "ws://" + p.Addr() + "/stream/"})
	c.enter(t, "> /l\n\none\n")
	c.wait(t, "#send")
	p.Mute(true)
	c.enter(t, "> /l\n\ntwo\n")
	stored(t, s.URL, "/l", 2)
	p.Shut()
	p.Mute(false)
	p.Open()
	c.waitTimes(t, "#connected", 2)
	c.enter(t, "> /l\n\nthree\n")
	c.in.Close()
	err := <-c.ended
	if !errors.Is(err, parley.ErrUnavailable) || !strings.Contains(err.Error(), "1 commands") {
		t.Errorf("it ends with %v, want to be told of 1 command", err)
	}
	if got := strings.Join(stored(t, s.URL, "/l", 3), " "); got != "one two three" {
		t.Errorf("the topic holds %q", got)
	}
}

func publish(t *testing.T, url string, topic parley.Topic, from, to int) {
	t.Helper()
	c, err := client.Dial(t.Context(), url, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := from; i <= to; i++ {
		if _, err := c.Publish(t.Context(), parley.Message{Topic: topic, Body: []byte(fmt.Sprint(i))}); err != nil {
			t.Fatal(err)
		}
	}
}

// talk is a console at work.
type talk struct {
	in     *io.PipeWriter
	out    *record
	cancel context.CancelFunc
	ended  chan error
}

func start(t *testing.T, o console.Options) *talk {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	in, typing := io.Pipe()
	c := &talk{in: typing, out: newRecord(), cancel: cancel, ended: make(chan error, 1)}
	o.In, o.Out, o.Logger = in, c.out, slog.New(slog.NewTextHandler(t.Output(), nil))
	go func() { c.ended <- console.Run(ctx, o) }()
	t.Cleanup(func() {
		cancel()
		typing.Close()
	})
	return c
}

func (c *talk) enter(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(c.in, text); err != nil {
		t.Fatal(err)
	}
}

// wait waits until something has been printed.
func (c *talk) wait(t *testing.T, text string) {
	t.Helper()
	c.waitTimes(t, text, 1)
}

func (c *talk) waitTimes(t *testing.T, text string, n int) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		more := c.out.changed()
		if strings.Count(c.out.String(), text) >= n {
			return
		}
		select {
		case <-more:
		case err := <-c.ended:
			t.Fatalf("it ends with %v before it prints %q:\n%s", err, text, c.out)
		case <-limit:
			t.Fatalf("it never prints %q:\n%s", text, c.out)
		}
	}
}

// record is what was printed, and a channel that is closed when more is.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func newRecord() *record { return &record{more: make(chan struct{})} }

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.more)
	r.more = make(chan struct{})
	return r.text.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func (r *record) changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.more
}
