package wire_test

import (
	"strings"
	"testing"

	"github.com/parley-im/parley/internal/wire"
)

// FuzzOrigin: an origin that is understood is written in one way, and is the
// server's own only if the Host names the same place.
func FuzzOrigin(f *testing.F) {
	for _, seed := range [][2]string{
		{"http://localhost/", "127.0.0.1:8080"},
		{"HTTPS://A.example:443", "a.example"},
		{"http://[::1]:80", "[::1]"},
		{"http://a@b", "b"},
		{"http://a.example.b", "a.example"},
		{"null", ""},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, origin, host string) {
		admitted := new(wire.Policy).CheckOrigin(origin, host, false) == nil
		o, err := wire.ParseOrigin(origin)
		if err != nil {
			if admitted {
				t.Errorf("%q is admitted and is no origin", origin)
			}
			return
		}
		if again, err := wire.ParseOrigin(o.String()); err != nil || again != o {
			t.Errorf("%q is read as %v, and that as %v, %v", origin, o, again, err)
		}
		scheme, _, _ := strings.Cut(o.String(), "://")
		place, err := wire.ParseOrigin(scheme + "://" + host)
		own := err == nil && place == o && !strings.HasSuffix(host, "/") && (scheme == "http" || scheme == "https")
		if admitted != own {
			t.Errorf("origin %q at host %q: admitted %v, want %v", origin, host, admitted, own)
		}
	})
}
