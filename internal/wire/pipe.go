package wire

import (
	"encoding/binary"
	"net"
	"sync"
	"time"
)

const (
	pipeHeader = 5 // a flag and a length of 4 bytes
	pipeText   = 1 // the flag: text
	pipeBytes  = 64 << 10
)

// Pipe makes two connected ends in memory, with a framing of its own. Each
// direction holds up to 64 KiB; then Write waits for the other end to read, 20
// seconds at most. What one end says with Close is what the other end's Read
// fails with, after the frames before it. It works in a synctest bubble.
func Pipe() (Conn, Conn) {
	there, back := newLane(), newLane()
	return &pipe{in: back, out: there}, &pipe{in: there, out: back}
}

// pipe is one end.
type pipe struct {
	in, out *lane
	// What follows belongs to the goroutine that reads.
	buf    []byte
	used   int // how much of buf is parsed
	frames []Frame
}

var _ Conn = (*pipe)(nil)

func (*pipe) Name() string { return "pipe" }

func (*pipe) AppendFrame(dst []byte, text bool, payload []byte) []byte {
	var flag byte
	if text {
		flag = pipeText
	}
	dst = binary.BigEndian.AppendUint32(append(dst, flag), uint32(len(payload)))
	return append(dst, payload...)
}

func (p *pipe) Read() ([]Frame, error) {
	p.buf = append(p.buf[:0], p.buf[p.used:]...)
	p.used, p.frames = 0, p.frames[:0]
	for {
		for {
			rest := p.buf[p.used:]
			if len(rest) < pipeHeader {
				break
			}
			end := pipeHeader + int(binary.BigEndian.Uint32(rest[1:]))
			if len(rest) < end {
				break
			}
			p.frames = append(p.frames, Frame{Text: rest[0] == pipeText, Payload: rest[pipeHeader:end:end]})
			p.used += end
		}
		if len(p.frames) > 0 {
			return p.frames, nil
		}
		var err error
		if p.buf, err = p.in.take(p.buf); err != nil {
			return nil, err
		}
	}
}

func (p *pipe) Write(b []byte) error { return p.out.put(b) }

func (p *pipe) Close(code uint16, reason string) error {
	e := &CloseError{code, reason}
	p.in.close(e, false) // first: the other end's answer is not our reason
	p.out.close(e, true)
	return nil
}

func (*pipe) Remote() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// lane carries bytes one way.
type lane struct {
	mu     sync.Mutex
	moved  *sync.Cond // something was put, taken, or the lane closed
	bytes  []byte
	closed *CloseError
}

func newLane() *lane {
	l := new(lane)
	l.moved = sync.NewCond(&l.mu)
	return l
}

// put waits as long as the other end makes progress.
func (l *lane) put(p []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(p) > 0 {
		if l.closed != nil {
			return l.closed
		}
		if len(l.bytes) == pipeBytes {
			if err := l.waitLocked(); err != nil {
				return err
			}
			continue
		}
		n := min(len(p), pipeBytes-len(l.bytes))
		l.bytes = append(l.bytes, p[:n]...)
		p = p[n:]
		l.moved.Broadcast()
	}
	return nil
}

// waitLocked waits for room, or until the lane is closed.
func (l *lane) waitLocked() error {
	late := false
	t := time.AfterFunc(defaultWriteTimeout, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		late = true
		l.moved.Broadcast()
	})
	defer t.Stop()
	for l.closed == nil && len(l.bytes) == pipeBytes {
		if late {
			return ErrSlow
		}
		l.moved.Wait()
	}
	return nil
}

// take waits for bytes and appends them to dst; what was put before the lane
// closed comes first.
func (l *lane) take(dst []byte) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.bytes) == 0 {
		if l.closed != nil {
			return dst, l.closed
		}
		l.moved.Wait()
	}
	dst = append(dst, l.bytes...)
	l.bytes = l.bytes[:0]
	l.moved.Broadcast()
	return dst, nil
}

// close ends the lane. What is under way still arrives if keep says so.
func (l *lane) close(e *CloseError, keep bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed != nil {
		return
	}
	l.closed = e
	if !keep {
		l.bytes = nil
	}
	l.moved.Broadcast()
}
