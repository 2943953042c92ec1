package wire

import (
	"errors"
	"io"
)

// fill waits until something has arrived and puts it behind what is not parsed
// yet.
func (w *WebSocket) fill() error {
	if w.raw == nil {
		size := w.room()
		if size == maxBuffer { // no larger than it seems to need, for it may wait long
			size = min(size, len(w.buf)-w.lo+max(2*w.got, 1))
		}
		w.reserve(size)
		w.got, w.err = w.conn.Read(w.buf[len(w.buf):cap(w.buf)])
		w.buf = w.buf[:len(w.buf)+w.got]
	} else if err := w.raw.Read(w.try); err != nil {
		return err
	}
	if w.got > 0 {
		return nil // an error beside bytes comes again
	}
	return w.err
}

// tryRead reads once without waiting. Where nothing has arrived it gives back
// what memory it can and reports false, and is called again when something has:
// in between, a connection at rest holds nothing.
func (w *WebSocket) tryRead(fd uintptr) bool {
	w.reserve(w.room())
	n, wait, err := readSocket(fd, w.buf[len(w.buf):cap(w.buf)])
	if n == 0 && err == nil {
		err = io.EOF
	}
	w.got, w.err = n, err
	w.buf = w.buf[:len(w.buf)+n]
	w.fit()
	return !wait
}

// room is how large a buffer the next read wants. A frame larger than a pooled
// buffer gets memory of its own, which doubles as it arrives: what was declared
// and never comes costs nothing.
func (w *WebSocket) room() int {
	switch pending := len(w.buf) - w.lo; {
	case pending < maxBuffer:
		return maxBuffer
	case pending < cap(w.buf):
		return cap(w.buf)
	default:
		return min(w.total, 2*pending)
	}
}

// reserve moves what is not parsed yet to the front of a buffer of at least
// size bytes, which is more than it is.
func (w *WebSocket) reserve(size int) {
	have := cap(w.buf)
	if have < size || have > maxBuffer && w.total <= maxBuffer {
		w.move(size)
	} else if w.lo > 0 {
		w.buf = w.buf[:copy(w.buf[:have], w.buf[w.lo:])]
		w.lo = 0
	}
}

// fit moves what is not parsed yet to the smallest buffer that holds it, so
// that many connections at work, or many halves of a frame, stay cheap.
func (w *WebSocket) fit() {
	pools := &w.cfg.Keeper.buffers
	pending := len(w.buf) - w.lo
	if pending == 0 {
		w.release()
		return
	}
	if size, _ := pools.size(pending); size < cap(w.buf) && size <= maxBuffer {
		w.move(size)
	}
}

func (w *WebSocket) move(size int) {
	next := w.cfg.Keeper.buffers.get(size)
	n := copy(next.bytes, w.buf[w.lo:])
	w.release()
	w.held, w.buf = next, next.bytes[:n]
}

// release gives back the buffer and what is in it.
func (w *WebSocket) release() {
	w.cfg.Keeper.buffers.put(w.held)
	w.held, w.buf, w.lo = nil, nil, 0
}

// readError says in one way how a connection ended without a goodbye.
func (w *WebSocket) readError(err error) error {
	cut := w.lo < len(w.buf) || w.msg != nil
	w.release()
	if cause := w.cause.Load(); cause != nil {
		return cause
	}
	if errors.Is(err, io.EOF) && cut {
		return io.ErrUnexpectedEOF
	}
	return err
}
