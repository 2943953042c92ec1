package wire

import (
	"net"
	"sync/atomic"
	"syscall"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

var _ Conn = (*WebSocket)(nil)

const (
	// maxFragments bounds the frames of one message. Memory does not need it,
	// for fragments are joined as they come; it ends a flood of empty ones.
	maxFragments = 1 << 15
	// working, as the time of the last sign of life, says that nobody reads
	// right now and so nobody can tell whether the peer is alive.
	working = 1<<63 - 1
)

// WebSocket is one end of a WebSocket connection (RFC 6455): a server's, made
// by Upgrade, or a client's, made by Dial. At rest it costs this struct, the
// socket and the stack of the goroutine that reads. It must be closed.
type WebSocket struct {
	outlet

	raw   syscall.RawConn // nil when conn is not a socket
	try   func(uintptr) bool
	masks *masks // a client's; nil for a server, whose peer masks
	// agreed is which of Config.Subprotocols was, or empty; deflate says that
	// compression was.
	agreed  string
	deflate bool

	// What follows belongs to the goroutine that reads: buf is what has arrived
	// in held, parsed up to lo; both are nil at rest. total is the size of the
	// frame that buf[lo:] is the beginning of, as far as known.
	held  *buffer
	buf   []byte
	lo    int
	total int
	// narrow bounds a message more tightly than the Config, unless it is 0.
	narrow int
	msg    *message    // begun by a fragment
	fault  *CloseError // ends the connection after the frames before it
	bye    bool        // fault is the peer's goodbye
	grown  int         // bytes of the messages decompressed since the last Read
	got    int         // bytes of the last read
	err    error       // of the last read

	seen   atomic.Int64 // Keeper time of the last sign of life
	began  atomic.Int64 // Keeper time since when a message is incomplete; 0 is none
	pinged int64        // the Keeper's own: when it last sent a ping
}

// message is what has come of a fragmented message.
type message struct {
	text, deflated bool
	parts          int
	body           []byte
}

// most bounds the bytes of the message as it comes; n bounds what it says.
func (m *message) most(n int) int {
	if m.deflated {
		return mostDeflated(n)
	}
	return n
}

// newWebSocket takes over conn, and with it what arrived behind the handshake.
func newWebSocket(conn net.Conn, cfg *Config, m *masks, early []byte) *WebSocket {
	w := &WebSocket{outlet: outlet{cfg: cfg, conn: conn}, masks: m}
	if s, ok := conn.(syscall.Conn); ok && rawReads {
		if raw, err := s.SyscallConn(); err == nil {
			w.raw, w.try = raw, w.tryRead
		}
	}
	if len(early) > 0 {
		w.reserve(len(early))
		w.buf = append(w.buf, early...)
	}
	w.seen.Store(working)
	cfg.Keeper.add(&w.outlet, w)
	return w
}

// Name tells a server's framing from one that compresses and from a client's,
// whose frames are masked and so never the same twice.
func (w *WebSocket) Name() string {
	switch {
	case w.masks != nil:
		return "websocket.client"
	case w.deflate:
		return "websocket.deflate"
	}
	return "websocket"
}

// AppendFrame appends one data frame to dst. Any goroutines may call it.
func (w *WebSocket) AppendFrame(dst []byte, text bool, payload []byte) []byte {
	op := opcode(text)
	if w.deflate && len(payload) >= minDeflate {
		return w.cfg.Keeper.deflates.appendFrame(dst, op, payload)
	}
	return appendFrame(dst, op, payload, w.masks)
}

// Remote is the peer's address, or that of the proxy before it.
func (w *WebSocket) Remote() net.Addr { return w.conn.RemoteAddr() }

// Subprotocol is what client and server agreed on, or empty.
func (w *WebSocket) Subprotocol() string { return w.agreed }

// Narrow bounds messages to n bytes, less than the Config allows, from the next
// Read on, which then returns one at a time and takes none that is compressed; 0
// ends that. Only the goroutine that reads may call it.
func (w *WebSocket) Narrow(n int) { w.narrow = n }

func (w *WebSocket) maxFrame() int {
	if w.narrow > 0 {
		return min(w.narrow, w.cfg.maxFrame())
	}
	return w.cfg.maxFrame()
}

// Read is described at Conn. It also answers pings and the peer's goodbye.
func (w *WebSocket) Read() ([]Frame, error) {
	frames, err := w.next()
	w.began.Store(0)
	w.seen.Store(working)
	return frames, err
}

func (w *WebSocket) next() ([]Frame, error) {
	for {
		if w.fault != nil {
			return nil, w.farewell()
		}
		if cause := w.cause.Load(); cause != nil {
			w.release()
			return nil, cause
		}
		frames, err := w.parse()
		if len(frames) > 0 || err != nil {
			return frames, err
		}
		if w.fault != nil {
			continue
		}
		now := w.cfg.Keeper.now()
		w.seen.Store(now)
		if w.lo == len(w.buf) && w.msg == nil {
			w.began.Store(0)
		} else if w.began.Load() == 0 {
			w.began.Store(now)
		}
		if err := w.fill(); err != nil {
			return nil, w.readError(err)
		}
	}
}

// farewell answers the peer's goodbye with its code alone, and a broken rule
// with the code and the reason, and closes.
func (w *WebSocket) farewell() error {
	reason := w.fault.Reason
	if w.bye {
		reason = ""
	}
	w.release()
	_ = w.shut(w.fault, w.goodbyeFrame(closePayload(w.fault.Code, reason)))
	return w.cause.Load() // another goroutine may have closed first
}

// parse takes the whole frames out of what has arrived: unmasks them in place,
// joins fragments, answers pings. A fault is left in w.fault, to be dealt with
// after the frames that came before it. What would decompress to much more than
// has arrived waits for the next Read.
func (w *WebSocket) parse() ([]Frame, error) {
	if w.held == nil {
		return nil, nil
	}
	var pongs *buffer
	clear(w.held.frames) // they may refer to memory of their own
	frames := w.held.frames[:0]
	w.total, w.grown = 0, 0
	masked, most, deflate := w.masks == nil, w.maxFrame(), w.deflate && w.narrow == 0
	for w.lo < len(w.buf) && w.fault == nil && w.grown < maxBuffer && (w.narrow == 0 || len(frames) == 0) {
		h, fault := parseHeader(w.buf[w.lo:], masked, deflate, most)
		if fault == nil && h.head > 0 {
			fault = w.admit(&h)
		}
		if fault != nil {
			w.fault = fault
			break
		}
		start := w.lo + h.head
		if end := start + h.size; h.head == 0 || end > len(w.buf) {
			w.total = end - w.lo
			break
		}
		w.lo = start + h.size
		payload := w.buf[start:w.lo:w.lo]
		if h.mask != [maskBytes]byte{} {
			ws.Cipher(payload, h.mask, 0)
		}
		switch {
		case h.op == opPing:
			var err error
			if pongs, err = w.pong(pongs, payload); err != nil {
				return nil, err
			}
		case h.control():
			w.goodbye(&h, payload)
		default:
			frames = w.deliver(frames, &h, payload)
		}
	}
	w.held.frames = frames
	return frames, w.flush(pongs)
}

// admit checks what a data frame may be after those before it.
func (w *WebSocket) admit(h *header) *CloseError {
	switch {
	case h.control():
		return nil
	case w.msg == nil && h.op == opContinuation:
		return violation("continuation of nothing")
	case w.msg == nil:
		return nil
	case h.op != opContinuation:
		return violation("new message inside a fragmented one")
	case w.msg.parts >= maxFragments:
		return &CloseError{ClosePolicy, "too many fragments"}
	case h.size > w.msg.most(w.maxFrame())-len(w.msg.body):
		return &CloseError{CloseTooBig, "message too big"}
	}
	return nil
}

// deliver appends the message that the frame completes, if it does.
func (w *WebSocket) deliver(frames []Frame, h *header, payload []byte) []Frame {
	f, deflated := Frame{Text: h.op == opText, Payload: payload}, h.deflated
	if w.msg != nil || !h.fin {
		if w.msg == nil {
			w.msg = &message{text: f.Text, deflated: deflated}
		}
		w.msg.parts++
		w.msg.body = append(w.msg.body, payload...)
		if !h.fin {
			return frames
		}
		f, deflated = Frame{Text: w.msg.text, Payload: w.msg.body}, w.msg.deflated
		w.msg = nil
	}
	if deflated {
		f.Payload, w.fault = w.cfg.Keeper.deflates.inflate(f.Payload, w.maxFrame())
		if w.fault != nil {
			return frames
		}
		w.grown += len(f.Payload)
	}
	if f.Text && !w.cfg.AnyText && !utf8.Valid(f.Payload) {
		w.fault = &CloseError{CloseInvalidText, "text is not UTF-8"}
		return frames
	}
	return append(frames, f)
}

// goodbye takes the peer's close frame; a pong is only a sign of life.
func (w *WebSocket) goodbye(h *header, payload []byte) {
	if h.op != opClose {
		return
	}
	if len(payload) == 1 && w.cfg.AnyClose {
		payload = nil
	}
	bye, fault := parseClose(payload)
	if fault != nil && w.cfg.AnyCode {
		bye, fault = &CloseError{Code: CloseNormal}, nil
	}
	if w.bye = fault == nil; w.bye {
		w.fault = bye
	} else {
		w.fault = fault
	}
}

// pong collects the answers to the pings of one read, so that a flood of pings
// is not a flood of writes.
func (w *WebSocket) pong(pongs *buffer, payload []byte) (*buffer, error) {
	if pongs == nil {
		pongs = w.cfg.Keeper.buffers.get(smallBuffer)
		pongs.used = 0
	}
	if len(pongs.bytes)-pongs.used < maxOverhead {
		if err := w.Write(pongs.bytes[:pongs.used]); err != nil {
			return nil, err
		}
		pongs.used = 0
	}
	pongs.used = len(appendFrame(pongs.bytes[:pongs.used], opPong, payload, w.masks))
	return pongs, nil
}

func (w *WebSocket) flush(pongs *buffer) error {
	if pongs == nil {
		return nil
	}
	err := w.Write(pongs.bytes[:pongs.used])
	w.cfg.Keeper.buffers.put(pongs)
	return err
}
