package console_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/cmd/parley/internal/console"
	"github.com/parley-im/parley/server/servertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run runs a console to its end and returns what it printed.
func run(t *testing.T, o console.Options) (string, error) {
	t.Helper()
	var out bytes.Buffer
	o.Out, o.Logger = &out, slog.New(slog.NewTextHandler(t.Output(), nil))
	if o.In == nil {
		o.In = strings.NewReader("")
	}
	err := console.Run(t.Context(), o)
	return out.String(), err
}

// TestSession is a session that was captured from Gobbler's own client, through
// a pipe: the order is that of the input.
func TestSession(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	if out, err := run(t, console.Options{URL: s.Gobbler, User: "guble-cli", Commands: []string{"> /cli\n\nsecond"}}); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := run(t, console.Options{
		URL: s.Gobbler, User: "pipe",
		In: strings.NewReader("+ /cli 0\n\n?\n> /cli\n{\"from\":\"stdin\"}\n  body stdin\n- /cli\ngarbage"),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`^#connected You are connected to the server\.
\{"ApplicationId": "[0-9a-v]{20}", "UserId": "pipe", "Time": "[^"]+"\}

#fetch-start /cli 1

guble-cli: second
#fetch-end /cli

#subscribed-to /cli


## Commands
\?           # print this info
(?s:.*)
header: body: #send
\{.*\}

pipe: body stdin
#canceled /cli

ERROR: !error-bad-request unknown command garbage
$`)
	if !want.MatchString(out) {
		t.Errorf("the session prints\n%s\nwant what matches\n%s", out, want)
	}
}

// TestExit leaves right after its commands, and all of them arrive.
func TestExit(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	const n = 2000
	commands := make([]string, n)
	for i := range commands {
		commands[i] = fmt.Sprintf("> /exit\n\n%d", i)
	}
	out, err := run(t, console.Options{URL: s.Gobbler, Commands: commands, Exit: true, In: unread{t}})
	if err != nil || out != "" {
		t.Fatalf("it ends with %v and prints %q, want neither", err, out)
	}
	for i, body := range stored(t, s.URL, "/exit", n) {
		if body != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, body)
		}
	}
}

// stored waits until a topic has n messages and returns their bodies.
func stored(t *testing.T, url string, topic parley.Topic, n int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, url, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var bodies []string
	for m, err := range c.Subscribe(ctx, topic, client.After(0), client.Max(n)) {
		if err != nil {
			t.Fatalf("after %d of %d messages: %v", len(bodies), n, err)
		}
		bodies = append(bodies, string(m.Body))
	}
	return bodies
}

// unread is an input that must be left alone.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the input is read")
	return 0, io.EOF
}

// TestManyLines pipes more than buffers hold, and each publish is answered.
func TestManyLines(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	const n = 5000
	var in strings.Builder
	for i := range n {
		fmt.Fprintf(&in, "> /many\n\n%d\n", i)
	}
	out, err := run(t, console.Options{URL: s.Gobbler, In: strings.NewReader(in.String())})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out, "#send\n"); got != n {
		t.Errorf("%d publishes are answered, want %d", got, n)
	}
	for i, body := range stored(t, s.URL, "/many", n) {
		if body != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, body)
		}
	}
}

// TestFaults ends with errors that say what is wrong.
func TestFaults(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	for name, test := range map[string]struct {
		o    console.Options
		kind error
	}{
		"nobody there":    {console.Options{URL: "ws://127.0.0.1:1/stream/"}, parley.ErrUnavailable},
		"no such path":    {console.Options{URL: s.URL + "/nowhere"}, parley.ErrUnavailable},
		"no URL":          {console.Options{URL: "127.0.0.1:1"}, parley.ErrInvalid},
		"an odd user":     {console.Options{URL: s.Gobbler, User: "a b"}, parley.ErrInvalid},
		"half a message":  {console.Options{URL: s.Gobbler, In: strings.NewReader("> /half\nheader")}, parley.ErrInvalid},
		"a failing input": {console.Options{URL: s.Gobbler, In: failing{}}, errBroken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := run(t, test.o); !errors.Is(err, test.kind) {
				t.Errorf("it ends with %v, want %v", err, test.kind)
			}
		})
	}
}

var errBroken = errors.New("broken")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errBroken }
