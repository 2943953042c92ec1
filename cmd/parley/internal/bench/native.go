package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/wire"
)

// dialUser opens a connection by the native protocol as a user, which ctx closes
// when it ends. The request auth is made before, so that a measurement need not
// count it.
func (l *load) dialUser(ctx context.Context, auth []byte) (wire.Conn, error) {
	return l.dialAs(ctx, "/v1/rpc", func(conn wire.Conn) error { return ask(conn, auth, `"auth"`) })
}

// dialAs opens a connection at a path, on which auth says who the client is. Ctx
// closes it when it ends.
func (l *load) dialAs(ctx context.Context, path string, auth func(wire.Conn) error) (wire.Conn, error) {
	conn, err := l.dialAt(ctx, path)
	if err != nil {
		return nil, err
	}
	if err := auth(conn); err != nil {
		return nil, errors.Join(err, conn.Close(wire.CloseNormal, ""))
	}
	l.totals.connected.Add(1)
	return conn, nil
}

// user is a name of the load's: all begin with the last segment of the prefix,
// so that two loads do not meet in one inbox.
func (c *Config) user(role string, i int) string {
	return c.Prefix[bytes.LastIndexByte([]byte(c.Prefix), '/')+1:] + "-" + role + strconv.Itoa(i)
}

// ask makes a request and waits for the answer to the id.
func ask(conn wire.Conn, request []byte, id string) error {
	if err := conn.Write(conn.AppendFrame(nil, true, request)); err != nil {
		return err
	}
	answer := []byte(`{"jsonrpc":"2.0","id":` + id + `,`)
	for {
		frames, err := conn.Read()
		if err != nil {
			return err
		}
		for _, f := range frames {
			if bytes.HasPrefix(f.Payload, answer) {
				return failed(f.Payload)
			}
		}
	}
}

// failed is the error that a frame tells, if it answers with one.
func failed(frame []byte) error {
	i := bytes.Index(frame, []byte(`,"error":{`))
	if i < 0 || i > 120 || !bytes.HasPrefix(frame, []byte(`{"jsonrpc":"2.0","id":`)) {
		return nil
	}
	return fmt.Errorf("the server says %.300s: %w", frame[i+1:], parley.ErrUnavailable)
}

// number reads the number behind the name, at or after at, and says where it
// ends; -1 when there is none.
func number(frame []byte, name string, at int) (n uint64, end int) {
	i := bytes.Index(frame[at:], []byte(name))
	if i < 0 {
		return 0, -1
	}
	for end = at + i + len(name); end < len(frame) && frame[end] >= '0' && frame[end] <= '9'; end++ {
		n = n*10 + uint64(frame[end]-'0')
	}
	return n, end
}

// letters calls fn with the seq and the text of each message of a delivery, and
// reports whether the frame is one. The texts of a load need no escaping.
func letters(frame []byte, fn func(seq uint64, text []byte) error) (bool, error) {
	if !bytes.HasPrefix(frame, []byte(`{"jsonrpc":"2.0","method":"msg.recv"`)) {
		return false, nil
	}
	for at := 0; ; {
		seq, end := number(frame, `"seq":`, at)
		if end < 0 {
			return true, nil
		}
		const name = `"text":"`
		i := bytes.Index(frame[end:], []byte(name))
		if i < 0 {
			return true, fmt.Errorf("the server sent %.200q, which is no message of this load", frame[at:])
		}
		text := frame[end+i+len(name):]
		n := bytes.IndexByte(text, '"')
		if n < 0 {
			return true, fmt.Errorf("the server sent %.200q, which has no end", frame[at:])
		}
		if err := fn(seq, text[:n]); err != nil {
			return true, err
		}
		at = end + i + len(name) + n
	}
}
