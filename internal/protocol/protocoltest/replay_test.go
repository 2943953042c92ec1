package protocoltest_test

import (
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-im/parley/internal/protocol/protocoltest"
	"github.com/parley-im/parley/internal/wire"
)

// An echo is a connection to a server that answers each frame with the words of
// it, a frame each, and with nothing when it is "quiet".
type echo struct {
	path   string
	frames chan wire.Frame
	closed chan struct{}
}

func open(path string) (wire.Conn, error) {
	c := &echo{path: path, frames: make(chan wire.Frame, 64), closed: make(chan struct{})}
	c.frames <- wire.Frame{Payload: []byte("hello " + path)}
	return c, nil
}

func (c *echo) AppendFrame(dst []byte, text bool, payload []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(payload))), payload...)
}
func (c *echo) Name() string     { return "echo" }
func (c *echo) Remote() net.Addr { return nil }

func (c *echo) Write(p []byte) error {
	for len(p) > 0 {
		n, k := binary.Uvarint(p)
		payload := string(p[k : k+int(n)])
		p = p[k+int(n):]
		if payload == "quiet" {
			continue
		}
		for word := range strings.FieldsSeq(payload) {
			c.frames <- wire.Frame{Text: word == "text", Payload: []byte(word)}
		}
		if payload == "bye" {
			close(c.closed)
		}
	}
	return nil
}

func (c *echo) Read() ([]wire.Frame, error) {
	select {
	case f := <-c.frames:
		return []wire.Frame{f}, nil
	case <-c.closed:
	}
	select { // what came before the end is still there
	case f := <-c.frames:
		return []wire.Frame{f}, nil
	default:
		return nil, net.ErrClosed
	}
}

func (c *echo) Close(uint16, string) error {
	select {
	case <-c.closed:
	default:
		close(c.closed)
	}
	return nil
}

func dialect() protocoltest.Dialect {
	return protocoltest.Dialect{
		Name: "echo", Probe: "probe", Answer: "$_",
		Start: func(*testing.T) protocoltest.Open { return open },
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestRunPlaysEveryTranscript(t *testing.T) {
	d := dialect()
	d.Answer = "probe"
	started := 0
	d.Start = func(*testing.T) protocoltest.Open { started++; return open }
	protocoltest.Run(t, filepath.Join("testdata", "echo.md"), d)
	if started != 3 {
		t.Errorf("%d servers were started, want one for each of 3 transcripts", started)
	}
}

// Each transcript is wrong in one way, and the error must say where and how.
func TestReplayFails(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		line         string // of the page, counting the fence as line 1
		says         []string
	}{
		{"another frame", "open /\n< hello /\n> a\n< b\n", ":5:", []string{`want "b"`, `got  "a"`}},
		{"another order", "open /\n< hello /\n> a b\n< b\n< a\n", ":5:", []string{`want "b"`, `got  "a"`}},
		{"a frame too many", "open /\n< hello /\n> a b\n< a\n", ":6:", []string{"end of the transcript", `want nothing, got "b"`}},
		{"no silence", "open /\n< hello /\n> a\n< (nothing)\n", ":5:", []string{`want nothing, got "a"`}},
		{"the end", "open /\n< hello /\n> bye\n< bye\n< more\n", ":6:", []string{`want "more"`, "the end of the connection"}},
		{"a name that changes", "open /\n< hello /\n> a b\n< $X\n< $X\n", ":6:", []string{`got  "b"`, "X:a"}},
		{"a name that changes in a frame", "open /a-b\n< hello /$X-$X\n", ":3:", []string{`got  "hello /a-b"`}},
		{"a token with a comma", "open /\n< hello /\n> a,b\n< $X\n", ":5:", []string{`got  "a,b"`}},
		{"other bytes", "open /\n< hello /\n> \"\\xff\"\n< \"\\xfe\"\n", ":5:", []string{`want "\xfe"`, `got  "\xff"`}},
		{"text for binary", "open /\n< hello /\n> text\n< text\n", ":5:", []string{"want a binary frame", "got the text frame"}},
		{"no connection", "open /\n< hello /\nA> a\n", ":4:", []string{`no connection "A"`}},
		{"opened twice", "A: open /\nA: open /\n", ":3:", []string{"open already"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := dialect()
			d.Answer = "probe"
			scripts, err := protocoltest.ReadFile(write(t, "```transcript echo\n"+tt.script+"```\n"), d.Name)
			if err != nil {
				t.Fatal(err)
			}
			err = protocoltest.Replay(scripts[0], d, open)
			if err == nil {
				t.Fatal("the replay found no fault")
			}
			for _, want := range append(tt.says, "page.md"+tt.line) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the error lacks %q: %v", want, err)
				}
			}
		})
	}
}

func TestReadFileRefuses(t *testing.T) {
	for _, tt := range []struct{ name, page, says string }{
		{"no end", "text\n```transcript echo\n> a\n", "page.md:2: the transcript has no end"},
		{"no verb", "```transcript echo\nhello\n```\n", `page.md:2: "hello" is neither`},
		{"a bad string", "```transcript echo\n> \"a\n```\n", "is not a Go string"},
		{"a continuation of nothing", "```transcript echo\n| a\n```\n", "continues no frame"},
		{"a continuation of open", "```transcript echo\nopen /\n| a\n```\n", "continues no frame"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := protocoltest.ReadFile(write(t, tt.page), "echo")
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %q", err, tt.says)
			}
		})
	}
}
