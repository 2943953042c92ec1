package wire_test

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/parley-im/parley/internal/wire"
)

// The kernel gives up a peer that acknowledges nothing for a minute, or for the
// write deadline if that is longer, also under a connection that only wraps the
// socket.
func TestEventStreamVanishedPeer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	limited := wire.Limit(l.(*net.TCPListener), 10, 10)
	for _, c := range []struct{ write, want time.Duration }{{0, time.Minute}, {2 * time.Minute, 2 * time.Minute}} {
		peer, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		conn, err := limited.Accept()
		if err != nil {
			t.Fatal(err)
		}
		s := wire.NewEventStream(conn, &wire.Config{Keeper: new(wire.Keeper), WriteTimeout: c.write}, true)
		raw, err := conn.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		const userTimeout = 18 // TCP_USER_TIMEOUT
		var got int
		var failed error
		if err := raw.Control(func(fd uintptr) { got, failed = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, userTimeout) }); err != nil {
			t.Fatal(err)
		}
		if failed != nil || time.Duration(got)*time.Millisecond != c.want {
			t.Errorf("the kernel waits for %d ms, %v, want %v", got, failed, c.want)
		}
		peer.Close()
		_ = s.Close(wire.CloseNormal, "")
	}
}
