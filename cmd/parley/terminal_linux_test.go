package main_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/server/servertest"
)

// TestClientOnTerminal types at "parley client": it prompts, goes on printing
// when the input ends, shows no control characters, and Ctrl-C ends it well.
func TestClientOnTerminal(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	desk, tty := openTerminal(t)
	c := exec.CommandContext(t.Context(), "parley", "client", "--url", s.Gobbler, "--user", "ann", "+ /t")
	c.Stdin, c.Stdout, c.Stderr = tty, tty, tty
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	_ = tty.Close()
	screen := watch(desk)

	screen.wait(t, "#subscribed-to /t")
	for _, step := range []struct{ enter, want string }{
		{"?\n", "## Commands"},
		{"> /t\n", "header: "},
		{"{\"a\":1}\n", "body: "},
		{"  good evening \n", "ann: good evening\r\n"},
		{"\x04", ""}, // Ctrl-D, the end of the input
	} {
		if _, err := desk.WriteString(step.enter); err != nil {
			t.Fatal(err)
		}
		screen.wait(t, step.want)
	}
	p, err := client.Dial(t.Context(), s.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Publish(t.Context(), parley.Message{Topic: "/t", Body: []byte("still\x1b[2Jhere")}); err != nil {
		t.Fatal(err)
	}
	screen.wait(t, "still\uFFFD[2Jhere")
	if _, err := desk.WriteString("\x03"); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("it ends with %v, want exit code 0", err)
	}
}

// openTerminal opens a pseudo-terminal: the end where somebody sits, and the one
// for a program.
func openTerminal(t *testing.T) (desk, tty *os.File) {
	t.Helper()
	desk, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { desk.Close() })
	fd := int(desk.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Skipf("pseudo-terminal: %v", err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("pseudo-terminal: %v", err)
	}
	return desk, tty
}

// screen is all that a program has written to its terminal.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // closed when there is more
}

// watch reads until the terminal is closed.
func watch(desk *os.File) *screen {
	s := &screen{more: make(chan struct{})}
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := desk.Read(buf)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.text.Write(buf[:n])
			close(s.more)
			s.more = make(chan struct{})
			s.mu.Unlock()
		}
	}()
	return s
}

func (s *screen) wait(t *testing.T, want string) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		s.mu.Lock()
		text, more := s.text.String(), s.more
		s.mu.Unlock()
		if strings.Contains(text, want) {
			return
		}
		select {
		case <-more:
		case <-limit:
			t.Fatalf("the terminal never shows %q:\n%s", want, text)
		}
	}
}
