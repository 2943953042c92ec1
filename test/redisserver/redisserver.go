// Package redisserver starts real Redis servers and Sentinels for tests, on free
// ports of loopback, with all that they write in a directory of the test. A test
// that needs one is skipped where Redis is not installed (see package require).
package redisserver

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/parley-im/parley/test/require"
)

// Server is a Redis server or a Sentinel.
type Server struct {
	// Addr is where it listens, host:port.
	Addr string

	t       testing.TB
	args    []string
	process *exec.Cmd
	said    *bytes.Buffer
	running sync.WaitGroup
}

// Start starts a server that stores nothing, with further arguments as on its
// command line, and stops it when the test is done.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	host, port, _ := net.SplitHostPort(freeAddress(t))
	return start(t, host, port, append([]string{"--bind", host, "--port", port, "--save", "", "--appendonly", "no"}, args...)...)
}

// StartTLS starts a server that speaks TLS only, with a certificate and its key,
// which are PEM files.
func StartTLS(t testing.TB, certificate, key string) *Server {
	t.Helper()
	host, port, _ := net.SplitHostPort(freeAddress(t))
	return start(t, host, port, "--bind", host, "--port", "0", "--tls-port", port, "--save", "", "--appendonly", "no",
		"--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", certificate, "--tls-auth-clients", "no")
}

func start(t testing.TB, host, port string, args ...string) *Server {
	t.Helper()
	dir := t.TempDir()
	s := &Server{Addr: net.JoinHostPort(host, port), t: t, args: append(args, "--dir", dir)}
	s.Start()
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			t.Logf("Redis at %s said:\n%s", s.Addr, s.said)
		}
	})
	return s
}

// StartSentinels starts that many Sentinels that watch a master by a name, and
// decide together.
func StartSentinels(t testing.TB, n int, name string, master *Server) []*Server {
	t.Helper()
	host, port, _ := net.SplitHostPort(master.Addr)
	sentinels := make([]*Server, n)
	for i := range sentinels {
		at, own, _ := net.SplitHostPort(freeAddress(t))
		config := filepath.Join(t.TempDir(), "sentinel.conf")
		text := fmt.Sprintf("bind %s\nport %s\nsentinel monitor %s %s %s %d\nsentinel down-after-milliseconds %s 500\n"+
			"sentinel failover-timeout %s 5000\n", at, own, name, host, port, n, name, name)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		sentinels[i] = start(t, at, own, config, "--sentinel")
	}
	return sentinels
}

// Start starts a server again, after Stop or Kill, at the same address.
func (s *Server) Start() {
	s.t.Helper()
	binary := require.Program(s.t, "redis", "redis-server")
	s.said = new(bytes.Buffer)
	s.process = exec.CommandContext(context.WithoutCancel(s.t.Context()), binary, s.args...) //nolint:gosec // a test says which
	s.process.Stdout, s.process.Stderr = s.said, s.said
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	process := s.process
	s.running.Go(func() {
		defer close(ended)
		_ = process.Wait()
	})
	Eventually(s.t, "Redis listens", func() bool {
		select {
		case <-ended:
			s.t.Fatalf("%s has ended:\n%s", process, s.said)
		default:
		}
		c, err := dial(s.t, s.Addr)
		return err == nil && c.Close() == nil
	})
}

// Stop stops the server and waits for it.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Kill kills the server and waits for it.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// Pause stops the server from doing anything, although its connections stay;
// Resume ends that.
func (s *Server) Pause() { _ = s.process.Process.Signal(syscall.SIGSTOP) }

// Resume is described at Pause.
func (s *Server) Resume() { _ = s.process.Process.Signal(syscall.SIGCONT) }

func (s *Server) end(with syscall.Signal) {
	s.Resume()
	_ = s.process.Process.Signal(with) // it may have ended
	s.running.Wait()
}

// Ask sends a command, of words without spaces, and returns the first line of the
// answer.
func (s *Server) Ask(words ...string) string {
	s.t.Helper()
	c, err := dial(s.t, s.Addr)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = c.Close() }() // it has said all
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(c, "%s\r\n", strings.Join(words, " ")); err != nil {
		s.t.Fatal(err)
	}
	p := make([]byte, 64<<10)
	n, err := c.Read(p)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(p[:n])
}

func dial(t testing.TB, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(context.WithoutCancel(t.Context()), "tcp", address)
}

// freeAddress is one of loopback that nobody listens on.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

// patience bounds every wait.
const patience = 30 * time.Second

// Eventually polls a condition, and fails the test when it does not hold within
// half a minute.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
