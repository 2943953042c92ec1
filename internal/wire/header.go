package wire

import (
	"encoding/binary"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

const (
	opContinuation = byte(ws.OpContinuation)
	opText         = byte(ws.OpText)
	opBinary       = byte(ws.OpBinary)
	opClose        = byte(ws.OpClose)
	opPing         = byte(ws.OpPing)
	opPong         = byte(ws.OpPong)

	finBit      = 0x80
	reservedBit = 0x70
	opBits      = 0x0f
	maskBit     = 0x80
	lengthBits  = 0x7f
	length16    = 126 // the length follows in 2 bytes
	length64    = 127 // the length follows in 8 bytes

	maskBytes   = 4
	maxControl  = ws.MaxControlFramePayloadSize
	maxReason   = maxControl - 2
	maxHeader   = ws.MaxHeaderSize
	maxOverhead = maxHeader + maxControl // of a control frame
)

// header is the part of a frame before its payload (RFC 6455 section 5.2).
type header struct {
	op       byte
	fin      bool
	mask     [maskBytes]byte
	deflated bool // the message that begins here is compressed
	// head is the header's own bytes; 0 while it has not arrived whole.
	head int
	size int // the payload's bytes
}

func (h *header) control() bool { return h.op >= opClose }

// deflates tells whether the reserved bits of the first byte are the one that
// marks a compressed message, where one begins and it was agreed to; and notes it.
func (h *header) deflates(deflate bool, first byte) bool {
	h.deflated = deflate && first&reservedBit == deflatedBit && (h.op == opText || h.op == opBinary)
	return h.deflated
}

// opcode is that of a data frame.
func opcode(text bool) byte {
	if text {
		return opText
	}
	return opBinary
}

// mayHave tells whether the frame may have more bytes than a message, because
// that is compressed. That of a continuation shows later.
func (h *header) mayHave(deflate bool, size, maxSize int) bool {
	return deflate && (h.deflated || h.op == opContinuation) && size <= mostDeflated(maxSize)
}

func violation(reason string) *CloseError { return &CloseError{CloseProtocol, reason} }

// parseHeader reads the header that b begins with and refuses what no frame may
// have, as early as the bytes tell: the rest of a bad frame is not waited for.
func parseHeader(b []byte, masked, deflate bool, maxSize int) (h header, fault *CloseError) {
	if len(b) < 2 {
		return h, nil
	}
	h.op, h.fin = b[0]&opBits, b[0]&finBit != 0
	length := b[1] & lengthBits
	switch {
	case b[0]&reservedBit != 0 && !h.deflates(deflate, b[0]):
		return h, violation("reserved bits set")
	case h.op > opPong || h.op > opBinary && h.op < opClose:
		return h, violation("unknown opcode " + strconv.Itoa(int(h.op)))
	case h.control() && !h.fin:
		return h, violation("fragmented control frame")
	case h.control() && length > maxControl:
		return h, violation("control frame longer than 125 bytes")
	case b[1]&maskBit != 0 != masked:
		return h, violation("incorrect mask flag")
	}
	head, size := 2, uint64(length)
	switch length {
	case length16:
		if head = 4; len(b) < head {
			return h, nil
		}
		if size = uint64(binary.BigEndian.Uint16(b[2:])); size < length16 {
			return h, violation("length is not minimal")
		}
	case length64:
		if head = 10; len(b) < head {
			return h, nil
		}
		size = binary.BigEndian.Uint64(b[2:])
		if size>>63 != 0 {
			return h, violation("length has its highest bit set")
		}
		if size <= 0xffff {
			return h, violation("length is not minimal")
		}
	}
	if size > math.MaxInt || !h.control() && int(size) > maxSize && !h.mayHave(deflate, int(size), maxSize) {
		return h, &CloseError{CloseTooBig, "message too big"}
	}
	h.size = int(size)
	if masked {
		if len(b) < head+maskBytes {
			return h, nil
		}
		h.mask = [maskBytes]byte(b[head:])
		head += maskBytes
	}
	h.head = head
	return h, nil
}

// appendFrame appends one unfragmented frame, masked when there are masks.
func appendFrame(dst []byte, op byte, payload []byte, m *masks) []byte {
	var flag byte
	if m != nil {
		flag = maskBit
	}
	switch n := len(payload); {
	case n < length16:
		dst = append(dst, finBit|op, flag|byte(n))
	case n <= 0xffff:
		dst = append(dst, finBit|op, flag|length16, byte(n>>8), byte(n&0xff))
	default:
		dst = append(dst, finBit|op, flag|length64)
		dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	if m == nil {
		return append(dst, payload...)
	}
	mask := m.next()
	dst = append(dst, mask[:]...)
	at := len(dst)
	dst = append(dst, payload...)
	ws.Cipher(dst[at:], mask, 0)
	return dst
}

// closePayload is the body of a close frame; a reason that is too long is cut
// between two characters. Codes that mean "there was none" make an empty body.
func closePayload(code uint16, reason string) []byte {
	if code == 0 || code == CloseNoStatus {
		return nil
	}
	if len(reason) > maxReason {
		cut := maxReason
		for cut > 0 && !utf8.RuneStart(reason[cut]) {
			cut--
		}
		reason = reason[:cut]
	}
	return append(binary.BigEndian.AppendUint16(nil, code), reason...)
}

// parseClose reads a close frame's body. The fault says what is wrong with it.
func parseClose(p []byte) (bye, fault *CloseError) {
	if len(p) == 0 {
		return &CloseError{Code: CloseNoStatus}, nil
	}
	if len(p) == 1 {
		return nil, violation("close frame with half a code")
	}
	code := binary.BigEndian.Uint16(p)
	switch {
	case !mayClose(code):
		return nil, violation("invalid close code " + strconv.Itoa(int(code)))
	case !utf8.Valid(p[2:]):
		return nil, &CloseError{CloseInvalidText, "close reason is not UTF-8"}
	}
	return &CloseError{code, string(p[2:])}, nil
}

// mayClose reports whether a close frame may carry the code: one registered for
// the wire, or one of the ranges left to libraries and applications.
func mayClose(code uint16) bool {
	switch {
	case code >= 3000 && code <= 4999:
		return true
	case code < 1000 || code > 1014:
		return false
	}
	return code != 1004 && code != CloseNoStatus && code != 1006
}
