package chaos_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley/server/servertest"
)

// Opcodes of RFC 6455 section 5.2.
const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// The paths of the protocols over WebSocket.
const (
	rpcPath     = "/v1/rpc"
	gobblerPath = "/stream/user/chaos"
	titanPath   = "/"
	textoPath   = "/v1/texto"
)

// peer is a WebSocket client spoken by hand, because it must be able to do what
// no client should. One goroutine writes, another reads.
type peer struct {
	net.Conn
	r *bufio.Reader
	// extension is what was agreed to in the handshake.
	extension string
}

// goodbye is the server's close frame.
type goodbye struct {
	code   int
	reason string
}

func (g *goodbye) Error() string { return fmt.Sprintf("closed with %d %q", g.code, g.reason) }

// host is the address that a server listens on.
func host(s *servertest.Server) string { return strings.TrimPrefix(s.URL, "http://") }

// upgrade is a handshake as it should be.
func upgrade(host, path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
}

// connect opens a connection that says nothing yet. No wait on it exceeds
// patience.
func connect(t *testing.T, s *servertest.Server) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", host(s), patience)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// dial connects to path and shakes hands. A peer that means to stall has a small
// receive buffer, which the kernel then does not enlarge.
func dial(address, path string, receive int) (*peer, error) {
	return shake(address, upgrade(address, path), receive)
}

// shake is dial with any handshake.
func shake(address, handshake string, receive int) (*peer, error) {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	p := &peer{Conn: c, r: bufio.NewReaderSize(c, 4<<10)}
	if receive > 0 {
		err = c.(*net.TCPConn).SetReadBuffer(receive)
	}
	if err == nil {
		_, err = io.WriteString(c, handshake)
	}
	if err == nil {
		err = p.accepted()
	}
	if err != nil {
		_ = c.Close()
		line, _, _ := strings.Cut(handshake, "\r\n")
		return nil, fmt.Errorf("dial %q: %w", line, err)
	}
	return p, nil
}

// accepted reads the answer to the handshake.
func (p *peer) accepted() error {
	_ = p.SetReadDeadline(time.Now().Add(patience))
	status, err := p.r.ReadString('\n')
	if err == nil && !strings.HasPrefix(status, "HTTP/1.1 101 ") {
		return fmt.Errorf("the server answers %q", status)
	}
	for line := ""; err == nil && line != "\r\n"; {
		line, err = p.r.ReadString('\n')
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Sec-WebSocket-Extensions") {
			p.extension = strings.TrimSpace(value)
		}
	}
	return err
}

// open is dial in a test, which closes the connection in the end.
func open(t *testing.T, s *servertest.Server, path string) *peer {
	t.Helper()
	p, err := dial(host(s), path, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// frame is one frame of a client. Its mask is zero: the payload stays as it is.
func frame(op byte, payload string) []byte {
	f := []byte{0x80 | op}
	switch n := len(payload); {
	case n < 126:
		f = append(f, 0x80|byte(n))
	case n < 1<<16:
		f = binary.BigEndian.AppendUint16(append(f, 0x80|126), uint16(n))
	default:
		f = binary.BigEndian.AppendUint64(append(f, 0x80|127), uint64(n))
	}
	return append(append(f, 0, 0, 0, 0), payload...)
}

// say sends text messages, all in one write.
func (p *peer) say(payloads ...string) error {
	_ = p.SetWriteDeadline(time.Now().Add(patience))
	_, err := io.WriteString(p, texts(payloads...))
	return err
}

// next is the payload of the server's next message. It answers pings. After the
// server's goodbye the error is a *goodbye.
func (p *peer) next() (string, error) {
	if p.r.Buffered() == 0 {
		_ = p.SetDeadline(time.Now().Add(patience)) // pings do not count
	}
	for {
		op, payload, err := p.frame()
		switch {
		case err != nil:
			return "", err
		case op == opPing:
			if _, err := p.Write(frame(opPong, string(payload))); err != nil {
				return "", err
			}
		case op == opClose && len(payload) >= 2:
			return "", &goodbye{int(binary.BigEndian.Uint16(payload)), string(payload[2:])}
		case op == opClose:
			return "", &goodbye{}
		case op != opPong:
			return string(payload), nil
		}
	}
}

// frame reads one frame, which the server neither masks nor fragments.
func (p *peer) frame() (op byte, payload []byte, err error) {
	var head [10]byte
	if _, err := io.ReadFull(p.r, head[:2]); err != nil {
		return 0, nil, err
	}
	compressed := head[0]&0x40 != 0
	if head[0]&0xb0 != 0x80 || head[1]&0x80 != 0 || compressed && p.extension == "" {
		return 0, nil, fmt.Errorf("frame header %x is fragmented, masked or has reserved bits", head[:2])
	}
	size, long := uint64(head[1]), 0
	switch size {
	case 126:
		long = 2
	case 127:
		long = 8
	}
	if long > 0 {
		if _, err := io.ReadFull(p.r, head[10-long:]); err != nil {
			return 0, nil, err
		}
		clear(head[2 : 10-long])
		size = binary.BigEndian.Uint64(head[2:])
	}
	payload = make([]byte, size)
	_, err = io.ReadFull(p.r, payload)
	if err == nil && compressed {
		payload, err = inflated(payload)
	}
	return head[0] & 0x0f, payload, err
}

// reset ends the connection as rudely as can be, with a TCP reset.
func (p *peer) reset() {
	_ = p.Conn.(*net.TCPConn).SetLinger(0)
	_ = p.Close()
}

// farewell reads until the connection ends and says how: the close code, or 0
// and the error when there was none.
func (p *peer) farewell() (int, error) {
	for {
		_, err := p.next()
		if g, ok := errors.AsType[*goodbye](err); ok {
			_ = p.Close()
			return g.code, nil
		}
		if err != nil {
			return 0, err
		}
	}
}
