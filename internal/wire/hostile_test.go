package wire_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley/internal/wire"
)

// TestFragmentFlood: a million empty fragments end at the bound, and a message
// at the bound is still taken.
func TestFragmentFlood(t *testing.T) {
	t.Parallel()
	server := serve(t, &wire.Config{}, echo)
	empty := bytes.Repeat(clientFrame(opMore, nil), 1<<20)
	one := len(empty) >> 20

	c := server.dial(t, clientFrame(opText, nil))
	var sender sync.WaitGroup
	sender.Go(func() { _, _ = c.Write(empty) })
	c.expect(t, closed(1008, "too many fragments"))
	c.Close()
	sender.Wait()

	c = server.dial(t, clientFrame(opText, nil), empty[:one*(wire.MaxFragments-2)], clientFrame(fin|opMore, []byte("x")))
	c.expect(t, echoed("x"))
}

// TestPingFlood: 100,000 pings are answered, all of them, in order.
func TestPingFlood(t *testing.T) {
	t.Parallel()
	const n = 100_000
	server := serve(t, &wire.Config{}, echo)
	c := server.dial(t)
	var sender sync.WaitGroup
	sender.Go(func() {
		var b []byte
		for i := range uint32(n) {
			b = append(b, clientFrame(fin|opPing, binary.BigEndian.AppendUint32(nil, i))...)
		}
		_, _ = c.Write(b)
	})
	defer sender.Wait()
	for i := range uint32(n) {
		c.expect(t, got{opPong, string(binary.BigEndian.AppendUint32(nil, i))})
	}
}

// waits has what a connection held whenever it began to wait.
type waits chan [2]int

func watch(w *wire.WebSocket) waits {
	c := make(waits, 10_000)
	w.OnWait(func(pending, held int) { c <- [2]int{pending, held} })
	return c
}

// held is how much was held when pending bytes had come.
func (c waits) held(t *testing.T, pending int) int {
	t.Helper()
	for {
		select {
		case w := <-c:
			if w[0] == pending {
				return w[1]
			}
		case <-time.After(patience):
			t.Fatalf("never waited with %d bytes", pending)
		}
	}
}

// TestDeclaredOnly: of a megabyte that is announced, only what has come costs
// memory, and at rest nothing does.
func TestDeclaredOnly(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	frame := clientFrame(fin|opBinary, make([]byte, size))
	near, far := tcpPair(t)
	w := wire.NewServerEnd(far, &wire.Config{Keeper: new(wire.Keeper)})
	waits := watch(w)
	var reader sync.WaitGroup
	defer reader.Wait()
	defer near.Close()
	reader.Go(func() { _ = echo(w) })
	c := &client{near, bufio.NewReader(near)}
	for range 2 {
		sent := 0
		for _, step := range []struct{ sent, most int }{
			{0, 0},
			{1, 1 << 10},
			{14, 1 << 10},
			{5000, 16 << 10},
			{60_000, 64 << 10},
			{70_000, 128 << 10},
			{300_000, 512 << 10},
			{size, size + 14},
		} {
			c.send(t, frame[sent:step.sent])
			sent = step.sent
			if held := waits.held(t, sent); held > step.most {
				t.Errorf("%d bytes came: %d held, want at most %d", sent, held, step.most)
			}
		}
		c.send(t, frame[sent:])
		c.expect(t, got{opBinary, string(make([]byte, size))})
	}
	if held := waits.held(t, 0); held != 0 {
		t.Errorf("%d bytes held at rest", held)
	}
}

// TestBytewise: a frame that comes byte by byte costs no allocation a byte.
func TestBytewise(t *testing.T) {
	near, far := tcpPair(t)
	w := wire.NewServerEnd(far, &wire.Config{Keeper: new(wire.Keeper)})
	waits := watch(w)
	var reader sync.WaitGroup
	defer reader.Wait()
	defer near.Close()
	reader.Go(func() { _ = echo(w) })
	frame := clientFrame(fin|opBinary, make([]byte, 3000))
	_ = waits.held(t, 0)
	at := 0
	allocs := testing.AllocsPerRun(2000, func() {
		if _, err := near.Write(frame[at : at+1]); err != nil {
			t.Fatal(err)
		}
		at++
		for w := range waits {
			if w[0] == at {
				break
			}
		}
	})
	if allocs > 0 && !racing {
		t.Errorf("%v allocations a byte", allocs)
	}
}

// TestManyFrames: all that one read brought comes at once, and nothing of an
// earlier read shines through.
func TestManyFrames(t *testing.T) {
	t.Parallel()
	near, far := tcpPair(t)
	w := wire.NewServerEnd(far, &wire.Config{Keeper: new(wire.Keeper)})
	defer w.Close(wire.CloseNormal, "")
	const n = 100_000
	var sender sync.WaitGroup
	sender.Go(func() {
		var b []byte
		for i := range uint32(n) {
			b = append(b, clientFrame(fin|opBinary, binary.BigEndian.AppendUint32(nil, i))...)
		}
		_, _ = near.Write(b)
		near.Close()
	})
	var seen uint32
	most := 0
	for {
		frames, err := w.Read()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			break
		}
		most = max(most, len(frames))
		for _, f := range frames {
			if got := binary.BigEndian.Uint32(f.Payload); got != seen || f.Text {
				t.Fatalf("got %d (text %v), want %d", got, f.Text, seen)
			}
			seen++
		}
	}
	sender.Wait()
	if seen != n || most < 1000 {
		t.Errorf("got %d frames, at most %d at once", seen, most)
	}
}

// TestEOF: leaving without a word is EOF between frames and an unexpected one
// inside.
func TestEOF(t *testing.T) {
	t.Parallel()
	server := serve(t, &wire.Config{}, echo)
	for _, c := range []struct {
		send []byte
		want error
	}{
		{nil, io.EOF},
		{text("whole"), io.EOF},
		{text("cut")[:5], io.ErrUnexpectedEOF},
		{clientFrame(fin|opBinary, make([]byte, 100_000))[:80_000], io.ErrUnexpectedEOF},
		{clientFrame(opText, []byte("more to come")), io.ErrUnexpectedEOF},
	} {
		conn := server.dial(t, c.send)
		if errors.Is(c.want, io.EOF) && c.send != nil {
			conn.expect(t, echoed("whole")) // closing with something unread is a reset
		}
		conn.Close()
		if err := server.err(t); !errors.Is(err, c.want) {
			t.Errorf("after %d bytes: got %v, want %v", len(c.send), err, c.want)
		}
	}
}

// TestHalfClose: a client that sends, closes its half and then reads gets all
// its answers.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	server := serve(t, &wire.Config{}, echo)
	c := server.dial(t)
	c.send(t, append(text("a"), text("b")...))
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	c.expect(t, echoed("a"), echoed("b"), closed(1000, ""))
	c.expectEnd(t)
}

// TestAnyText: the Gobbler protocol's clients send bytes as text.
func TestAnyText(t *testing.T) {
	t.Parallel()
	server := serve(t, &wire.Config{AnyText: true}, echo)
	c := server.dial(t, text("\xff\xfe"), clientFrame(opText, []byte("\xc3")), clientFrame(fin|opMore, []byte("\x28")))
	c.expect(t, echoed("\xff\xfe"), echoed("\xc3\x28"))
}

// TestFaultAfterUnreadBytes: the close frame arrives although the server leaves
// bytes unread, which would reset the connection if it closed at once.
func TestFaultAfterUnreadBytes(t *testing.T) {
	t.Parallel()
	server := serve(t, &wire.Config{}, echo)
	for range 20 {
		c := server.dial(t)
		c.send(t, append([]byte{fin | rsv1 | opText, 0x80}, make([]byte, 200_000)...))
		c.expect(t, closed(1002, "reserved bits set"))
		c.expectEnd(t)
		c.Close()
		var e *wire.CloseError
		if err := server.err(t); !errors.As(err, &e) || e.Code != 1002 {
			t.Fatalf("got %v", err)
		}
	}
}

// TestPeerStaysAfterFault: a peer that does not close does not keep the server.
func TestPeerStaysAfterFault(t *testing.T) {
	t.Parallel()
	server := serve(t, &wire.Config{}, echo)
	c := server.dial(t, []byte{fin | rsv1 | opText, 0x80})
	begun := time.Now()
	c.expect(t, closed(1002, "reserved bits set"))
	_ = server.err(t)
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the server took %v to leave", took)
	}
}
