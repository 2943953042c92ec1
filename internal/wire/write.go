package wire

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxWrite is what one write to the socket takes at most: progress is seen
	// in steps of it.
	maxWrite = 64 << 10
	// armEvery is how often a write deadline is moved, for that costs more than
	// a small write's share; it makes the deadline at most that much too short.
	armEvery = time.Second
	// goodbyeTime bounds Close.
	goodbyeTime = 500 * time.Millisecond
	// briefly is what the Keeper waits for a socket that ought to be writable.
	briefly = 5 * time.Millisecond
)

// outlet is what all connections over a socket have in common: how they write,
// and how they end.
type outlet struct {
	cfg  *Config
	conn net.Conn

	mu    sync.Mutex // one writer at a time; guards the following fields
	armed time.Time  // when the write deadline was last set
	torn  bool       // a frame was cut short: nothing may follow it

	cause atomic.Pointer[CloseError] // set once by who closes
}

// write writes whole frames as described at Conn. It calls progressed with the
// Keeper's time before each write that was taken.
func (o *outlet) write(p []byte, progressed func(started int64)) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.torn {
		return o.writeErrorLocked(ErrSlow, true)
	}
	whole := len(p)
	for len(p) > 0 {
		// Close first says that it closes and then sets its own deadline, so
		// that one of the two is seen here.
		if err := o.armLocked(time.Now()); err != nil {
			return o.writeErrorLocked(err, len(p) < whole)
		}
		if cause := o.cause.Load(); cause != nil {
			return o.writeErrorLocked(cause, len(p) < whole)
		}
		started := o.cfg.Keeper.now()
		n, err := o.conn.Write(p[:min(len(p), maxWrite)])
		p = p[n:]
		if n > 0 {
			progressed(started)
		}
		if err == nil {
			continue
		}
		if n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return o.writeErrorLocked(err, len(p) < whole)
		}
		o.armed = time.Time{}
	}
	return nil
}

// armLocked moves the write deadline, unless it was moved just now.
func (o *outlet) armLocked(now time.Time) error {
	if !o.armed.IsZero() && now.Sub(o.armed) < armEvery {
		return nil
	}
	o.armed = now
	return o.conn.SetWriteDeadline(now.Add(o.cfg.writeTimeout()))
}

func (o *outlet) writeErrorLocked(err error, torn bool) error {
	o.torn = o.torn || torn
	if cause := o.cause.Load(); cause != nil {
		return cause
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ErrSlow
	}
	return err
}

// shut sends the last bytes and waits for the peer to close, all within
// goodbyeTime. Closing at once would lose the goodbye: a socket that still has
// bytes to read answers with a reset, which overtakes it.
func (o *outlet) shut(cause *CloseError, last []byte) error {
	if !o.cause.CompareAndSwap(nil, cause) {
		return nil
	}
	limit := time.Now().Add(goodbyeTime)
	_ = o.conn.SetDeadline(limit) // who writes lets go of the lock by then
	o.mu.Lock()
	_ = o.conn.SetDeadline(limit) // who wrote may have moved it
	said := !o.torn && o.sayLocked(last)
	o.mu.Unlock()
	if said {
		o.drain()
	}
	o.cfg.Keeper.remove(o)
	return o.conn.Close()
}

// sayLocked sends the last bytes and, where it can, the end of the stream.
func (o *outlet) sayLocked(last []byte) bool {
	if len(last) > 0 {
		n, err := o.conn.Write(last)
		o.torn = o.torn || n > 0
		if err != nil {
			return false
		}
	}
	if half, ok := o.conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite() == nil
	}
	return true
}

// drain reads until the peer has closed or the time is over.
func (o *outlet) drain() {
	pools := &o.cfg.Keeper.buffers
	b := pools.get(smallBuffer)
	defer pools.put(b)
	for {
		if _, err := o.conn.Read(b.bytes); err != nil {
			return
		}
	}
}

// cut ends the connection without waiting for anybody; the last bytes are sent
// if they can be at once.
func (o *outlet) cut(cause *CloseError, last []byte) {
	if !o.cause.CompareAndSwap(nil, cause) {
		return
	}
	if o.mu.TryLock() {
		o.urgeLocked(last)
		o.mu.Unlock()
	}
	o.cfg.Keeper.remove(o)
	conn := o.conn
	// Closing TLS waits for its own goodbye.
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = t.NetConn()
	}
	_ = conn.Close()
}

// urgeLocked writes one short frame now or not at all, and reports whether it
// did.
func (o *outlet) urgeLocked(frame []byte) bool {
	if o.torn {
		return false
	}
	_ = o.conn.SetWriteDeadline(time.Now().Add(briefly))
	n, _ := o.conn.Write(frame)
	o.torn = n > 0 && n < len(frame)
	o.armed = time.Time{}
	return n == len(frame)
}

// Write is described at Conn. Any goroutines may call it.
func (w *WebSocket) Write(p []byte) error { return w.write(p, w.progressed) }

// progressed counts a write that had to wait, and was taken at last, as a sign
// of life: a slow peer may be too busy reading to answer pings in time. One
// that did not wait proves nothing, for the kernel took it.
func (w *WebSocket) progressed(started int64) {
	now := w.cfg.Keeper.now()
	if now == started {
		return
	}
	// A reader at work has no use for it.
	if seen := w.seen.Load(); seen < now {
		w.seen.CompareAndSwap(seen, now)
	}
}

// Close is described at Conn.
func (w *WebSocket) Close(code uint16, reason string) error {
	return w.shut(&CloseError{code, reason}, w.goodbyeFrame(closePayload(code, reason)))
}

// goodbyeFrame is a close frame.
func (w *WebSocket) goodbyeFrame(payload []byte) []byte {
	return appendFrame(make([]byte, 0, maxOverhead), opClose, payload, w.masks)
}

// ping sends a ping if that is possible without waiting.
func (w *WebSocket) ping() {
	if !w.mu.TryLock() {
		return // a write is under way, and sees for itself whether it succeeds
	}
	defer w.mu.Unlock()
	w.urgeLocked(appendFrame(make([]byte, 0, maxOverhead), opPing, nil, w.masks))
}

// expel ends the connection without waiting for anybody.
func (w *WebSocket) expel(cause *CloseError) {
	w.cut(cause, w.goodbyeFrame(closePayload(cause.Code, cause.Reason)))
}
