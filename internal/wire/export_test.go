package wire

import (
	"net"
	"net/http"
)

// For tests, which live outside the package.
const (
	MaxFragments = maxFragments
	MaxWrite     = maxWrite
	MaxBuffer    = maxBuffer
	MaxOffers    = maxOffers
	MinDeflate   = minDeflate
	MaxUnasked   = maxUnasked
	PipeBytes    = pipeBytes
)

// NewServerEnd is a server's end over any connection, whose client has agreed to
// compression if cfg does.
func NewServerEnd(conn net.Conn, cfg *Config) *WebSocket {
	w := newWebSocket(conn, cfg, nil, nil)
	w.deflate = cfg.Compression
	return w
}

// NewClientEnd is a client's end over any connection.
func NewClientEnd(conn net.Conn, cfg *Config) *WebSocket {
	return newWebSocket(conn, cfg, newMasks(), nil)
}

// NewEventStream is an event stream over any connection, its head already sent.
func NewEventStream(conn net.Conn, cfg *Config, chunked bool) *EventStream {
	return newEventStream(conn, cfg, chunked)
}

// AgreeToDeflate is the answer to the lines of a client's offers.
func AgreeToDeflate(lines ...string) (string, error) {
	return agreeToDeflate(http.Header{extensionHeader: lines})
}

// MostDeflated is how large a compressed message of n bytes may be.
func MostDeflated(n int) int { return mostDeflated(n) }

// OnWait calls fn whenever w, a socket's end, begins to wait: with the bytes
// that have arrived of the next frame, and the bytes of buffer held meanwhile.
func (w *WebSocket) OnWait(fn func(pending, held int)) {
	try := w.try
	w.try = func(fd uintptr) bool {
		done := try(fd)
		if !done {
			fn(len(w.buf)-w.lo, cap(w.buf))
		}
		return done
	}
}

// Watched is how many connections k watches.
func (k *Keeper) Watched() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.conns)
}
