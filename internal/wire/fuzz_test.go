package wire_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/parley-im/parley/internal/wire"
)

// script is a connection that delivers bytes in given pieces and keeps what is
// written to it.
type script struct {
	net.Conn
	in   []byte
	cuts []byte // how much each read brings; none left: all
	out  bytes.Buffer
}

func (s *script) Read(p []byte) (int, error) {
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := len(s.in)
	if len(s.cuts) > 0 {
		n = min(n, 1+int(s.cuts[0]))
		s.cuts = s.cuts[1:]
	}
	n = copy(p, s.in[:n])
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error)    { return s.out.Write(p) }
func (*script) SetDeadline(time.Time) error      { return nil }
func (*script) SetWriteDeadline(time.Time) error { return nil }
func (*script) Close() error                     { return nil }

const fuzzMax = 1 << 12

// heard is all that a server's end makes of what it is sent: the frames, how it
// ends, and what it answers.
type heard struct {
	frames []wire.Frame
	end    string
	out    string
}

func hear(t *testing.T, in, cuts []byte, compression bool) (h heard) {
	s := &script{in: bytes.Clone(in), cuts: cuts}
	w := wire.NewServerEnd(s, &wire.Config{Keeper: new(wire.Keeper), MaxFrame: fuzzMax, Compression: compression})
	for {
		frames, err := w.Read()
		for _, f := range frames {
			if len(f.Payload) > fuzzMax {
				t.Errorf("a frame of %d bytes", len(f.Payload))
			}
			h.frames = append(h.frames, wire.Frame{Text: f.Text, Payload: bytes.Clone(f.Payload)})
		}
		if err != nil {
			h.end = err.Error()
			var e *wire.CloseError
			if !errors.As(err, &e) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("the end is %v", err)
			}
			break
		}
	}
	h.out = s.out.String()
	_ = w.Close(wire.CloseNormal, "")
	return h
}

// FuzzRead: whatever is sent, however it is cut, it is understood in one way,
// within the limits; the answer is well-formed; and the frames understood, sent
// again by a client, are understood again. With compression agreed to or not.
func FuzzRead(f *testing.F) {
	for _, cases := range [][]rfcCase{pings(), bits(), fragments(), utf8Cases(), goodbyes(), examples(), malformed()} {
		for i, c := range cases {
			if i%8 == 0 {
				f.Add(bytes.Join(c.send, nil), []byte{0, 1, 2})
			}
		}
	}
	f.Fuzz(func(t *testing.T, in, cuts []byte) {
		checkRead(t, in, cuts, false)
		checkRead(t, in, cuts, true)
	})
}

func checkRead(t *testing.T, in, cuts []byte, compression bool) {
	whole, pieces := hear(t, in, nil, compression), hear(t, in, cuts, compression)
	if fmt.Sprint(whole) != fmt.Sprint(pieces) {
		t.Errorf("in one piece: %+v\nin pieces:    %+v", whole, pieces)
	}
	for r := bufio.NewReader(bytes.NewReader([]byte(whole.out))); ; {
		g, err := serverFrame(r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || g.op != opPong && g.op != opClose {
			t.Fatalf("the answer has %v, %v", g, err)
		}
	}
	client := wire.NewClientEnd(&script{}, &wire.Config{Keeper: new(wire.Keeper)})
	var again []byte
	for _, f := range whole.frames {
		again = client.AppendFrame(again, f.Text, f.Payload)
	}
	second := hear(t, again, cuts, compression)
	if fmt.Sprint(second.frames) != fmt.Sprint(whole.frames) || second.end != "EOF" {
		t.Errorf("first %v\nagain %v, %s", whole.frames, second.frames, second.end)
	}
}
