//go:build unix

package main

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
)

// daemon is "parley serve" with a configuration file and a log in files.
type daemon struct {
	*exec.Cmd
	config, log string
}

// waitFor waits until the log, from its byte begin on, has all of these texts,
// and returns what it has.
func (d *daemon) waitFor(t *testing.T, begin int, texts ...string) string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(10 * time.Millisecond) {
		log, err := os.ReadFile(d.log)
		if err != nil {
			t.Fatal(err)
		}
		missing := ""
		for _, text := range texts {
			if !strings.Contains(string(log[begin:]), text) {
				missing = text
			}
		}
		if missing == "" {
			return string(log[begin:])
		}
		if time.Now().After(deadline) {
			t.Fatalf("the log never says %q:\n%s", missing, log[begin:])
		}
	}
}

// hangup changes the configuration, sends SIGHUP, and returns what is logged.
func (d *daemon) hangup(t *testing.T, lines string, texts ...string) string {
	t.Helper()
	before, err := os.ReadFile(d.log)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.config, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	return d.waitFor(t, len(before), texts...)
}

// TestHangup sends SIGHUP to the real command: it goes on with what can change,
// names what cannot, and keeps what it has when the file is wrong. Nobody is
// disconnected.
func TestHangup(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := &daemon{config: filepath.Join(dir, "parley.yaml"), log: filepath.Join(dir, "log")}
	if err := os.WriteFile(d.config, []byte("max-connections: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(d.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	d.Cmd = exec.Command("parley", "serve", "--http", "127.0.0.1:0", "--ms", "memory", "--log", "info", "--config", d.config)
	d.Stderr = log
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Process.Kill() }() // it may have ended
	_, url, _ := strings.Cut(d.waitFor(t, 0, `"msg":"serving"`, "\n"), `"url":"`)
	url, _, _ = strings.Cut(url, `"`)

	c, err := client.Dial(t.Context(), url, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := d.hangup(t, "max-connections: 2\ntail: 2MiB\nlog: debug\n",
		"configuration reloaded", "max-connections: 2", "next start only", "tail: 2MiB"); strings.Contains(got, "log: debug") {
		t.Errorf("a file wins over a flag:\n%s", got)
	}
	second, err := client.Dial(t.Context(), url, client.Options{})
	if err != nil {
		t.Fatalf("with the new limit: %v", err)
	}
	defer second.Close()
	d.hangup(t, "max-connections: none\nmax-conections: 3\n", "line 1 max-connections", "line 2: unknown key", "the old one stays")
	if _, err := c.Publish(t.Context(), parley.Message{Topic: "/a", Body: []byte("x")}); err != nil {
		t.Error(err)
	}
	resp, err := http.Get(url + "/admin/metrics")
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil || !strings.Contains(string(metrics), "parley_sessions 2\n") || strings.Contains(string(metrics), "parley_sessions_closed_total{") {
		t.Errorf("a client was disconnected, %v:\n%s", err, metrics)
	}
	if err := d.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := d.Wait(); err != nil {
		t.Errorf("the server ends with %v", err)
	}
}
