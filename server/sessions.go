package server

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/parley-im/parley/internal/wire"
)

// The reasons not to admit a connection.
var (
	errStopping   = errors.New("the server is stopping")
	errFull       = errors.New("too many connections")
	errFullForYou = errors.New("too many connections from this address")
)

// sessions is who is connected. It decides who may come, and knows when all
// have gone.
type sessions struct {
	mu        sync.Mutex // guards what follows
	total     int
	atOnce    int // from one address
	stopping  bool
	open      int
	byAddress map[netip.Addr]int
	conns     map[wire.Conn]string // to the protocol's name
	gone      chan struct{}        // closed when stopping and open is 0
}

func newSessions(total, perAddress int) *sessions {
	return &sessions{
		total: total, atOnce: perAddress,
		byAddress: make(map[netip.Addr]int), conns: make(map[wire.Conn]string), gone: make(chan struct{}),
	}
}

// limit replaces the bounds for those who come from now on.
func (s *sessions) limit(total, perAddress int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total, s.atOnce = total, perAddress
}

// admit makes room for a connection from addr; leave gives it back.
func (s *sessions) admit(addr netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopping:
		return errStopping
	case s.open >= s.total:
		return errFull
	case s.byAddress[addr] >= s.atOnce:
		return errFullForYou
	}
	s.open++
	s.byAddress[addr]++
	return nil
}

func (s *sessions) leave(addr netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.byAddress[addr]--; s.byAddress[addr] == 0 {
		delete(s.byAddress, addr)
	}
	if s.stopping && s.open == 0 {
		close(s.gone)
	}
}

// add and remove bracket a conversation.
func (s *sessions) add(conn wire.Conn, protocol string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[conn] = protocol
}

func (s *sessions) remove(conn wire.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

// connections is how many connections were admitted and have not left.
func (s *sessions) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// count is how many conversations there are, by protocol.
func (s *sessions) count() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := map[string]int{nativeName: 0, gobblerName: 0, sseName: 0, titanName: 0, devastatorName: 0, textoName: 0}
	for _, protocol := range s.conns {
		n[protocol]++
	}
	return n
}

// drain admits nobody any more and calls goodbye, again and again for those who
// were just arriving, until all have gone. Whoever is still there when most of
// ctx's time is over is cut off.
func (s *sessions) drain(ctx context.Context, goodbye func()) error {
	s.mu.Lock()
	s.stopping = true
	if s.open == 0 {
		close(s.gone)
	}
	s.mu.Unlock()
	patient, cancel := context.WithTimeout(ctx, drainShare(ctx))
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		goodbye()
		select {
		case <-s.gone:
			return nil
		case <-patient.Done():
			s.cut()
			select {
			case <-s.gone:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		case <-again.C:
		}
	}
}

// drainShare is how long clients may take to leave: most of the time there is,
// so that enough is left to cut them off and to stop what they stand on.
func drainShare(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return time.Minute
	}
	left := time.Until(deadline)
	return max(min(left*3/4, left-cutTime), left/4)
}

// cutTime is what cutting off and stopping take.
const cutTime = 1500 * time.Millisecond

// cut ends every connection, whatever it is doing.
func (s *sessions) cut() {
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	var cutting sync.WaitGroup
	for _, conn := range conns {
		cutting.Go(func() { _ = conn.Close(wire.CloseRestart, errStopping.Error()) }) // it is given up
	}
	cutting.Wait()
}

// network is what an address counts as: an IPv4 address, or the /64 network of
// an IPv6 one, which is what one subscriber has.
func network(remote string) netip.Addr {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}
