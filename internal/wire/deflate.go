package wire

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
)

const (
	// deflatedBit, of the first byte of a message, says that it is compressed.
	deflatedBit = 0x40
	// minDeflate is the size from which a message is worth compressing: a
	// shorter one is one packet either way, and shrinks by less than half.
	minDeflate = 512
	// syncTail ends every compressed message, and is not sent.
	syncTail = "\x00\x00\xff\xff"
	// lastBlock, behind it, lets a reader of deflate see a regular end.
	lastBlock = "\x01\x00\x00\xff\xff"
)

// mostDeflated is how large a message of n bytes may have become by compression.
// Noise grows, by an eighth and a little where a compressor takes the fixed
// codes, of which the longest has nine bits for eight.
func mostDeflated(n int) int { return n + n/7 + 64 }

// deflates lends what compresses and decompresses messages (RFC 7692). A
// connection holds neither, because no message refers to one before it: both
// sides have agreed to that. So a message is the same bytes on every
// connection, and one that waits costs nothing.
type deflates struct{ deflaters, inflaters sync.Pool }

// appendFrame appends a server's frame, compressed if that makes it smaller.
// Any goroutines may call it.
func (d *deflates) appendFrame(dst []byte, op byte, payload []byte) []byte {
	z := d.deflater()
	defer d.put(z)
	if small := z.deflate(payload); len(small) < len(payload) {
		return appendFrame(dst, op|deflatedBit, small, nil)
	}
	return appendFrame(dst, op, payload, nil)
}

// deflate appends p compressed, without the syncTail.
func (d *deflates) deflate(dst, p []byte) []byte {
	z := d.deflater()
	defer d.put(z)
	return append(dst, z.deflate(p)...)
}

func (d *deflates) deflater() *deflater {
	if z, ok := d.deflaters.Get().(*deflater); ok {
		return z
	}
	return newDeflater()
}

func (d *deflates) put(z *deflater) {
	if z.out.Cap() > maxBuffer {
		z.out = bytes.Buffer{}
	}
	d.deflaters.Put(z)
}

// inflate returns what the compressed payload says, in memory of its own.
func (d *deflates) inflate(payload []byte, most int) ([]byte, *CloseError) {
	z, ok := d.inflaters.Get().(*inflater)
	if !ok {
		z = newInflater()
	}
	out, fault := z.inflate(payload, most)
	if cap(z.in) > maxBuffer {
		z.in = nil
	}
	d.inflaters.Put(z)
	return out, fault
}

// deflater compresses one message at a time. It is about 800 KiB.
type deflater struct {
	flate *flate.Writer
	out   bytes.Buffer
}

func newDeflater() *deflater {
	// It fails only for a level that does not exist.
	w, _ := flate.NewWriter(io.Discard, flate.BestSpeed)
	return &deflater{flate: w}
}

// deflate returns the payload compressed, until the next call.
func (z *deflater) deflate(payload []byte) []byte {
	z.out.Reset()
	z.flate.Reset(&z.out)
	// Writing to memory does not fail.
	_, _ = z.flate.Write(payload)
	_ = z.flate.Flush()
	return bytes.TrimSuffix(z.out.Bytes(), []byte(syncTail))
}

// inflater decompresses one message at a time. It is about 40 KiB.
type inflater struct {
	flate io.Reader
	src   bytes.Reader
	in    []byte // what src reads
}

func newInflater() *inflater {
	z := new(inflater)
	z.flate = flate.NewReader(&z.src)
	return z
}

// inflate returns what the compressed payload says, in memory of its own. That
// doubles as the message grows and is never more than the most: what a few
// bytes claim to be costs nothing before it is there, and a bomb ends at the
// bound.
func (z *inflater) inflate(payload []byte, most int) ([]byte, *CloseError) {
	z.in = append(append(append(z.in[:0], payload...), syncTail...), lastBlock...)
	z.src.Reset(z.in)
	z.restart()
	const usual = 4 // times smaller is what a message usually has become
	out := make([]byte, 0, min(usual*len(z.in), most)+1)
	for {
		if len(out) == cap(out) {
			out = append(make([]byte, 0, min(2*cap(out), most+1)), out...)
		}
		n, err := z.flate.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		switch {
		case len(out) > most:
			return nil, &CloseError{CloseTooBig, "message too big"}
		case err == nil:
			continue
		case !errors.Is(err, io.EOF):
			return nil, &CloseError{CloseInvalidText, "compressed message is malformed"}
		}
		// A block may say that it is the last one and be followed by others
		// (RFC 7692 section 7.2.1), or end the message by itself.
		if left := z.src.Len(); left == 0 || left == len(syncTail)+len(lastBlock) {
			return out, nil
		}
		z.restart()
	}
}

// restart begins a deflate stream with the rest of src.
func (z *inflater) restart() {
	if r, ok := z.flate.(flate.Resetter); ok {
		_ = r.Reset(&z.src, nil) // of memory, which does not fail
	}
}
