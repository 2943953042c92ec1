package wire

import (
	"errors"
	"net"
	"os"
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

// Write is described at Conn. Any goroutines may call it.
func (w *WebSocket) Write(p []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.torn {
		return w.writeErrorLocked(ErrSlow, true)
	}
	whole := len(p)
	for len(p) > 0 {
		// Close first says that it closes and then sets its own deadline, so
		// that one of the two is seen here.
		if err := w.armLocked(time.Now()); err != nil {
			return w.writeErrorLocked(err, len(p) < whole)
		}
		if cause := w.cause.Load(); cause != nil {
			return w.writeErrorLocked(cause, len(p) < whole)
		}
		started := w.cfg.Keeper.now()
		n, err := w.conn.Write(p[:min(len(p), maxWrite)])
		p = p[n:]
		if n > 0 {
			w.progressed(started)
		}
		if err == nil {
			continue
		}
		if n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return w.writeErrorLocked(err, len(p) < whole)
		}
		w.armed = time.Time{}
	}
	return nil
}

// armLocked moves the write deadline, unless it was moved just now.
func (w *WebSocket) armLocked(now time.Time) error {
	if !w.armed.IsZero() && now.Sub(w.armed) < armEvery {
		return nil
	}
	w.armed = now
	return w.conn.SetWriteDeadline(now.Add(w.cfg.writeTimeout()))
}

func (w *WebSocket) writeErrorLocked(err error, torn bool) error {
	w.torn = w.torn || torn
	if cause := w.cause.Load(); cause != nil {
		return cause
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ErrSlow
	}
	return err
}

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
	return w.shut(&CloseError{code, reason}, closePayload(code, reason))
}

// shut sends a close frame and waits for the peer to close, all within
// goodbyeTime. Closing at once would lose the goodbye: a socket that still has
// bytes to read answers with a reset, which overtakes it.
func (w *WebSocket) shut(cause *CloseError, payload []byte) error {
	if !w.cause.CompareAndSwap(nil, cause) {
		return nil
	}
	limit := time.Now().Add(goodbyeTime)
	_ = w.conn.SetDeadline(limit) // who writes lets go of the lock by then
	w.mu.Lock()
	_ = w.conn.SetDeadline(limit) // who wrote may have moved it
	said := !w.torn && w.sayLocked(payload)
	w.mu.Unlock()
	if said {
		w.drain()
	}
	w.cfg.Keeper.remove(w)
	return w.conn.Close()
}

// sayLocked sends the close frame and, where it can, the end of the stream.
func (w *WebSocket) sayLocked(payload []byte) bool {
	n, err := w.conn.Write(appendFrame(nil, opClose, payload, w.masks))
	w.torn = w.torn || n > 0
	if err != nil {
		return false
	}
	if half, ok := w.conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite() == nil
	}
	return true
}

// drain reads until the peer has closed or the time is over.
func (w *WebSocket) drain() {
	pools := &w.cfg.Keeper.buffers
	b := pools.get(smallBuffer)
	defer pools.put(b)
	for {
		if _, err := w.conn.Read(b.bytes); err != nil {
			return
		}
	}
}

// ping sends a ping if that is possible without waiting.
func (w *WebSocket) ping() {
	if !w.mu.TryLock() {
		return // a write is under way, and sees for itself whether it succeeds
	}
	defer w.mu.Unlock()
	w.urgeLocked(opPing, nil)
}

// cut ends the connection without waiting for anybody.
func (w *WebSocket) cut(cause *CloseError) {
	if !w.cause.CompareAndSwap(nil, cause) {
		return
	}
	if w.mu.TryLock() {
		w.urgeLocked(opClose, closePayload(cause.Code, cause.Reason))
		w.mu.Unlock()
	}
	w.cfg.Keeper.remove(w)
	conn := w.conn
	// Closing TLS waits for its own goodbye.
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = t.NetConn()
	}
	_ = conn.Close()
}

// urgeLocked writes one control frame now or not at all.
func (w *WebSocket) urgeLocked(op byte, payload []byte) {
	if w.torn {
		return
	}
	_ = w.conn.SetWriteDeadline(time.Now().Add(briefly))
	frame := appendFrame(make([]byte, 0, maxOverhead), op, payload, w.masks)
	n, _ := w.conn.Write(frame)
	w.torn = n > 0 && n < len(frame)
	w.armed = time.Time{}
}
