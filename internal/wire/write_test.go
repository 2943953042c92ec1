package wire_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley/internal/wire"
)

// TestSlowReader: a peer that takes a little now and then is waited for, one
// that takes nothing for the write deadline is given up. In virtual time.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		w := wire.NewServerEnd(far, &wire.Config{Keeper: new(wire.Keeper), WriteTimeout: 20 * time.Second})
		const total = 300_000
		var reader sync.WaitGroup
		reader.Go(func() {
			var took int
			b := make([]byte, 5000)
			for took < total {
				time.Sleep(15 * time.Second)
				n, err := io.ReadFull(near, b)
				took += n
				if err != nil {
					t.Error(err)
				}
			}
		})
		begun := time.Now()
		if err := w.Write(make([]byte, total)); err != nil {
			t.Fatalf("after %v: %v", time.Since(begun), err)
		}
		reader.Wait()
		if took := time.Since(begun); took < 10*time.Minute {
			t.Errorf("took %v: the reader was not slow", took)
		}

		begun = time.Now()
		if err := w.Write(make([]byte, total)); !errors.Is(err, wire.ErrSlow) {
			t.Errorf("got %v, want ErrSlow", err)
		}
		if took := time.Since(begun); took < 19*time.Second || took > 20*time.Second {
			t.Errorf("gave up after %v, want 19 s to 20 s", took)
		}
		near.Close()
		w.Close(wire.ClosePolicy, "")
	})
}

// TestTorn: after a frame that was cut short nothing is written any more, and
// Close does not try to.
func TestTorn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		w := wire.NewServerEnd(far, &wire.Config{Keeper: new(wire.Keeper)})
		var reader sync.WaitGroup
		var after []byte
		reader.Go(func() {
			_, _ = io.ReadFull(near, make([]byte, 10))
			time.Sleep(time.Minute)
			after, _ = io.ReadAll(near)
		})
		if err := w.Write(make([]byte, 100)); !errors.Is(err, wire.ErrSlow) {
			t.Errorf("got %v, want ErrSlow", err)
		}
		time.Sleep(time.Minute)
		if err := w.Write(make([]byte, 100)); !errors.Is(err, wire.ErrSlow) {
			t.Errorf("second write: got %v, want ErrSlow", err)
		}
		w.Close(wire.CloseGoingAway, "bye")
		reader.Wait()
		if len(after) != 0 {
			t.Errorf("% x followed half a frame", after)
		}
	})
}

// TestCloseStuck: Close does not wait for a writer that waits for its peer, and
// unblocks it and the reader.
func TestCloseStuck(t *testing.T) {
	t.Parallel()
	near, far := tcpPair(t)
	w := wire.NewServerEnd(far, &wire.Config{Keeper: new(wire.Keeper)})
	var tasks sync.WaitGroup
	var writeErr, readErr error
	filling := make(chan struct{})
	tasks.Go(func() {
		for i := 0; writeErr == nil; i++ {
			writeErr = w.Write(make([]byte, 1<<20))
			if i == 0 {
				close(filling)
			}
		}
	})
	tasks.Go(func() { _, readErr = w.Read() })
	<-filling
	begun := time.Now()
	if err := w.Close(wire.CloseGoingAway, "enough"); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("Close took %v", took)
	}
	tasks.Wait()
	for _, err := range []error{writeErr, readErr, w.Write([]byte{1})} {
		var e *wire.CloseError
		if !errors.As(err, &e) || *e != (wire.CloseError{Code: wire.CloseGoingAway, Reason: "enough"}) || !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v, want the close that ended it", err)
		}
	}
	if err := w.Close(wire.CloseNormal, "again"); err != nil {
		t.Errorf("second Close: %v", err)
	}
	near.Close()
}

// TestGoodbyeArrives although the server leaves bytes unread and another
// goroutine writes: whole frames, then the close frame, then the end.
func TestGoodbyeArrives(t *testing.T) {
	t.Parallel()
	for range 10 {
		near, far := tcpPair(t)
		// Small, so that the goodbye does not wait behind megabytes.
		if err := errors.Join(far.(*net.TCPConn).SetWriteBuffer(1<<16), near.(*net.TCPConn).SetReadBuffer(1<<16)); err != nil {
			t.Fatal(err)
		}
		w := wire.NewServerEnd(far, &wire.Config{Keeper: new(wire.Keeper)})
		var tasks sync.WaitGroup
		frame := w.AppendFrame(nil, true, bytes.Repeat([]byte("x"), 1000))
		tasks.Go(func() {
			for w.Write(frame) == nil {
			}
		})
		if _, err := near.Write(many(1000, 100)); err != nil {
			t.Fatal(err)
		}
		tasks.Go(func() { _ = w.Close(wire.CloseRestart, "back soon") })
		r := bufio.NewReader(near)
		for {
			g, err := serverFrame(r)
			if err != nil {
				t.Fatalf("got %v before the goodbye", err)
			}
			if g.op == opClose {
				if g != closed(1012, "back soon") {
					t.Errorf("got %v", g)
				}
				break
			}
		}
		if g, err := serverFrame(r); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, %v after the goodbye", g, err)
		}
		near.Close()
		tasks.Wait()
	}
}

// TestConcurrentWrites: frames of several goroutines, and pongs, do not mix.
func TestConcurrentWrites(t *testing.T) {
	t.Parallel()
	const writers, each = 8, 500
	near, far := tcpPair(t)
	w := wire.NewServerEnd(far, &wire.Config{Keeper: new(wire.Keeper)})
	var tasks sync.WaitGroup
	for i := range writers {
		tasks.Go(func() {
			p := bytes.Repeat([]byte{byte('a' + i)}, 1+i*200)
			for range each {
				if err := w.Write(w.AppendFrame(nil, true, p)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	tasks.Go(func() { _, _ = w.Read() })
	tasks.Go(func() {
		for range each {
			_, _ = near.Write(clientFrame(fin|opPing, []byte("ping")))
		}
	})
	r := bufio.NewReader(near)
	pongs := 0
	for n := range (writers + 1) * each {
		g, err := serverFrame(r)
		if err != nil {
			t.Fatalf("frame %d: %v", n, err)
		}
		if g == (got{opPong, "ping"}) {
			pongs++
		} else if g.op != opText || len(g.payload) != 1+int(g.payload[0]-'a')*200 || strings.Trim(g.payload, g.payload[:1]) != "" {
			t.Fatalf("frame %d: %v", n, g)
		}
	}
	if pongs != each {
		t.Errorf("got %d pongs", pongs)
	}
	near.Close()
	tasks.Wait()
	w.Close(wire.CloseNormal, "")
}

// TestCloseReason: a reason that is too long is cut between characters; codes
// that must not be sent are not.
func TestCloseReason(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code   uint16
		reason string
		want   got
	}{
		{1000, "", closed(1000, "")},
		{4999, "why", closed(4999, "why")},
		{0, "lost", got{opClose, ""}},
		{1005, "lost", got{opClose, ""}},
		{1001, strings.Repeat("a", 200), closed(1001, strings.Repeat("a", 123))},
		{1001, strings.Repeat("ä", 100), closed(1001, strings.Repeat("ä", 61))},
	} {
		near, far := tcpPair(t)
		w := wire.NewServerEnd(far, &wire.Config{Keeper: new(wire.Keeper)})
		var closer sync.WaitGroup
		closer.Go(func() { _ = w.Close(c.code, c.reason) })
		r := &client{near, bufio.NewReader(near)}
		r.expect(t, c.want)
		near.Close()
		closer.Wait()
	}
	if got, want := fmt.Sprint(&wire.CloseError{Code: 1001, Reason: "x"}, &wire.CloseError{Code: 1000}), `wire: closed with 1001 "x" wire: closed with 1000`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
