// Package tcpproxy passes bytes between clients and a server until a test breaks
// the connections.
package tcpproxy

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// A Proxy passes bytes on until it is shut. Its methods may be called from any
// goroutine.
type Proxy struct {
	listener net.Listener
	target   string
	mute     atomic.Bool
	accepted atomic.Int64
	running  sync.WaitGroup

	mu    sync.Mutex // guards what follows
	shut  bool
	conns map[net.Conn]net.Conn // of each client's, the server's
}

// Start makes one of its own address before the server at target, host:port. It
// ends with the test.
func Start(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: l, target: target, conns: map[net.Conn]net.Conn{}}
	p.running.Go(func() { p.accept(t.Context()) })
	t.Cleanup(func() {
		_ = l.Close()
		p.Shut()
		p.running.Wait()
	})
	return p
}

// Addr is where clients connect, host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Accepted is how many connections were passed on so far.
func (p *Proxy) Accepted() int64 { return p.accepted.Load() }

// Mute loses the server's bytes from now on, or passes them again.
func (p *Proxy) Mute(on bool) { p.mute.Store(on) }

// Shut breaks all connections, and those that come until Open.
func (p *Proxy) Shut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = true
	for near, far := range p.conns {
		_, _ = near.Close(), far.Close() // the others notice
	}
	clear(p.conns)
}

// Open passes connections on again.
func (p *Proxy) Open() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shut = false
}

func (p *Proxy) accept(ctx context.Context) {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(ctx, near) })
	}
}

// serve passes on what comes from one client, and what goes to it.
func (p *Proxy) serve(ctx context.Context, near net.Conn) {
	far, err := new(net.Dialer).DialContext(ctx, "tcp", p.target)
	if err != nil {
		_ = near.Close()
		return
	}
	if !p.join(near, far) {
		_, _ = near.Close(), far.Close()
		return
	}
	p.accepted.Add(1)
	p.running.Go(func() { pass(far, near, nil) })
	pass(near, far, &p.mute)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, near)
}

// join adds a connection, unless the proxy is shut.
func (p *Proxy) join(near, far net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.shut {
		p.conns[near] = far
	}
	return !p.shut
}

// bufferBytes is little, because there may be thousands.
const bufferBytes = 4 << 10

// pass copies until one end closes, and then closes the other.
func pass(to, from net.Conn, mute *atomic.Bool) {
	defer func() { _ = to.Close() }()
	buf := make([]byte, bufferBytes)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if mute != nil && mute.Load() {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
