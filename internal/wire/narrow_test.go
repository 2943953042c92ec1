package wire_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/parley-im/parley/internal/wire"
)

// TestNarrow (S1): while a connection is narrow, a message is refused by its
// declared length, whole or in fragments, and messages come one at a time, so
// that what follows the one that widens it is not judged by the old bound.
func TestNarrow(t *testing.T) {
	t.Parallel()
	const narrow = 100
	long := strings.Repeat("x", 5000)
	cfg := func() *wire.Config { return &wire.Config{MaxFrame: 10_000} }
	widened := func(w wire.Conn) error {
		w.(*wire.WebSocket).Narrow(narrow)
		for i := 0; ; i++ {
			frames, err := w.Read()
			if err != nil {
				_ = w.Close(wire.CloseNormal, "")
				return err
			}
			if i == 0 && len(frames) != 1 {
				return errors.New("more than one message while narrow")
			}
			if i == 0 {
				w.(*wire.WebSocket).Narrow(0)
			}
			for _, f := range frames {
				if err := w.Write(w.AppendFrame(nil, f.Text, f.Payload)); err != nil {
					return err
				}
			}
		}
	}
	c := serve(t, cfg(), widened).dial(t)
	c.send(t, append(append(text("hi"), text(long)...), text("bye")...))
	c.expect(t, echoed("hi"), echoed(long), echoed("bye"))
	c.send(t, closing(wire.CloseNormal, ""))
	c.expect(t, closed(wire.CloseNormal, ""))
	c.expectEnd(t)

	always := func(w wire.Conn) error {
		w.(*wire.WebSocket).Narrow(narrow)
		return echo(w)
	}
	for name, sent := range map[string][]byte{
		"declared only": text(strings.Repeat("x", narrow+1))[:8],
		"fragments":     append(clientFrame(opText, make([]byte, narrow)), clientFrame(fin|opMore, []byte("x"))...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, cfg(), always).dial(t)
			c.send(t, sent)
			c.expect(t, closed(wire.CloseTooBig, "message too big"))
			c.send(t, closing(wire.CloseTooBig, ""))
			c.expectEnd(t)
		})
	}
	c = serve(t, cfg(), always).dial(t)
	fits := strings.Repeat("x", narrow)
	c.send(t, append(text(fits), text(fits)...))
	c.expect(t, echoed(fits), echoed(fits))
	c.send(t, closing(wire.CloseNormal, ""))
	c.expect(t, closed(wire.CloseNormal, ""))
	c.expectEnd(t)
}
