package crash_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

// conn is a WebSocket spoken by hand, so that the server is not tested with its
// own code. One goroutine uses it.
type conn struct {
	net.Conn
	r *bufio.Reader
	w *bufio.Writer
}

// errRefused is a server that is there and does not want to.
var errRefused = errors.New("refused")

// talk runs a conversation on a connection to path. That the server goes away
// before or during it is no error: the test kills it.
func talk(address, path string, conversation func(c *conn) error) error {
	c, err := dial(address, path)
	switch {
	case errors.Is(err, errRefused):
		return err
	case err != nil:
		return nil
	}
	defer func() { _ = c.Close() }()
	return conversation(c)
}

// dial connects to path at address.
func dial(address, path string) (*conn, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	ws := &conn{Conn: c, r: bufio.NewReaderSize(c, 64<<10), w: bufio.NewWriterSize(c, 64<<10)}
	if err := ws.upgrade(address, path); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("upgrade %s: %w", path, err)
	}
	return ws, nil
}

func (c *conn) upgrade(address, path string) error {
	_, err := fmt.Fprintf(c.Conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", path, address)
	if err != nil {
		return err
	}
	status, err := c.r.ReadString('\n')
	if err == nil && !strings.Contains(status, " 101 ") {
		return fmt.Errorf("%w: status %q", errRefused, status)
	}
	for line := ""; err == nil && line != "\r\n"; {
		line, err = c.r.ReadString('\n')
	}
	return err
}

// send buffers one text frame. Its mask is zero: the payload stays as it is.
func (c *conn) send(payload string) error {
	head := []byte{0x81}
	if n := len(payload); n < 126 {
		head = append(head, 0x80|byte(n))
	} else {
		head = binary.BigEndian.AppendUint16(append(head, 0x80|126), uint16(n))
	}
	if _, err := c.w.Write(append(head, 0, 0, 0, 0)); err != nil {
		return err
	}
	_, err := c.w.WriteString(payload)
	return err
}

// next reads one message. A ping needs no answer from so short a life.
func (c *conn) next() (string, error) {
	for {
		head := make([]byte, 2)
		if _, err := io.ReadFull(c.r, head); err != nil {
			return "", err
		}
		size, extra := int(head[1]&0x7f), 0
		switch size {
		case 126:
			extra = 2
		case 127:
			extra = 8
		}
		long := make([]byte, 8)
		if _, err := io.ReadFull(c.r, long[8-extra:]); err != nil {
			return "", err
		}
		if extra > 0 {
			size = int(binary.BigEndian.Uint64(long))
		}
		payload := make([]byte, size)
		if _, err := io.ReadFull(c.r, payload); err != nil {
			return "", err
		}
		switch op := head[0] & 0x0f; {
		case head[0]&0x80 == 0 || head[1]&0x80 != 0:
			return "", fmt.Errorf("frame header %x: fragmented or masked", head)
		case op == 1 || op == 2:
			return string(payload), nil
		case op == 8:
			return "", io.EOF
		}
	}
}
