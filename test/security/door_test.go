package security_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley/server"
)

// TestBeforeAuthentication (S1): whoever has not said who they are may say that,
// in one small message, and is sent away for anything else.
func TestBeforeAuthentication(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := w.key(t, "ann", []string{"all:/a"}, "").Secret
	auth := func(secret string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"auth","params":{"api_key":"` + secret + `"}}`
	}
	const (
		hello   = `{"jsonrpc":"2.0","id":0,"method":"hello","params":{"version":1}}`
		publish = `{"jsonrpc":"2.0","id":2,"method":"publish","params":{"topic":"/a","text":"before"}}`
	)
	many := make([]string, 20)
	for i := range many {
		many[i] = publish
	}
	for name, tt := range map[string]struct {
		frames []string
		code   uint16
		told   string // in what is told before the end
	}{
		"publish":              {[]string{publish}, 1008, `"kind":"unauthenticated"`},
		"publish after hello":  {[]string{hello, publish}, 1008, `"kind":"unauthenticated"`},
		"subscribe":            {[]string{strings.Replace(publish, "publish", "subscribe", 1)}, 1008, ""},
		"history":              {[]string{`{"jsonrpc":"2.0","id":2,"method":"history","params":{"topic":"/a"}}`}, 1008, `"kind":"unauthenticated"`},
		"count":                {[]string{`{"jsonrpc":"2.0","id":2,"method":"count","params":{"topic":"/a"}}`}, 1008, `"kind":"unauthenticated"`},
		"send":                 {[]string{`{"jsonrpc":"2.0","id":2,"method":"msg.send","params":{"to":"ann","text":"x"}}`}, 1008, `"kind":"unauthenticated"`},
		"inbox":                {[]string{`{"jsonrpc":"2.0","id":2,"method":"inbox.open"}`}, 1008, `"kind":"unauthenticated"`},
		"sessions":             {[]string{`{"jsonrpc":"2.0","id":2,"method":"session.list"}`}, 1008, `"kind":"unauthenticated"`},
		"batch":                {[]string{"[" + strings.Join(many, ",") + "]"}, 1008, ""},
		"nonsense":             {[]string{"nonsense"}, 1008, ""},
		"wrong key":            {[]string{auth("parley_wrong")}, 1008, "not accepted"},
		"wrong token":          {[]string{`{"jsonrpc":"2.0","id":1,"method":"auth","params":{"token":"a.b.c"}}`}, 1008, "not accepted"},
		"a claim":              {[]string{`{"jsonrpc":"2.0","id":1,"method":"auth","params":{"user":"ann"}}`}, 1008, "not accepted"},
		"wrong, then good":     {[]string{auth("parley_wrong"), auth(good), publish}, 1008, "not accepted"},
		"greetings for ever":   {[]string{hello, hello, hello, hello, hello, hello}, 1008, ""},
		"pings for ever":       {[]string{strings.Replace(hello, "hello", "ping", 1), hello, hello, hello, hello}, 1008, ""},
		"too big":              {[]string{`{"x":"` + strings.Repeat("x", 8<<10) + `"}`}, 1009, ""},
		"a publish, too big":   {[]string{strings.Replace(publish, "before", strings.Repeat("x", 8<<10), 1)}, 1009, ""},
		"a big one after auth": {[]string{auth("parley_wrong"), strings.Repeat("x", 9<<10)}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := w.rpc(t, "")
			var all []byte
			for _, f := range tt.frames {
				all = c.conn.AppendFrame(all, true, []byte(f))
			}
			_ = c.conn.Write(all) // all at once; the server may have closed by the end of it
			code, told := c.expectClose()
			if tt.code != 0 && code != tt.code || !strings.Contains(told, tt.told) || strings.Contains(told, `"seq"`) {
				t.Errorf("closed with %d, want %d, after %s", code, tt.code, told)
			}
		})
	}
	t.Cleanup(func() { // when all of these are over
		if got := w.ask(t, "GET /v1/count/a", good, ""); !strings.Contains(got.body, `"count":0`) {
			t.Errorf("something was stored: %s", got.body)
		}
	})
}

// TestPipelining (S1): what follows a good credential in the same packet is as
// good as if it came later, however large.
func TestPipelining(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good := w.key(t, "ann", []string{"all:/a"}, "").Secret
	c := w.rpc(t, "")
	var all []byte
	for _, f := range []string{
		`{"jsonrpc":"2.0","id":0,"method":"hello","params":{"version":1}}`,
		`{"jsonrpc":"2.0","id":1,"method":"auth","params":{"api_key":"` + good + `"}}`,
		`{"jsonrpc":"2.0","id":2,"method":"publish","params":{"topic":"/a","text":"` + strings.Repeat("x", 100<<10) + `"}}`,
		`{"jsonrpc":"2.0","id":3,"method":"count","params":{"topic":"/a"}}`,
	} {
		all = c.conn.AppendFrame(all, true, []byte(f))
	}
	if err := c.conn.Write(all); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		p, err := c.read()
		if err != nil || strings.Contains(string(p), `"error"`) {
			t.Fatalf("%s, %v", p, err)
		}
	}
}

// TestSilence (S1, S10): who says nothing, or says it slowly, has 5 seconds.
func TestSilence(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u, err := url.Parse(w.URL)
	if err != nil {
		t.Fatal(err)
	}
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for _, path := range []string{"/v1/rpc", "/"} { // native, and Titan's
		for name, drip := range map[string]string{"nothing": "", "pings": "\x89\x80\x00\x00\x00\x00", "a message, byte by byte": "x"} {
			waiting.Go(func() {
				took, err := linger(u.Host, path, drip)
				if err != nil || took < 4*time.Second || took > 8*time.Second {
					t.Errorf("%s, %s: the server ends it after %v, %v; want 5 s", path, name, took, err)
				}
			})
		}
	}
}

// handshake upgrades.
func handshake(host, path string) (net.Conn, *bufio.Reader, error) {
	c, err := net.DialTimeout("tcp", host, patience)
	if err != nil {
		return nil, nil, err
	}
	_ = c.SetDeadline(time.Now().Add(2 * patience))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", path, host)
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil) //nolint:bodyclose // the connection is the body
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = errors.New(resp.Status)
	}
	if err != nil {
		_ = c.Close()
	}
	return c, r, err
}

// linger upgrades and then says a little again and again; it returns when the
// server ends the connection.
func linger(host, path, drip string) (time.Duration, error) {
	c, r, err := handshake(host, path)
	if err != nil {
		return 0, err
	}
	var first []byte
	if drip == "x" {
		first = []byte("\x81\xfe\x00\xff\x00\x00\x00\x00")
	}
	return overSlowly(c, r, first, drip)
}

// overSlowly says first, and then drip again and again until the server says
// goodbye or ends the connection, and how long that took.
func overSlowly(c net.Conn, r *bufio.Reader, first []byte, drip string) (time.Duration, error) {
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(2 * patience))
	began := time.Now()
	_, _ = c.Write(first)
	ended := make(chan struct{})
	var dripping sync.WaitGroup
	defer dripping.Wait()
	dripping.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				_, _ = io.WriteString(c, drip)
			}
		}
	})
	defer close(ended)
	for {
		b, err := r.ReadByte()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return time.Since(began), err
		}
		if err != nil || b == 0x88 {
			return time.Since(began), nil // closed, or reset because something was unread
		}
	}
}

// TestNoCompressionForStrangers (S1, S8): compression is agreed to with those
// only who have said at the handshake who they are.
func TestNoCompressionForStrangers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) { c.HTTP.Compression = true })
	good := w.key(t, "ann", nil, "").Secret
	for secret, want := range map[string]bool{"": false, good: true} {
		got := w.ask(t, "GET /v1/rpc", secret, "", "Upgrade", "websocket", "Connection", "Upgrade", "Sec-WebSocket-Version", "13",
			"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Extensions", "permessage-deflate")
		if agreed := got.header.Get("Sec-WebSocket-Extensions") != ""; got.status != 101 || agreed != want {
			t.Errorf("with a credential: %t: %d, %v", want, got.status, got.header)
		}
	}
}
