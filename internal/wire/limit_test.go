package wire_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/parley-im/parley/internal/wire"
)

func limited(t *testing.T, total, perAddress int) *served {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, wire.Limit(l.(*net.TCPListener), total, perAddress), &wire.Config{}, echo)
}

// from is a client with another loopback address.
func from(t *testing.T, address, to string) *client {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: patience}
	conn, err := d.DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{Conn: conn}
}

// refused reports whether the server closes the connection without a word.
func refused(t *testing.T, c *client) bool {
	t.Helper()
	_, err := io.WriteString(c, request(""))
	if err == nil {
		_, err = c.Read(make([]byte, 12))
	}
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		t.Fatal(err)
	}
	if err != nil {
		c.Close()
	}
	return err != nil
}

// eventually fails unless ok becomes true.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	limit := time.After(patience)
	for !ok() {
		select {
		case <-limit:
			t.Fatal("it never happens")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestLimitTotal(t *testing.T) {
	t.Parallel()
	s := limited(t, 2, 0)
	a, b := from(t, "127.0.0.1", s.addr), from(t, "127.0.0.2", s.addr)
	if refused(t, a) || refused(t, b) {
		t.Fatal("refused within the limit")
	}
	if !refused(t, from(t, "127.0.0.3", s.addr)) {
		t.Error("the third was let in")
	}
	a.Close()
	eventually(t, func() bool { return !refused(t, from(t, "127.0.0.3", s.addr)) })
	if !refused(t, from(t, "127.0.0.1", s.addr)) {
		t.Error("one left, two were let in")
	}
}

func TestLimitPerAddress(t *testing.T) {
	t.Parallel()
	s := limited(t, 0, 1)
	a := from(t, "127.0.0.1", s.addr)
	if refused(t, a) {
		t.Fatal("refused within the limit")
	}
	if !refused(t, from(t, "127.0.0.1", s.addr)) {
		t.Error("the second of one address was let in")
	}
	if refused(t, from(t, "127.0.0.2", s.addr)) {
		t.Error("the first of another address was refused")
	}
	a.Close()
	eventually(t, func() bool { return !refused(t, from(t, "127.0.0.1", s.addr)) })
}

// TestLimitSet: other limits hold for those who come from then on, also where
// there was none per address; nobody is closed.
func TestLimitSet(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limiter := wire.Limit(l.(*net.TCPListener), 2, 0)
	s := serveOn(t, limiter, &wire.Config{}, echo)
	a, b := from(t, "127.0.0.1", s.addr), from(t, "127.0.0.1", s.addr)
	if refused(t, a) || refused(t, b) {
		t.Fatal("refused within the limit")
	}
	limiter.Set(4, 2)
	if !refused(t, from(t, "127.0.0.1", s.addr)) {
		t.Error("those who were there do not count for the limit per address")
	}
	if refused(t, from(t, "127.0.0.2", s.addr)) {
		t.Error("refused within the new limit")
	}
	limiter.Set(1, 0)
	if !refused(t, from(t, "127.0.0.3", s.addr)) {
		t.Error("the lower limit does not hold")
	}
	b.Close()
	a.Close()
}
