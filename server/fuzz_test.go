package server_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/server"
)

// FuzzRateLimit: a rate that is read can be counted, and is written as it is read.
func FuzzRateLimit(f *testing.F) {
	for _, s := range []string{
		"publish/user=100/s:500", "publish-bytes/user=1GiB/d", "auth/address=1/h:3", "auth/user=1/s", "connect/topic=1/s", "send/topic=0/s", "send/topic=-1/s",
		"send/device=9223372036854775807/s", "send-bytes/address=8388608TiB/m", "send/user=1/s:", "send/user=1/w", "send=1/s", "/=/:", "send/user=+1/s", "send/user=01/s:1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := server.ParseRateLimit(s)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q: %q", s, err)
			}
			return
		}
		if r.Count < 1 || r.Burst < 1 || r.Per <= 0 {
			t.Fatalf("%q is %+v", s, r)
		}
		if again, err := server.ParseRateLimit(r.String()); err != nil || again != r {
			t.Fatalf("%q is %+v, written %q, and that is %+v, %v", s, r, r, again, err)
		}
	})
}

// FuzzUnits: a duration or a size that is read is not negative, and is written as
// it is read.
func FuzzUnits(f *testing.F) {
	for _, s := range []string{"90s", "1d12h", "106751d", "106752d", "-1s", "1e3s", "9223372036854775807ns", "0", "", "d", "1.5d", "1d1d", "4GiB", "8388608TiB", "8388607TiB", "-1B", "1 KiB", "+1", "0x10"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := server.ParseDuration(s); err == nil {
			if again, err := server.ParseDuration(server.FormatDuration(d)); d < 0 || err != nil || again != d {
				t.Fatalf("%q is %v, written %q, and that is %v, %v", s, d, server.FormatDuration(d), again, err)
			}
		}
		if n, err := server.ParseSize(s); err == nil {
			if again, err := server.ParseSize(server.FormatSize(n)); n < 0 || err != nil || again != n {
				t.Fatalf("%q is %d, written %q, and that is %d, %v", s, n, server.FormatSize(n), again, err)
			}
		}
	})
}

// FuzzSetting gives one setting any value: a fault, or a configuration that
// shows no secret.
func FuzzSetting(f *testing.F) {
	all := server.Settings()
	kinds := map[string]bool{}
	for i := range all {
		if kinds[all[i].Value] {
			continue
		}
		kinds[all[i].Value] = true
		for _, v := range []string{"", "a=age:1h,name=a,alg=HS256", all[i].Default + "\x00"} {
			f.Add(uint(i), v)
		}
	}
	f.Fuzz(func(t *testing.T, i uint, value string) {
		s := all[i%uint(len(all))]
		src := server.Sources{Flags: map[string][]string{s.Flag(): {value}}}
		if s.Secret {
			src = server.Sources{Environ: []string{s.Env() + "=" + value}}
		}
		if _, err := server.Load(src); err != nil && !errors.Is(err, parley.ErrInvalid) {
			t.Fatalf("%s %q: %v", s.Key, value, err)
		}
		if !s.Secret || len(value) < 20 {
			return
		}
		if shown, err := server.Effective(src); err == nil && strings.Contains(shown, value) {
			t.Fatalf("%s is shown", s.Key)
		}
	})
}

// FuzzConfigFile reads any text as a configuration: faults, or a configuration that
// is written and read again as the same one.
func FuzzConfigFile(f *testing.F) {
	for _, s := range []string{
		"http: 127.0.0.1:8080\nauth: true\n", "grant: [publish:/a, 'all:/b']\n", "rate:\n  - send/user=1/s\n", "http: [a]\n", "http: a\nhttp: b\n", "a: &a [*a]\n",
		"none: 1\n", "max-message: 1GiB\n", "- a\n", "? {a: b}\n: c\n", "\xff", "!!binary aGk=", "a: b: c", "--- a\n--- b\n", "auth: yes\n", "http: ~\n",
	} {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		name := filepath.Join(dir, "parley.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Load(server.Sources{File: name}); err != nil {
			if !errors.Is(err, parley.ErrInvalid) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if _, err := server.Effective(server.Sources{File: name}); err != nil {
			t.Fatalf("%q is read, but not shown: %v", text, err)
		}
	})
}
