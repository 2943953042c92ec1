package wire

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"sync/atomic"
	"time"
)

var _ Conn = (*Length)(nil)

// lengthBytes is the header of a frame: the length of what follows.
const lengthBytes = 4

// LengthConfig is how connections with a length before each frame behave. One
// serves any number of them and is not changed once in use.
type LengthConfig struct {
	// Keeper watches the connections. It is required, and should be running.
	Keeper *Keeper
	// BigEndian is the order of the length's bytes; otherwise it is little endian.
	BigEndian bool
	// MaxFrame bounds one frame's bytes; 0 is 1 MiB. A longer one is refused by its
	// declared length. MaxFirst bounds the first frame; 0 is MaxFrame.
	MaxFrame, MaxFirst int
	// Handshake is how long the TLS handshake may take, and First how long the
	// first frame may after it; 0 is 10 s, and 5 s.
	Handshake, First time.Duration
	// Idle is how long a peer may be silent; 0 is what the Keeper says.
	Idle time.Duration
	// WriteTimeout is as that of Config.
	WriteTimeout time.Duration
}

// Length is the server's end of a connection that carries frames with a length of
// four bytes before each, usually over TLS. It has no goodbye and no pings: Close
// sends what was written and ends the stream. At rest it costs this struct, a
// buffer of 1 KiB, and what TLS needs. It must be closed.
type Length struct {
	outlet

	cfg   *LengthConfig
	order binary.ByteOrder

	// What follows belongs to the goroutine that reads: buf is what has arrived,
	// parsed up to lo, and total the size of the frame that buf[lo:] begins, as far
	// as known.
	buf    []byte
	lo     int
	total  int
	frames []Frame
	narrow int // bounds a frame more tightly, unless it is 0

	made   time.Time
	opened atomic.Int64 // time since made of the end of the handshake; 0 before
	heard  atomic.Bool  // the first frame has come
	seen   atomic.Int64 // Keeper time of the last sign of life
	began  atomic.Int64 // Keeper time since when a frame is incomplete; 0 is none
}

// NewLength takes over conn, which it closes. For a *tls.Conn, Handshake comes
// before the first Read.
func NewLength(conn net.Conn, cfg *LengthConfig) *Length {
	var order binary.ByteOrder = binary.LittleEndian
	if cfg.BigEndian {
		order = binary.BigEndian
	}
	common := &Config{Keeper: cfg.Keeper, WriteTimeout: cfg.WriteTimeout}
	l := &Length{outlet: outlet{cfg: common, conn: conn}, cfg: cfg, order: order, made: time.Now()}
	l.seen.Store(working)
	cfg.Keeper.add(&l.outlet, l)
	return l
}

// Handshake does the TLS handshake, in the time for it and as long as ctx, and
// returns what came of it; for a connection without TLS that is empty.
func (l *Length) Handshake(ctx context.Context) (tls.ConnectionState, error) {
	const usual = 10 * time.Second
	defer func() { l.opened.Store(1 + int64(time.Since(l.made))) }()
	t, ok := l.conn.(*tls.Conn)
	if !ok {
		return tls.ConnectionState{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(l.cfg.Handshake, usual))
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		return tls.ConnectionState{}, fmt.Errorf("wire: handshake: %w", err)
	}
	return t.ConnectionState(), nil
}

// Name tells the two byte orders apart.
func (l *Length) Name() string {
	if l.cfg.BigEndian {
		return "length.big"
	}
	return "length.little"
}

// AppendFrame appends one frame to dst. Any goroutines may call it.
func (l *Length) AppendFrame(dst []byte, _ bool, payload []byte) []byte {
	var head [lengthBytes]byte
	l.order.PutUint32(head[:], uint32(len(payload))) // nobody tells 4 GiB at once
	return append(append(dst, head[:]...), payload...)
}

// Remote is the peer's address.
func (l *Length) Remote() net.Addr { return l.conn.RemoteAddr() }

// Read is described at Conn. A stream that ends inside a frame is
// io.ErrUnexpectedEOF; a peer that closes without TLS's own goodbye behind one
// has just left.
func (l *Length) Read() ([]Frame, error) {
	frames, err := l.next()
	l.began.Store(0)
	l.seen.Store(working)
	return frames, err
}

func (l *Length) next() ([]Frame, error) {
	l.restart()
	for {
		fault := l.parse()
		if len(l.frames) > 0 {
			l.heard.Store(true)
			return l.frames, nil
		}
		if fault != nil {
			l.cut(fault, nil)
			return nil, l.cause.Load()
		}
		now := l.cfg.Keeper.now()
		l.seen.Store(now)
		if l.lo == len(l.buf) {
			l.began.Store(0)
		} else if l.began.Load() == 0 {
			l.began.Store(now)
		}
		if err := l.fill(); err != nil {
			return nil, l.readError(err)
		}
	}
}

// restart moves what is not parsed yet to the front, and lets go of memory that
// only a large frame needed.
func (l *Length) restart() {
	clear(l.frames)
	l.frames = l.frames[:0]
	rest := l.buf[l.lo:]
	switch {
	case cap(l.buf) > smallBuffer && len(rest) <= smallBuffer:
		l.buf = append(make([]byte, 0, smallBuffer), rest...)
		l.frames = nil
	case l.lo > 0:
		l.buf = l.buf[:copy(l.buf, rest)]
	}
	l.lo = 0
}

// parse takes the whole frames out of what has arrived. A fault is told after
// the frames that came before it.
func (l *Length) parse() *CloseError {
	l.total = 0
	for len(l.frames) < maxSpareFrames && (l.narrow == 0 || len(l.frames) == 0) {
		rest := l.buf[l.lo:]
		if len(rest) < lengthBytes {
			return nil
		}
		size := l.order.Uint32(rest)
		if uint64(size) > uint64(l.most()) {
			return &CloseError{CloseTooBig, "message too big"}
		}
		end := lengthBytes + int(size)
		if len(rest) < end {
			l.total = end
			return nil
		}
		l.frames = append(l.frames, Frame{Payload: rest[lengthBytes:end:end]})
		l.lo += end
	}
	return nil
}

// Narrow is as that of WebSocket.
func (l *Length) Narrow(n int) { l.narrow = n }

// most bounds the next frame.
func (l *Length) most() int {
	if l.narrow > 0 {
		return l.narrow
	}
	if !l.heard.Load() && len(l.frames) == 0 && l.cfg.MaxFirst > 0 {
		return l.cfg.MaxFirst
	}
	if l.cfg.MaxFrame > 0 {
		return min(l.cfg.MaxFrame, math.MaxInt32)
	}
	return defaultMaxFrame
}

// fill waits until something has arrived and puts it behind what has. Memory
// grows with what arrives, not with what is declared.
func (l *Length) fill() error {
	if len(l.buf) == cap(l.buf) {
		want := max(smallBuffer, min(2*len(l.buf), max(l.total, maxBuffer)))
		l.buf = slices.Grow(l.buf, want-len(l.buf))
	}
	n, err := l.conn.Read(l.buf[len(l.buf):cap(l.buf)])
	l.buf = l.buf[:len(l.buf)+n]
	if n > 0 {
		return nil // an error beside bytes comes again
	}
	return err
}

func (l *Length) readError(err error) error {
	if cause := l.cause.Load(); cause != nil {
		return cause
	}
	whole := l.lo == len(l.buf)
	if whole && errors.Is(err, io.ErrUnexpectedEOF) {
		return io.EOF
	}
	if !whole && errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Write is described at Conn. Any goroutines may call it.
func (l *Length) Write(p []byte) error {
	return l.write(p, l.progressed)
}

// progressed counts a write that had to wait, and was taken, as a sign of life.
func (l *Length) progressed(started int64) {
	now := l.cfg.Keeper.now()
	if seen := l.seen.Load(); now > started && seen < now { // a reader at work has no use for it
		l.seen.CompareAndSwap(seen, now)
	}
}

// Close ends the stream behind what was written; the code and the reason are for
// Read and Write alone.
func (l *Length) Close(code uint16, reason string) error {
	return l.shut(&CloseError{code, reason}, nil)
}

// look ends who is silent, or does not come to an end.
func (l *Length) look(now int64) {
	const usual = 5 * time.Second
	seen, opened := l.seen.Load(), l.opened.Load()
	if opened == 0 || seen == working {
		return // the handshake has a deadline; at work, silence says nothing
	}
	began, k := l.began.Load(), l.cfg.Keeper
	switch {
	case !l.heard.Load() && time.Since(l.made)-time.Duration(opened) >= cmp.Or(l.cfg.First, usual):
		// The Keeper's own time may be that of half of First ago.
		l.cut(&CloseError{ClosePolicy, "said nothing"}, nil)
	case began != 0 && time.Duration(now-began) >= k.messageTimeout():
		l.cut(&CloseError{ClosePolicy, "message takes too long"}, nil)
	case time.Duration(now-seen) >= cmp.Or(l.cfg.Idle, k.idleTimeout()):
		l.cut(&CloseError{CloseGoingAway, "idle"}, nil)
	}
}
