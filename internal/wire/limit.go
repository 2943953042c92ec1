package wire

import (
	"net"
	"net/netip"
	"sync"
)

// Limit accepts from l and closes at once what exceeds total connections, or
// perAddress from one address; 0 is no limit. An IPv6 address counts as its /64
// network, which is what one subscriber has.
func Limit(l *net.TCPListener, total, perAddress int) *Limiter {
	return &Limiter{TCPListener: l, counts: make(map[netip.Addr]int), total: total, perAddress: perAddress}
}

// Limiter is a listener whose connections are bounded.
type Limiter struct {
	*net.TCPListener

	mu                sync.Mutex // guards what follows
	total, perAddress int
	open              int
	counts            map[netip.Addr]int
}

// Set replaces the limits for those who come from now on; nobody is closed.
func (l *Limiter) Set(total, perAddress int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total, l.perAddress = total, perAddress
}

// Accept returns the next connection that is within the limits.
func (l *Limiter) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptTCP()
		if err != nil {
			return nil, err
		}
		from := network(conn)
		if l.take(from) {
			return &limited{TCPConn: conn, from: from, by: l}, nil
		}
		_ = conn.Close()
	}
}

func (l *Limiter) take(from netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total > 0 && l.open >= l.total || l.perAddress > 0 && l.counts[from] >= l.perAddress {
		return false
	}
	l.open++
	l.counts[from]++
	return true
}

func (l *Limiter) giveBack(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.counts[from]--; l.counts[from] == 0 {
		delete(l.counts, from)
	}
}

// limited is a connection that counts until it is closed.
type limited struct {
	*net.TCPConn
	from netip.Addr
	by   *Limiter
	once sync.Once
}

// Close closes the connection and makes room for another.
func (c *limited) Close() error {
	err := c.TCPConn.Close()
	c.once.Do(func() { c.by.giveBack(c.from) })
	return err
}

// network is the address that a connection counts for.
func network(conn *net.TCPConn) netip.Addr {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}
