package wire_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley/internal/wire"
)

// kept is a server's end under a running Keeper, in virtual time, and the other
// end of its connection.
type kept struct {
	near  net.Conn
	r     *bufio.Reader
	w     *wire.WebSocket
	ended chan error
}

// keep runs fn in a bubble with a connection that a session reads.
func keep(t *testing.T, session func(wire.Conn) error, fn func(k *kept)) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		var keeper wire.Keeper
		ctx, stop := context.WithCancel(t.Context())
		var tasks sync.WaitGroup
		tasks.Go(func() {
			if err := keeper.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		k := &kept{near, bufio.NewReader(near), wire.NewServerEnd(far, &wire.Config{Keeper: &keeper}), make(chan error, 1)}
		tasks.Go(func() { k.ended <- session(k.w) })
		fn(k)
		near.Close()
		stop()
		tasks.Wait()
		if n := keeper.Watched(); n != 0 {
			t.Errorf("the Keeper still watches %d connections", n)
		}
	})
}

// about fails unless the time since begun is want, or a tick of the Keeper more.
func about(t *testing.T, begun time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(begun); got < want || got > want+5100*time.Millisecond {
		t.Errorf("after %v, want %v", got, want)
	}
}

func (k *kept) frame(t *testing.T) got {
	t.Helper()
	g, err := serverFrame(k.r)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func endedWith(t *testing.T, err error, code uint16, reason string) {
	t.Helper()
	var e *wire.CloseError
	if !errors.As(err, &e) || *e != (wire.CloseError{Code: code, Reason: reason}) {
		t.Errorf("the session ended with %v, want %d %q", err, code, reason)
	}
}

// TestKeeperIdle: a silent peer is pinged twice and then let go.
func TestKeeperIdle(t *testing.T) {
	t.Parallel()
	keep(t, echo, func(k *kept) {
		begun := time.Now()
		for _, at := range []time.Duration{25 * time.Second, 50 * time.Second} {
			if g := k.frame(t); g != (got{opPing, ""}) {
				t.Errorf("got %v, want a ping", g)
			}
			about(t, begun, at)
		}
		if g := k.frame(t); g != closed(1001, "idle") {
			t.Errorf("got %v, want the goodbye", g)
		}
		about(t, begun, 60*time.Second)
		endedWith(t, <-k.ended, 1001, "idle")
	})
}

// TestKeeperAlive: a peer that answers pings stays for ever.
func TestKeeperAlive(t *testing.T) {
	t.Parallel()
	keep(t, echo, func(k *kept) {
		for range 200 {
			begun := time.Now()
			if g := k.frame(t); g != (got{opPing, ""}) {
				t.Fatalf("got %v, want a ping", g)
			}
			about(t, begun, 25*time.Second)
			if _, err := k.near.Write(clientFrame(fin|opPong, nil)); err != nil {
				t.Fatal(err)
			}
		}
		k.near.Close()
		if err := <-k.ended; !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want EOF", err)
		}
	})
}

// TestKeeperSlowMessage: neither a frame in pieces nor a message in fragments
// keeps a connection, however alive the peer looks meanwhile.
func TestKeeperSlowMessage(t *testing.T) {
	t.Parallel()
	for name, piece := range map[string]func(i int) []byte{
		"frame": func(i int) []byte { return clientFrame(fin|opText, make([]byte, 1000))[i : i+1] },
		"message": func(i int) []byte {
			if i == 0 {
				return clientFrame(opText, []byte("a"))
			}
			return clientFrame(opMore, []byte("b"))
		},
		"message and pongs": func(i int) []byte {
			if i == 0 {
				return clientFrame(opText, []byte("a"))
			}
			return clientFrame(fin|opPong, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keep(t, echo, func(k *kept) {
				begun := time.Now()
				for i := 0; ; i++ {
					if _, err := k.near.Write(piece(i)); err != nil {
						break
					}
					time.Sleep(time.Second)
				}
				about(t, begun, 30*time.Second)
				endedWith(t, <-k.ended, 1008, "message takes too long")
			})
		})
	}
}

// TestKeeperSteady: messages that each arrive in pieces, but in time, are not
// taken for one that never ends.
func TestKeeperSteady(t *testing.T) {
	t.Parallel()
	keep(t, echo, func(k *kept) {
		hello := text("hello")
		half := len(hello) / 2
		step := hello[:half]
		for i := range 50 {
			if _, err := k.near.Write(step); err != nil {
				t.Fatal(err)
			}
			if i > 0 {
				if g := k.frame(t); g != echoed("hello") {
					t.Fatalf("got %v", g)
				}
			}
			time.Sleep(20 * time.Second)
			step = append(hello[half:len(hello):len(hello)], hello[:half]...)
		}
	})
}

// TestKeeperBusySession: a session that works for minutes on what it read is
// not the peer's silence.
func TestKeeperBusySession(t *testing.T) {
	t.Parallel()
	keep(t, func(w wire.Conn) error {
		for range 3 {
			if _, err := w.Read(); err != nil {
				return err
			}
			time.Sleep(5 * time.Minute)
		}
		return w.Close(wire.CloseNormal, "")
	}, func(k *kept) {
		for range 3 {
			if _, err := k.near.Write(append(text("work"), text("more")[:3]...)); err != nil {
				t.Fatal(err)
			}
			if _, err := k.near.Write(text("more")[3:]); err != nil {
				return // the last half is not waited for
			}
		}
		if g := k.frame(t); g != closed(1000, "") {
			t.Errorf("got %v", g)
		}
		if err := <-k.ended; err != nil {
			t.Error(err)
		}
	})
}

// TestKeeperSlowReader: a peer that reads slowly, and so cannot answer pings, is
// alive as long as it takes something.
func TestKeeperSlowReader(t *testing.T) {
	t.Parallel()
	keep(t, func(w wire.Conn) error {
		var writer sync.WaitGroup
		writer.Go(func() {
			if err := w.Write(w.AppendFrame(nil, false, make([]byte, 100_000))); err != nil {
				t.Error(err)
			}
		})
		_, err := w.Read()
		_ = w.Close(wire.CloseNormal, "")
		writer.Wait()
		return err
	}, func(k *kept) {
		begun := time.Now()
		for n := 0; n < 100_010; {
			time.Sleep(10 * time.Second)
			m, err := io.ReadFull(k.near, make([]byte, min(2000, 100_010-n)))
			if err != nil {
				t.Fatalf("after %v and %d bytes: %v", time.Since(begun), n, err)
			}
			n += m
		}
	})
}
