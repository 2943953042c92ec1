package require_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/parley-im/parley/test/require"
)

// verdict is a test that notes how it was ended.
type verdict struct {
	testing.TB

	skipped, failed bool
}

func (*verdict) Helper() {}

func (v *verdict) Skipf(string, ...any) {
	v.skipped = true
	runtime.Goexit()
}

func (v *verdict) Fatalf(string, ...any) {
	v.failed = true
	runtime.Goexit()
}

// judge runs fn as a test of its own.
func judge(fn func(t testing.TB)) *verdict {
	v := &verdict{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn(v)
	}()
	<-done
	return v
}

func TestProgram(t *testing.T) {
	dir := t.TempDir()
	there := filepath.Join(dir, "there")
	if err := os.WriteFile(there, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	for _, c := range []struct {
		env, binary     string
		skipped, failed bool
	}{
		{"", "there", false, false},
		{"", "gone", true, false},
		{"other", "gone", true, false},
		{"some", "gone", true, false},
		{"it", "gone", false, true},
		{"other, it", "gone", false, true},
		{"it", "there", false, false},
	} {
		t.Setenv(require.Env, c.env)
		var path string
		v := judge(func(t testing.TB) { path = require.Program(t, "it", "elsewhere", c.binary) })
		if v.skipped != c.skipped || v.failed != c.failed || (path == there) != (c.binary == "there") {
			t.Errorf("with %q, %s: skipped %v, failed %v, found %q", c.env, c.binary, v.skipped, v.failed, path)
		}
	}
}
