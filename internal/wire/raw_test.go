package wire_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley/internal/wire"
)

const (
	fin  = 0x80
	rsv1 = 0x40
	rsv2 = 0x20
	rsv3 = 0x10

	opMore   = 0
	opText   = 1
	opBinary = 2
	opClose  = 8
	opPing   = 9
	opPong   = 10

	patience = 10 * time.Second
)

// clientFrame is a masked frame with the shortest length; first is its first
// byte.
func clientFrame(first byte, payload []byte) []byte {
	mask := []byte{0x1b, 0xad, 0xf0, 0x0d}
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(b, mask...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	return b
}

func text(s string) []byte { return clientFrame(fin|opText, []byte(s)) }

func closing(code uint16, reason string) []byte {
	return clientFrame(fin|opClose, append(binary.BigEndian.AppendUint16(nil, code), reason...))
}

// got is a frame that a server sent; op has rsv1 in it when it is compressed.
type got struct {
	op      byte
	payload string
}

func (g got) String() string {
	if g.op == opClose && len(g.payload) >= 2 {
		return fmt.Sprintf("close %d %q", binary.BigEndian.Uint16([]byte(g.payload)), g.payload[2:])
	}
	if len(g.payload) > 100 {
		return fmt.Sprintf("op %d, %d bytes", g.op, len(g.payload))
	}
	return fmt.Sprintf("op %d %q", g.op, g.payload)
}

// serverFrame reads one frame, which must be whole, unmasked and of the
// shortest form.
func serverFrame(r *bufio.Reader) (got, error) {
	var h [10]byte
	if _, err := io.ReadFull(r, h[:2]); err != nil {
		return got{}, err
	}
	if h[0]&(fin|rsv2|rsv3) != fin || h[1]&0x80 != 0 {
		return got{}, fmt.Errorf("frame begins with % x", h[:2])
	}
	n, least := uint64(h[1]), uint64(0)
	switch h[1] {
	case 126:
		if _, err := io.ReadFull(r, h[2:4]); err != nil {
			return got{}, err
		}
		n, least = uint64(binary.BigEndian.Uint16(h[2:])), 126
	case 127:
		if _, err := io.ReadFull(r, h[2:10]); err != nil {
			return got{}, err
		}
		n, least = binary.BigEndian.Uint64(h[2:]), 1<<16
	}
	if n < least {
		return got{}, fmt.Errorf("length %d in a longer form", n)
	}
	p := make([]byte, n)
	_, err := io.ReadFull(r, p)
	return got{h[0] &^ fin, string(p)}, err
}

// echo answers every frame with itself until Read fails, and returns its error.
func echo(w wire.Conn) error {
	return echoAs(w, func(dst []byte, f wire.Frame) []byte { return w.AppendFrame(dst, f.Text, f.Payload) })
}

func echoAs(w wire.Conn, appendFrame func([]byte, wire.Frame) []byte) error {
	var out []byte
	for {
		frames, err := w.Read()
		if err != nil {
			_ = w.Close(wire.CloseNormal, "")
			return err
		}
		out = out[:0]
		for _, f := range frames {
			out = appendFrame(out, f)
		}
		if err := w.Write(out); err != nil {
			_ = w.Close(wire.CloseInternal, err.Error())
			return err
		}
	}
}

// served is a real HTTP server whose WebSockets run session.
type served struct {
	addr string
	// offer has further lines for the handshake of each client.
	offer string
	// ended has what session returned, for each connection.
	ended chan error
}

func serve(t testing.TB, cfg *wire.Config, session func(wire.Conn) error) *served {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, l, cfg, session)
}

func serveOn(t testing.TB, l net.Listener, cfg *wire.Config, session func(wire.Conn) error) *served {
	t.Helper()
	if cfg.Keeper == nil {
		cfg.Keeper = new(wire.Keeper)
	}
	s := &served{addr: l.Addr().String(), ended: make(chan error, 100)}
	var tasks sync.WaitGroup
	srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w, err := wire.Upgrade(rw, r, cfg)
		if err != nil {
			return
		}
		tasks.Go(func() { s.ended <- session(w) })
	})}
	tasks.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		srv.Close()
		tasks.Wait()
		if n := cfg.Keeper.Watched(); n != 0 {
			t.Errorf("the Keeper still watches %d connections", n)
		}
	})
	return s
}

// err is what one session returned.
func (s *served) err(t testing.TB) error {
	t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(patience):
		t.Fatal("the session does not end")
		return nil
	}
}

// request is a good handshake with further header lines, each ending in CRLF.
func request(lines string) string {
	return "GET /x HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" + lines + "\r\n"
}

// client is a client that knows no rules.
type client struct {
	net.Conn
	r *bufio.Reader
}

func connect(t testing.TB, addr string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{conn, bufio.NewReader(conn)}
}

// dial connects and upgrades, sending more right behind the request.
func (s *served) dial(t testing.TB, more ...[]byte) *client {
	t.Helper()
	c := connect(t, s.addr)
	c.send(t, append([]byte(request(s.offer)), bytes.Join(more, nil)...))
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: %s", res.Status)
	}
	return c
}

func (c *client) send(t testing.TB, p []byte) {
	t.Helper()
	if _, err := c.Write(p); err != nil {
		t.Fatal(err)
	}
}

// expect reads exactly these frames.
func (c *client) expect(t testing.TB, want ...got) {
	t.Helper()
	for i, w := range want {
		g, err := serverFrame(c.r)
		if err != nil {
			t.Fatalf("frame %d: got %v, want %v", i, err, w)
		}
		if g != w {
			t.Fatalf("frame %d: got %v, want %v", i, g, w)
		}
	}
}

// expectEnd reads the end of the stream.
func (c *client) expectEnd(t testing.TB) {
	t.Helper()
	if g, err := serverFrame(c.r); !errors.Is(err, io.EOF) {
		t.Fatalf("got %v, %v, want EOF", g, err)
	}
}

// tcpPair is a connection over loopback.
func tcpPair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}
