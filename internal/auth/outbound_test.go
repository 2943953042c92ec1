package auth_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/auth"
)

// TestDialable (S15): what a request may be sent to, judged by the address that is
// dialled.
func TestDialable(t *testing.T) {
	for address, want := range map[string]struct{ public, private bool }{
		"8.8.8.8:443": {true, true}, "[2001:4860:4860::8888]:443": {true, true}, "1.1.1.1:80": {true, true},
		"127.0.0.1:443": {false, true}, "127.9.9.9:1": {false, true}, "[::1]:443": {false, true},
		"10.0.0.1:443": {false, true}, "172.16.0.1:443": {false, true}, "172.31.255.255:443": {false, true}, "192.168.0.1:443": {false, true},
		"[fd12::1]:443": {false, true}, "172.32.0.1:443": {true, true},
		"169.254.169.254:80": {}, "[fe80::1]:443": {}, "[fe80::1%eth0]:443": {}, "[fd00:ec2::254]:80": {},
		"0.0.0.0:443": {}, "0.1.2.3:443": {}, "[::]:443": {}, "255.255.255.255:443": {}, "224.0.0.1:443": {}, "[ff02::1]:443": {}, "240.0.0.1:443": {},
		"100.64.0.1:443": {}, "100.100.100.200:80": {}, "192.0.0.192:80": {}, "192.0.2.1:443": {}, "198.18.0.1:443": {}, "203.0.113.5:443": {},
		"[::ffff:127.0.0.1]:443": {}, "[::ffff:8.8.8.8]:443": {}, "[::127.0.0.1]:443": {}, "[64:ff9b::7f00:1]:443": {}, "[64:ff9b:1::1]:443": {},
		"[2002:7f00:1::]:443": {}, "[2001:0:1::]:443": {}, "[2001:db8::1]:443": {}, "[fec0::1]:443": {}, "[100::1]:443": {},
		"localhost:443": {}, "8.8.8.8": {}, "": {},
	} {
		for private, want := range map[bool]bool{false: want.public, true: want.private} {
			err := auth.Dialable(address, private)
			if (err == nil) != want || err != nil && !errors.Is(err, parley.ErrForbidden) {
				t.Errorf("%q, private %v: %v", address, private, err)
			}
		}
	}
}

// TestHostsInside: names and spellings of addresses inside are not reached,
// whatever the URL looks like.
func TestHostsInside(t *testing.T) {
	p := newPublisher(t)
	_, port, err := net.SplitHostPort(p.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::1]", "0", "0.0.0.0", "2130706433", "0x7f000001", "127.1", "[::]"} {
		_, err := auth.Fetch(t.Context(), auth.Reach{}, "https://"+host+":"+port+"/")
		if err == nil {
			t.Errorf("%s is fetched", host)
		}
	}
	if n := p.fetches.Load(); n != 0 {
		t.Errorf("%d requests came through", n)
	}
}

// TestRebinding: a name that means the public Internet when it is looked up first,
// and this machine later, is never reached there.
func TestRebinding(t *testing.T) {
	var looked atomic.Int64
	resolver := stubResolver(t, func(string) net.IP {
		if looked.Add(1)%2 == 1 {
			return net.IPv4(192, 0, 2, 1) // nobody answers there, and it is not dialled
		}
		return net.IPv4(127, 0, 0, 1)
	})
	p := newPublisher(t)
	_, port, err := net.SplitHostPort(p.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for range 6 {
		_, err := auth.Fetch(t.Context(), auth.Reach{Resolver: resolver}, "https://rebind.example:"+port+"/")
		if err == nil || !strings.Contains(err.Error(), "not an address of the public Internet") {
			t.Errorf("fetching says %v", err)
		}
	}
	if p.fetches.Load() != 0 || looked.Load() < 6 {
		t.Errorf("%d requests came through after %d lookups", p.fetches.Load(), looked.Load())
	}
}

// TestRedirects: within the place it is followed, a few times; elsewhere not.
func TestRedirects(t *testing.T) {
	p := newPublisher(t)
	p.serve(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/near":
			http.Redirect(w, r, "/end", http.StatusFound)
		case "/end":
			_, _ = w.Write([]byte("end"))
		case "/scheme":
			http.Redirect(w, r, "https://"+r.Host+"/end", http.StatusFound)
		case "/file":
			w.Header().Set("Location", "file:///etc/passwd")
			w.WriteHeader(http.StatusFound)
		case "/gopher":
			w.Header().Set("Location", "gopher://127.0.0.1:25/")
			w.WriteHeader(http.StatusFound)
		default:
			http.Redirect(w, r, "/loop", http.StatusFound)
		}
	})
	for path, want := range map[string]bool{"/near": true, "/scheme": false, "/file": false, "/gopher": false, "/loop": false} {
		body, err := auth.Fetch(t.Context(), auth.Reach{Private: true}, p.URL+path)
		if (err == nil) != want || want && string(body) != "end" {
			t.Errorf("%s: %q, %v", path, body, err)
		}
	}
}

// stubResolver looks every name up by asking a function, through a real DNS
// message to a real socket.
func stubResolver(t *testing.T, answer func(name string) net.IP) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = server.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := dnsReply(buf[:n], answer); reply != nil {
				_, _ = server.WriteTo(reply, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// dnsReply answers a question for an A record, and has nothing for others.
func dnsReply(query []byte, answer func(name string) net.IP) []byte {
	if len(query) < 17 {
		return nil
	}
	end, name := 12, ""
	for query[end] != 0 {
		size := int(query[end])
		name += string(query[end+1:end+1+size]) + "."
		end += size + 1
	}
	end += 5
	reply := append([]byte(nil), query[:end]...)
	reply[2], reply[3] = 0x81, 0x80
	for i := 6; i < 12; i++ {
		reply[i] = 0
	}
	if binary.BigEndian.Uint16(query[end-4:]) != 1 {
		return reply
	}
	reply[7] = 1
	reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
	return append(reply, answer(name).To4()...)
}
