package crash_test

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"
)

// build makes the server's binary.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "parley")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../cmd/parley")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// process is one run of the server.
type process struct {
	cmd  *exec.Cmd
	out  *output
	gone chan struct{} // closed when it has ended
}

// start runs the server on a free port over the world's store, and returns when
// it listens.
func (w *world) start(ctx context.Context, t *testing.T) (p *process, address string) {
	t.Helper()
	p, address, err := w.launch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return p, address
}

// launch is start for a server that may fail.
func (w *world) launch(ctx context.Context) (p *process, address string, err error) {
	command := append(slices.Clone(w.under), w.binary, "serve", "--http", "127.0.0.1:0", "--storage-path", w.dir)
	command = append(command, w.args...)
	p = &process{
		cmd: exec.CommandContext(ctx, command[0], command[1:]...),
		out: &output{url: make(chan string, 1)}, gone: make(chan struct{}),
	}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		return nil, "", fmt.Errorf("start: %w", err)
	}
	go func() {
		_ = p.cmd.Wait() // How it ended is in p.cmd.ProcessState.
		close(p.gone)
	}()
	select {
	case address = <-p.out.url:
		return p, address, nil
	case <-p.gone:
		return p, "", fmt.Errorf("the server ended: %v\n%s", p.cmd.ProcessState, p.out)
	case <-time.After(30 * time.Second):
		p.kill()
		return p, "", fmt.Errorf("the server does not listen within 30 s:\n%s", p.out)
	}
}

// kill ends the process as kill -9 does, and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.gone
}

// output keeps what a process prints, and finds the address it listens on.
type output struct {
	url chan string

	mu    sync.Mutex // guards what follows
	text  bytes.Buffer
	found bool
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.text.Write(p)
	if !o.found {
		line := regexp.MustCompile(`listening.*?https?://([^\s"/]+)`).FindSubmatch(o.text.Bytes())
		if line != nil {
			o.found = true
			o.url <- string(line[1])
		}
	}
	return n, err
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return fmt.Sprint("output of the server:\n", o.text.String())
}
