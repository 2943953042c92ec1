// Package wire moves frames: over WebSocket, and over an in-memory pipe for
// tests. It knows nothing of what the frames say.
//
// [Upgrade] makes a [WebSocket] of an HTTP request, [Dial] makes one to a
// server, [Pipe] makes two ends in memory; all are a [Conn]. A [Keeper] watches
// the connections of one listener: it sends the pings, and it ends what is idle
// or never finishes a message. A [Policy] says which browsers may come, and
// [Limit] how many connections.
//
// A connection at rest holds no buffer: it waits for its socket to become
// readable and only then borrows one. What a stranger declares is never
// allocated before it has arrived, and what it has compressed not before it has
// grown. Compression (RFC 7692) is agreed to where Config asks for it.
package wire

import (
	"errors"
	"net"
	"strconv"
)

// Frame is one whole message on the wire.
type Frame struct {
	// Text says that Payload came as text. It is valid UTF-8, unless the
	// connection was told not to look (Config.AnyText).
	Text    bool
	Payload []byte
}

// Framing writes frames as bytes. Two conns of the same framing name write the
// same frame as the same bytes, so that one encoding can be sent to many.
type Framing interface {
	// AppendFrame appends the frame to dst and returns the result. It may be
	// called by any number of goroutines.
	AppendFrame(dst []byte, text bool, payload []byte) []byte
	// Name tells framings apart.
	Name() string
}

// Conn is one connection that carries frames. One goroutine may read while
// another writes; Close may be called by any.
type Conn interface {
	Framing
	// Read blocks until at least one whole frame has arrived and returns all
	// that have. They are valid until the next Read, and the caller may change
	// them. After an error the connection is of no further use but must still
	// be closed; the error is a *CloseError when the peer said goodbye or broke
	// the rules, in which case the close frame that answers it has been sent,
	// and io.EOF when the peer left without a word.
	Read() ([]Frame, error)
	// Write sends bytes that AppendFrame made, whole frames only. It blocks as
	// long as the peer makes progress, and fails with ErrSlow when it made none
	// for the write deadline.
	Write(p []byte) error
	// Close says goodbye with a code (RFC 6455 section 7.4; 0 sends none) and a
	// reason of at most 123 bytes, gives the peer half a second to answer, and
	// closes. Further calls do nothing. It unblocks Read and Write, which then
	// fail with the *CloseError that Close was given.
	Close(code uint16, reason string) error
	// Remote is the peer's address.
	Remote() net.Addr
}

// The close codes that Parley sends (RFC 6455 section 7.4.1 and the IANA
// registry).
const (
	CloseNormal      uint16 = 1000
	CloseGoingAway   uint16 = 1001
	CloseProtocol    uint16 = 1002
	CloseNoStatus    uint16 = 1005 // never sent: the peer's close frame had no code
	CloseInvalidText uint16 = 1007
	ClosePolicy      uint16 = 1008
	CloseTooBig      uint16 = 1009
	CloseInternal    uint16 = 1011
	CloseRestart     uint16 = 1012
	CloseTryLater    uint16 = 1013
)

// CloseError says why a connection ended: with the peer's goodbye, with a
// broken rule, or with a Close of our own. It is a net.ErrClosed.
type CloseError struct {
	Code   uint16
	Reason string
}

// Error is the code, and the reason where there is one.
func (e *CloseError) Error() string {
	s := "wire: closed with " + strconv.Itoa(int(e.Code))
	if e.Reason != "" {
		s += " " + strconv.Quote(e.Reason)
	}
	return s
}

// Is makes errors.Is(err, net.ErrClosed) true.
func (e *CloseError) Is(target error) bool { return target == net.ErrClosed }

// ErrSlow is what Write fails with when the peer does not read.
var ErrSlow = errors.New("wire: peer makes no progress")
