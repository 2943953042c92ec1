package people_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/parley-im/parley/client"
)

// server is the real program, which can be killed and started again at the same
// address.
type server struct {
	t       *testing.T
	dir     string
	address string // host:port, once it is known
	cmd     *exec.Cmd
	gone    chan struct{}
	log     *output
}

// program is the real program, which TestMain builds.
var program string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "parley-people")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program = filepath.Join(dir, "parley")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/parley").CombinedOutput(); err != nil {
		fmt.Printf("build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// newServer starts the program.
func newServer(t *testing.T, args ...string) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir(), address: "127.0.0.1:0", log: &output{url: make(chan string, 1)}}
	s.start(args...)
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Log(s.log.String())
		}
	})
	return s
}

// start runs the program until it listens.
func (s *server) start(args ...string) {
	s.t.Helper()
	s.cmd = exec.Command(program, append([]string{"serve", "--http", s.address, "--storage-path", s.dir}, args...)...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.gone = make(chan struct{})
	gone, cmd := s.gone, s.cmd
	go func() {
		_ = cmd.Wait() // it is killed
		close(gone)
	}()
	select {
	case address := <-s.log.url:
		if s.address != address { // at the first start, before anybody dials
			s.address = address
		}
	case <-gone:
		s.t.Fatalf("the server ended:\n%s", s.log)
	case <-time.After(30 * time.Second):
		s.t.Fatalf("the server does not listen:\n%s", s.log)
	}
}

// kill ends it as kill -9 does.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.gone
}

// terminate stops it with SIGTERM, and returns how long that took and the exit
// code.
func (s *server) terminate() (took time.Duration, code int) {
	s.t.Helper()
	began := time.Now()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	select {
	case <-s.gone:
	case <-time.After(time.Minute):
		s.t.Fatalf("the server does not stop:\n%s", s.log)
	}
	return time.Since(began), s.cmd.ProcessState.ExitCode()
}

// run runs a command of the program against the server, and returns what it
// printed.
func (s *server) run(args ...string) string {
	s.t.Helper()
	return command(s.t, append(args, "--server", "http://"+s.address)...)
}

// command runs a command of the program.
func command(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("parley %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// dial connects as who the token proves.
func (s *server) dial(ctx context.Context, token, device string) (*client.Client, error) {
	return dial(ctx, s.address, token, device, nil)
}

// dial connects to a server, or a proxy before it, at host:port, as who the token
// proves. The logger may be nil.
func dial(ctx context.Context, address, token, device string, logger *slog.Logger) (*client.Client, error) {
	return client.Dial(ctx, "http://"+address, client.Options{
		Name: "scenario/1", Device: device, Logger: logger,
		Token:   func(context.Context) (string, error) { return token, nil },
		Backoff: client.Backoff{Min: 10 * time.Millisecond, Max: 200 * time.Millisecond},
	})
}

// output keeps what the program prints, and finds where it listens.
type output struct {
	url chan string

	mu   sync.Mutex // guards what follows
	text bytes.Buffer
	told int // how far it was searched
}

var _ io.Writer = (*output)(nil)

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.text.Write(p)
	line := regexp.MustCompile(`listening on https?://([^\s"/]+)\n`).FindSubmatchIndex(o.text.Bytes()[o.told:])
	if line != nil {
		o.url <- string(o.text.Bytes()[o.told:][line[2]:line[3]])
		o.told += line[1]
	}
	return n, err
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return fmt.Sprint("output of the server:\n", o.text.String())
}
