package protocoltest

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// RunShell runs the commands of a Markdown file, with environ added to the
// environment, and compares what they write with what the page says. Each block
// must succeed.
func RunShell(t *testing.T, file string, environ ...string) {
	t.Helper()
	p, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := blocksOf(file, p, func(info string) bool { return info == "sh" || info == "output" })
	if err != nil {
		t.Fatal(err)
	}
	dir, known, ran := t.TempDir(), names{}, 0
	for i, b := range blocks {
		if b.info == "output" {
			continue
		}
		ran++
		got := runBlock(t, file, dir, &b, environ)
		if i+1 == len(blocks) || blocks[i+1].info != "output" {
			continue
		}
		want := strings.Join(blocks[i+1].lines, "\n")
		if got = strings.TrimRight(got, "\n"); !known.match(want, got) {
			t.Errorf("%s:%d:\nwant %s\ngot  %s", file, blocks[i+1].line, want, got)
		}
	}
	if ran == 0 {
		t.Fatalf("%s has no commands", file)
	}
}

// runBlock runs one block and returns its stdout.
func runBlock(t *testing.T, file, dir string, b *block, environ []string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", strings.Join(b.lines, "\n"))
	c.Dir, c.Env = dir, append(os.Environ(), environ...)
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		t.Fatalf("%s:%d: %v\n%s%s", file, b.line, err, &stdout, &stderr)
	}
	return stdout.String()
}
