package wire_test

import (
	"errors"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/wire"
)

func TestCheckOrigin(t *testing.T) {
	t.Parallel()
	listed, err := wire.ParseOrigin("https://App.Example.com")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		origin, host    string
		tls             bool
		plain, open, by bool // admitted: by the zero policy, by an open one, by the list
	}{
		{origin: "http://chat.example.com", host: "chat.example.com", plain: true, open: true, by: true},
		{origin: "http://chat.example.com/", host: "chat.example.com", plain: true, open: true, by: true},
		{origin: "http://chat.example.com:80", host: "chat.example.com", plain: true, open: true, by: true},
		{origin: "http://Chat.Example.COM", host: "cHAT.example.com", plain: true, open: true, by: true},
		{origin: "http://chat.example.com:8080", host: "chat.example.com:8080", plain: true, open: true, by: true},
		{origin: "https://chat.example.com", host: "chat.example.com", plain: true, open: true, by: true},
		{origin: "https://chat.example.com", host: "chat.example.com", tls: true, plain: true, open: true, by: true},
		{origin: "http://[2001:db8::1]:8080", host: "[2001:DB8:0::1]:8080", plain: true, open: true, by: true},
		// Another scheme, port or host.
		{origin: "http://chat.example.com", host: "chat.example.com", tls: true},
		{origin: "http://chat.example.com:81", host: "chat.example.com"},
		{origin: "https://chat.example.com", host: "chat.example.com:80"},
		{origin: "http://example.com", host: "chat.example.com"},
		{origin: "http://chat.example.com.evil.com", host: "chat.example.com"},
		{origin: "http://evilchat.example.com", host: "chat.example.com"},
		{origin: "http://chat.example.com:80.evil.com", host: "chat.example.com"},
		{origin: "ftp://chat.example.com", host: "chat.example.com"},
		// Not an origin.
		{origin: "null", host: "null"},
		{origin: "", host: ""},
		{origin: "http://", host: ""},
		{origin: "chat.example.com", host: "chat.example.com"},
		{origin: "http://evil.com@chat.example.com", host: "chat.example.com"},
		{origin: "http://chat.example.com@evil.com", host: "chat.example.com"},
		{origin: "http://chat.example.com/path", host: "chat.example.com"},
		{origin: "http://chat.example.com//", host: "chat.example.com"},
		{origin: "http://chat.example.com?q", host: "chat.example.com"},
		{origin: "http://chat.example.com#f", host: "chat.example.com"},
		{origin: "http://chat.example.com\\@evil.com", host: "chat.example.com"},
		{origin: "http://chat.example.com, http://evil.com", host: "chat.example.com"},
		{origin: "http://chat.example.com:", host: "chat.example.com"},
		{origin: "http://chat.example.com:0", host: "chat.example.com:0"},
		{origin: "http://chat.example.com:65616", host: "chat.example.com:80"},
		{origin: "http://chàt.example.com", host: "chàt.example.com"},
		{origin: "http://[::1%25eth0]", host: "[::1%25eth0]"},
		{origin: "http://[::1", host: "[::1"},
		// Loopback.
		{origin: "http://localhost/", host: "127.0.0.1:8080", open: true},
		{origin: "http://localhost:3000", host: "127.0.0.1:8080", open: true},
		{origin: "https://LOCALHOST:3000", host: "127.0.0.1:8080", open: true},
		{origin: "http://127.0.0.1:5173", host: "localhost:8080", open: true},
		{origin: "http://127.8.9.1", host: "localhost:8080", open: true},
		{origin: "http://[::1]", host: "localhost:8080", open: true},
		{origin: "http://localhost.evil.com", host: "localhost:8080"},
		{origin: "http://127.0.0.1.evil.com", host: "localhost:8080"},
		{origin: "http://128.0.0.1", host: "localhost:8080"},
		{origin: "http://0.0.0.0", host: "localhost:8080"},
		{origin: "http://user@localhost", host: "localhost:8080"},
		{origin: "file://localhost", host: "localhost:8080"},
		// The list.
		{origin: "https://app.example.com", host: "chat.example.com", by: true},
		{origin: "https://APP.example.com:443/", host: "chat.example.com", by: true},
		{origin: "http://app.example.com", host: "chat.example.com"},
		{origin: "https://app.example.com:8443", host: "chat.example.com"},
		{origin: "https://app.example.com.evil.com", host: "chat.example.com"},
		{origin: "https://evilapp.example.com", host: "chat.example.com"},
		{origin: "https://xn.app.example.com", host: "chat.example.com"},
	} {
		for policy, want := range map[*wire.Policy]bool{
			{}: c.plain, {Open: true}: c.open, {Origins: []wire.Origin{listed}}: c.by,
		} {
			err := policy.CheckOrigin(c.origin, c.host, c.tls)
			if (err == nil) != want {
				t.Errorf("origin %q at host %q (TLS %v), %+v: got %v, want admitted %v", c.origin, c.host, c.tls, *policy, err, want)
			}
			if err != nil && !errors.Is(err, parley.ErrForbidden) {
				t.Errorf("origin %q: %v is not ErrForbidden", c.origin, err)
			}
		}
	}
}

func TestCheckHost(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"localhost": true, "localhost:8080": true, "LocalHost": true, "127.0.0.1": true, "127.0.0.1:8080": true,
		"127.200.3.4:1": true, "[::1]": true, "[::1]:8080": true, "[::ffff:127.0.0.1]": true,
		"": false, ":8080": false, "evil.com": false, "evil.com:8080": false, "localhost.evil.com": false,
		"127.0.0.1.evil.com": false, "evil-localhost": false, "127.0.0.1@evil.com": false, "localhost@evil.com:80": false,
		"10.0.0.1": false, "0.0.0.0": false, "[::]": false, "::1": false, "[::1%lo]": false, "[::2]": false, "[::1]x": false,
		"2130706433": false, "127.1": false, "localhost:": false, "localhost:x": false, "localhost:99999": false,
	} {
		if err := (&wire.Policy{Open: true}).CheckHost(host); (err == nil) != want {
			t.Errorf("open, host %q: got %v, want admitted %v", host, err, want)
		}
		if err := (&wire.Policy{}).CheckHost(host); err != nil {
			t.Errorf("not open, host %q: got %v", host, err)
		}
	}
}

func TestParseOrigin(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"HTTPS://Example.com": "https://example.com:443", "http://[::1]:80/": "http://[::1]:80", "capacitor://localhost": "capacitor://localhost",
	} {
		if o, err := wire.ParseOrigin(in); err != nil || o.String() != want {
			t.Errorf("%q: got %v, %v, want %s", in, o, err, want)
		}
	}
	for _, in := range []string{"", "*", "https://*.example.com", "example.com", "https://example.com/x", "null"} {
		if o, err := wire.ParseOrigin(in); !errors.Is(err, parley.ErrInvalid) {
			t.Errorf("%q: got %v, %v, want ErrInvalid", in, o, err)
		}
	}
}
