package wire_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/wire"
)

// roundTrip sends frames of many sizes both as text and bytes and wants them
// back in order.
func roundTrip(t *testing.T, c wire.Conn) {
	t.Helper()
	var want []wire.Frame
	var out []byte
	for _, n := range []int{0, 1, 125, 126, 1000, 65535, 65536, 1 << 20} {
		for _, text := range []bool{false, true} {
			f := wire.Frame{Text: text, Payload: []byte(strings.Repeat("x", n))}
			want = append(want, f)
			out = c.AppendFrame(out, f.Text, f.Payload)
		}
	}
	var writer sync.WaitGroup
	defer writer.Wait()
	writer.Go(func() {
		if err := c.Write(out); err != nil {
			t.Error(err)
		}
	})
	for len(want) > 0 {
		frames, err := c.Read()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range frames {
			if f.Text != want[0].Text || string(f.Payload) != string(want[0].Payload) {
				t.Fatalf("got %d bytes, text %v; want %d, %v", len(f.Payload), f.Text, len(want[0].Payload), want[0].Text)
			}
			want = want[1:]
		}
	}
}

func TestDial(t *testing.T) {
	t.Parallel()
	server := serve(t, &wire.Config{}, echo)
	for _, scheme := range []string{"ws", "http", "HTTP"} {
		c, err := wire.Dial(t.Context(), scheme+"://"+server.addr+"/a?b=c", nil)
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, c)
		if got := c.Remote().String(); got != server.addr {
			t.Errorf("Remote is %s, want %s", got, server.addr)
		}
		if err := c.Close(4321, "done"); err != nil {
			t.Error(err)
		}
		endedWith(t, server.err(t), 4321, "done")
	}
}

// TestTLS goes through connections that are not sockets, on both sides.
func TestTLS(t *testing.T) {
	t.Parallel()
	cfg := &wire.Config{Keeper: new(wire.Keeper)}
	var tasks sync.WaitGroup
	ended := make(chan error, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w, err := wire.Upgrade(rw, r, cfg)
		if err != nil {
			t.Error(err)
			return
		}
		tasks.Go(func() { ended <- echo(w) })
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	defer server.Close()
	secure := server.Client().Transport.(*http.Transport).TLSClientConfig
	for _, scheme := range []string{"wss", "https"} {
		c, err := wire.DialTLS(t.Context(), scheme+"://"+server.Listener.Addr().String(), http.Header{}, &tls.Config{RootCAs: secure.RootCAs})
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, c)
		c.Close(wire.CloseNormal, "")
		endedWith(t, <-ended, 1000, "")
	}
	tasks.Wait()
	if _, err := wire.Dial(t.Context(), "wss://"+server.Listener.Addr().String(), nil); err == nil {
		t.Error("a certificate that nobody vouches for was accepted")
	}
}

// TestDialHeader: what the caller adds is sent.
func TestDialHeader(t *testing.T) {
	t.Parallel()
	var got http.Header
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		got = r.Header
		rw.WriteHeader(http.StatusTeapot)
	}))
	defer server.Close()
	_, err := wire.Dial(t.Context(), server.URL, http.Header{"Authorization": {"Bearer x"}})
	if status := wire.StatusError(0); !errors.As(err, &status) || status != http.StatusTeapot {
		t.Errorf("got %v, want status 418", err)
	}
	if got.Get("Authorization") != "Bearer x" || got.Get("Origin") != "" {
		t.Errorf("the request had %v", got)
	}
}

// TestDialErrors: what cannot be dialled says why, and never the query, which
// may hold a token.
func TestDialErrors(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]error{
		"127.0.0.1:1?token=secret":        parley.ErrInvalid,
		"":                                parley.ErrInvalid,
		"ftp://127.0.0.1/?token=secret":   parley.ErrInvalid,
		"ws:///path?token=secret":         parley.ErrInvalid,
		"ws://%zz/?token=secret":          parley.ErrInvalid,
		"ws://127.0.0.1:1/?token=secret":  nil,
		"wss://127.0.0.1:1/?token=secret": nil,
	} {
		_, err := wire.Dial(t.Context(), address, nil)
		if err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%q: got %v, want %v", address, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%v tells the secret", err)
		}
	}
}

// answer accepts one connection, reads its request and writes an answer.
func answer(t *testing.T, response func(key string) string) (url string, conns <-chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 1)
	var tasks sync.WaitGroup
	t.Cleanup(func() { l.Close(); tasks.Wait() })
	tasks.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := io.WriteString(conn, response(r.Header.Get("Sec-WebSocket-Key"))); err != nil {
			t.Error(err)
		}
		accepted <- conn
	})
	return "ws://" + l.Addr().String(), accepted
}

func switching(key string) string {
	var b strings.Builder
	_, _ = ws.Upgrader{}.Upgrade(struct {
		io.Reader
		io.Writer
	}{strings.NewReader(strings.Replace(request(""), "dGhlIHNhbXBsZSBub25jZQ==", key, 1)), &b})
	return b.String()
}

// TestDialEarly: frames that come with the server's answer are not lost.
func TestDialEarly(t *testing.T) {
	t.Parallel()
	frames := "\x81\x01a\x81\x02bc" + "\x82\x7e\x01\x00" + strings.Repeat("d", 100)
	url, conns := answer(t, func(key string) string { return switching(key) + frames })
	c, err := wire.Dial(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	server := <-conns
	if _, err := io.WriteString(server, strings.Repeat("d", 156)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for len(got) < 3 {
		frames, err := c.Read()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range frames {
			got = append(got, string(f.Payload))
		}
	}
	if got[0] != "a" || got[1] != "bc" || got[2] != strings.Repeat("d", 256) {
		t.Errorf("got %q", got)
	}
	server.Close()
	c.Close(wire.CloseNormal, "")
}

// TestDialMasked: a server that masks breaks the rules.
func TestDialMasked(t *testing.T) {
	t.Parallel()
	url, conns := answer(t, func(key string) string { return switching(key) + string(text("x")) })
	c, err := wire.Dial(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer (<-conns).Close()
	_, err = c.Read()
	endedWith(t, err, 1002, "incorrect mask flag")
}

// TestDialCancelled: Dial ends with its context.
func TestDialCancelled(t *testing.T) {
	t.Parallel()
	url, conns := answer(t, func(string) string { return "HTTP/1.1 101 Sw" })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := wire.Dial(ctx, url, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's error", err)
	}
	(<-conns).Close()
}

// TestMasks: a client's frames never look the same twice.
func TestMasks(t *testing.T) {
	t.Parallel()
	near, far := tcpPair(t)
	c := wire.NewClientEnd(near, &wire.Config{Keeper: new(wire.Keeper)})
	s := wire.NewServerEnd(far, &wire.Config{Keeper: new(wire.Keeper)})
	seen := make(map[string]bool)
	for range 1000 {
		seen[string(c.AppendFrame(nil, true, []byte("hello")))] = true
	}
	if len(seen) < 990 {
		t.Errorf("only %d of 1000 frames differ", len(seen))
	}
	if c.Name() == s.Name() {
		t.Error("both framings have one name")
	}
}
