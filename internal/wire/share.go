package wire

import (
	"encoding/binary"
	"math"
)

// Sharing is a Framing that compresses. It can compress a part that many frames
// have in common once for all of them, for in a deflate stream such a part may
// stand between others that are not compressed.
type Sharing interface {
	Framing
	// Shares tells whether it does so; otherwise AppendFrame is cheaper.
	Shares() bool
	// Share prepares a part for AppendShared of any Framing of this name. The
	// part itself is not kept.
	Share(part []byte) []byte
	// AppendShared appends the frame of a head, a part that was prepared, and a
	// tail, to dst, of which they may be a piece. It may be called by any number
	// of goroutines.
	AppendShared(dst []byte, text bool, head, shared, tail []byte) []byte
}

var _ Sharing = (*WebSocket)(nil)

// What the first byte of a shared part says about the others.
const (
	sharedPlain    = 0
	sharedDeflated = 1 // and end at a byte
)

// Shares tells whether frames are compressed.
func (w *WebSocket) Shares() bool { return w.deflate }

// Share is described at Sharing.
func (w *WebSocket) Share(part []byte) []byte {
	if w.deflate && len(part) >= minDeflate {
		shared := append(w.cfg.Keeper.deflates.deflate([]byte{sharedDeflated}, part), syncTail...)
		if len(shared) <= len(part) {
			return shared
		}
	}
	return append([]byte{sharedPlain}, part...)
}

// AppendShared is described at Sharing.
func (w *WebSocket) AppendShared(dst []byte, text bool, head, shared, tail []byte) []byte {
	op, start := opcode(text), len(dst)
	if shared[0] == sharedDeflated {
		op |= deflatedBit
		dst = appendStored(dst, head)
		dst = append(dst, shared[1:]...)
		dst = appendStored(dst, tail)
		dst = append(dst, 0) // an empty block, of which the syncTail is not sent
	} else {
		dst = append(append(append(dst, head...), shared[1:]...), tail...)
	}
	// The frame is written behind the payload and moved over it, which spares a
	// buffer.
	payload := dst[start:]
	dst = appendFrame(dst, op, payload, w.masks)
	return append(dst[:start], dst[start+len(payload):]...)
}

// appendStored appends blocks of deflate that are not compressed (RFC 1951
// section 3.2.4), from a byte to a byte.
func appendStored(dst, p []byte) []byte {
	for len(p) > 0 {
		n := min(len(p), math.MaxUint16)
		dst = append(dst, 0)
		dst = binary.LittleEndian.AppendUint16(dst, uint16(n))
		dst = binary.LittleEndian.AppendUint16(dst, ^uint16(n))
		dst = append(dst, p[:n]...)
		p = p[n:]
	}
	return dst
}
