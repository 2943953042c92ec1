package wire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/parley-im/parley"
)

var _ Conn = (*EventStream)(nil)

const (
	// maxUnasked bounds what a peer may send behind its request. Nothing of it
	// is read, but who pipelines one more request need not be cut off for it.
	maxUnasked = 4 << 10
	// lastChunk ends a body in chunks (RFC 9112 section 7.1).
	lastChunk = "0\r\n\r\n"
	// heartbeat is a comment, which readers of an event stream skip.
	heartbeat = ":\n\n"
)

// EventStream is the answer to an HTTP request that does not end: a stream of
// Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html).
// Its frames are pieces of text/event-stream, which go to the peer only. At rest
// it costs this struct, the socket and the stack of the goroutine that reads. It
// must be closed.
//
// The peer has nothing to say, so its silence means nothing. Instead the Keeper
// sends a comment when nothing else was sent for Keeper.PingInterval, and the
// connection ends when the kernel gets no acknowledgement of what it sent, or
// has no room for a comment, for Keeper.IdleTimeout.
type EventStream struct {
	outlet

	raw     syscall.RawConn // nil when conn is not a socket
	chunked bool            // or else the end of the connection ends the body
	unasked int             // bytes that came behind the request; of who reads
	said    atomic.Int64    // Keeper time of the last write
	tried   int64           // the Keeper's own: when it last sent a comment, or could not
}

// OpenEventStream answers an HTTP/1 request with the head of an event stream,
// which has the header fields of w besides its own. Nothing is sent before it is
// sure to succeed: an error that wraps parley.ErrForbidden, for what cfg.Policy
// refuses, or parley.ErrInvalid is left to the caller to answer.
//
// A page of another origin that the policy admits may read the stream. The
// caller should leave its http.Handler and use the connection in another
// goroutine: as long as the handler runs, net/http keeps the request and its
// buffers.
func OpenEventStream(w http.ResponseWriter, r *http.Request, cfg *Config) (*EventStream, error) {
	if err := cfg.Policy.Check(r); err != nil {
		return nil, err
	}
	switch {
	case r.ProtoMajor != 1:
		return nil, fmt.Errorf("an event stream needs HTTP/1: %w", parley.ErrInvalid)
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return nil, fmt.Errorf("this request has no body: %w", parley.ErrInvalid)
	}
	chunked := r.ProtoAtLeast(1, 1)
	SetEventStreamHeader(w.Header(), r)
	w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	w.Header().Set("Connection", "close")
	if chunked {
		w.Header().Set("Transfer-Encoding", "chunked")
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("wire: event stream: %w", err)
	}
	s := newEventStream(conn, cfg, chunked)
	s.unasked = buffered.Reader.Buffered()
	if err := s.writeHead(w.Header()); err != nil {
		return nil, errors.Join(fmt.Errorf("wire: event stream: %w", err), s.Close(CloseInternal, ""))
	}
	return s, nil
}

// SetEventStreamHeader sets what says that the answer to r is an event stream:
// its type, that nobody is to keep it, that proxies pass it on at once, and that
// the page that asked may read it. For who answers a HEAD request that the policy
// admits.
func SetEventStreamHeader(h http.Header, r *http.Request) {
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Add("Vary", "Origin")
	if origin := r.Header.Get("Origin"); origin != "" {
		h.Set("Access-Control-Allow-Origin", origin)
	}
}

// newEventStream takes over conn.
func newEventStream(conn net.Conn, cfg *Config, chunked bool) *EventStream {
	s := &EventStream{outlet: outlet{cfg: cfg, conn: conn}, chunked: chunked}
	if c, ok := socketOf(conn).(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			// Without it a peer that has vanished is noticed when the kernel
			// gives up, which takes a quarter of an hour.
			limitUnacknowledged(raw, max(cfg.Keeper.idleTimeout(), cfg.writeTimeout()))
			if rawReads && socketOf(conn) == conn {
				s.raw = raw
			}
		}
	}
	s.said.Store(cfg.Keeper.now())
	cfg.Keeper.add(&s.outlet, s)
	return s
}

// socketOf is what conn's bytes go through: itself, or the connection under TLS.
func socketOf(conn net.Conn) net.Conn {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return conn
}

// writeHead sends the status line and the header.
func (s *EventStream) writeHead(h http.Header) error {
	b := s.cfg.Keeper.buffers.get(smallBuffer)
	defer s.cfg.Keeper.buffers.put(b)
	head := &appender{append(b.bytes[:0], "HTTP/1.0 200 OK\r\n"...)}
	if s.chunked {
		head.bytes[len("HTTP/1.")] = '1'
	}
	if err := h.Write(head); err != nil {
		return err
	}
	return s.Write(append(head.bytes, "\r\n"...))
}

// appender is an io.Writer to a slice.
type appender struct{ bytes []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.bytes = append(a.bytes, p...)
	return len(p), nil
}

// Name tells the two forms of a body apart.
func (s *EventStream) Name() string {
	if s.chunked {
		return "eventstream.chunked"
	}
	return "eventstream"
}

// AppendFrame appends a piece of text/event-stream, one or several events, to
// dst. Any goroutines may call it.
func (s *EventStream) AppendFrame(dst []byte, _ bool, payload []byte) []byte {
	if !s.chunked || len(payload) == 0 { // an empty chunk would be the last
		return append(dst, payload...)
	}
	dst = append(strconv.AppendUint(dst, uint64(len(payload)), 16), "\r\n"...)
	dst = append(dst, payload...)
	return append(dst, "\r\n"...)
}

// Remote is the peer's address, or that of the proxy before it.
func (s *EventStream) Remote() net.Addr { return s.conn.RemoteAddr() }

// Read waits until the connection ends, for the peer sends no frames. That the
// peer has closed is its goodbye: the error is a *CloseError with CloseNoStatus.
func (s *EventStream) Read() ([]Frame, error) {
	for s.unasked <= maxUnasked {
		n, err := s.fill()
		cause := s.cause.Load()
		switch {
		case cause != nil:
			return nil, cause
		case errors.Is(err, io.EOF):
			return nil, &CloseError{Code: CloseNoStatus}
		case err != nil:
			return nil, err
		}
		s.unasked += n
	}
	s.cut(&CloseError{ClosePolicy, "sends what nobody asked for"}, nil)
	return nil, s.cause.Load()
}

// fill waits until something has arrived, and forgets it. A socket holds no
// buffer while it waits.
func (s *EventStream) fill() (n int, err error) {
	pools := &s.cfg.Keeper.buffers
	if s.raw == nil {
		return s.conn.Read(make([]byte, 1))
	}
	waited := s.raw.Read(func(fd uintptr) bool {
		b := pools.get(smallBuffer)
		defer pools.put(b)
		var wait bool
		n, wait, err = readSocket(fd, b.bytes)
		if n == 0 && err == nil {
			err = io.EOF
		}
		return !wait
	})
	if waited != nil {
		return 0, waited
	}
	return n, err
}

// Write is described at Conn. Any goroutines may call it.
func (s *EventStream) Write(p []byte) error { return s.write(p, s.progressed) }

func (s *EventStream) progressed(int64) { s.said.Store(s.cfg.Keeper.now()) }

// Close ends the stream; the code and the reason are for Read and Write alone.
// After CloseNormal and CloseRestart the body is whole; after any other code,
// and over HTTP/1.0, the peer cannot tell the end from a connection that broke.
// It gives the peer half a second to close as well.
func (s *EventStream) Close(code uint16, reason string) error {
	var last []byte
	if s.chunked && (code == CloseNormal || code == CloseRestart) {
		last = []byte(lastChunk)
	}
	return s.shut(&CloseError{code, reason}, last)
}

// look sends a comment when there was nothing else to send, and ends the
// connection when there was no room for one for too long.
func (s *EventStream) look(now int64) {
	k := s.cfg.Keeper
	silent := time.Duration(now - s.said.Load())
	if silent < k.pingInterval() || time.Duration(now-s.tried) < k.pingInterval() || !s.mu.TryLock() {
		return // a write that is under way sees for itself whether it succeeds
	}
	s.tried = now
	sent := s.urgeLocked(s.AppendFrame(nil, true, []byte(heartbeat)))
	stuck := s.torn || !sent && silent >= k.idleTimeout()
	s.mu.Unlock()
	switch {
	case sent:
		s.said.Store(now)
	case stuck:
		s.cut(&CloseError{CloseGoingAway, "idle"}, nil)
	}
}
