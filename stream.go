package parley

import "strconv"

// Stream names an ordered, stored sequence of messages. Order, storage and
// retention are per stream.
type Stream string

// Topic is the topic that covers the whole stream.
func (s Stream) Topic() Topic { return Topic("/" + s) }

// Seq is a message's place in its stream. It grows, gaps are allowed, and it is
// never given twice. It stays below MaxSeq so that JavaScript reads it exactly.
type Seq uint64

// MaxSeq bounds every Seq: 2^53, the largest integer that a JSON number
// carries exactly (RFC 8259 section 6).
const MaxSeq Seq = 1 << 53

// String is s in decimal.
func (s Seq) String() string { return strconv.FormatUint(uint64(s), 10) }

// Cursor is how far a reader has come: it has everything of Stream up to and
// including Seq.
type Cursor struct {
	Stream Stream
	Seq    Seq
}
