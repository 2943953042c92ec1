package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/golang/snappy"

	"github.com/parley-im/parley"
)

// A block is a head and the messages after it, compressed together:
//
//	version byte, flags byte, uvarint: count, time (µs), sum of Message.Size
//	messages
//
// All of a block's messages were stored at the same time.
const blockVersion = 1

const (
	blockCompressed  = 1 << iota
	blockConditional // some message has an expiry or filters
	blockIndexed     // some message has a topic below the root
	blockFlags       // the first bit that has no meaning yet
)

// Blocks end at these bounds: reading one message of a block costs reading the
// block.
const (
	maxBlockBytes    = 32 << 10
	maxBlockMessages = 4096
	minCompress      = 128
	// maxInflated bounds what a damaged length can make us allocate.
	maxInflated = 256 << 20
)

var errCorrupt = errors.New("pebble: stored block is damaged")

type head struct {
	flags byte
	count int
	time  int64
	size  int64
}

func (h head) last(first parley.Seq) parley.Seq { return first + parley.Seq(h.count) - 1 }

// readHead returns the head and what follows it.
func readHead(value []byte) (head, []byte, error) {
	if len(value) < 2 {
		return head{}, nil, errCorrupt
	}
	if value[0] > blockVersion || value[1] >= blockFlags {
		return head{}, nil, fmt.Errorf("pebble: stored block has format %d.%d, this program reads up to %d.%d", value[0], value[1], blockVersion, blockFlags-1)
	}
	h := head{flags: value[1]}
	rest := value[2:]
	var fields [3]uint64
	for i := range fields {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			return head{}, nil, errCorrupt
		}
		fields[i], rest = v, rest[n:]
	}
	if fields[0] == 0 || fields[0] > maxBlockMessages {
		return head{}, nil, errCorrupt
	}
	h.count, h.time, h.size = int(fields[0]), int64(fields[1]), int64(fields[2])
	return h, rest, nil
}

// appendBlock writes h and the messages, compressed when that helps; scratch is
// for the compressor and is returned to be used again.
func appendBlock(dst, scratch []byte, h head, messages []byte) (block, newScratch []byte) {
	if len(messages) >= minCompress {
		if need := snappy.MaxEncodedLen(len(messages)); cap(scratch) < need {
			scratch = make([]byte, need)
		}
		if c := snappy.Encode(scratch[:cap(scratch)], messages); len(c) < len(messages)-len(messages)/8 {
			messages = c
			h.flags |= blockCompressed
		}
	}
	dst = append(dst, blockVersion, h.flags)
	dst = binary.AppendUvarint(dst, uint64(h.count))
	dst = binary.AppendUvarint(dst, uint64(h.time))
	dst = binary.AppendUvarint(dst, uint64(h.size))
	return append(dst, messages...), scratch
}

// inflate returns a block's messages. They never share memory with value.
func inflate(h head, rest []byte) ([]byte, error) {
	if h.flags&blockCompressed == 0 {
		return slices.Clone(rest), nil
	}
	if n, err := snappy.DecodedLen(rest); err != nil || n > maxInflated {
		return nil, errCorrupt
	}
	p, err := snappy.Decode(nil, rest)
	if err != nil {
		return nil, errCorrupt
	}
	return p, nil
}

// What a stored message has; the rest it shares with the one before it.
const (
	hasTopic = 1 << iota
	hasSender
	hasID
	hasHeader
	hasExpires
	hasFilters
	hasFlags // the first bit that has no meaning yet
)

// appendMessage encodes m after prev, the message before it in the block, or
// nil. Path is m's topic below the stream's root, with its slash.
func appendMessage(dst []byte, m, prev *parley.Message, path string) []byte {
	var flags byte
	at := len(dst)
	dst = append(dst, 0)
	if prev == nil || prev.Topic != m.Topic {
		flags |= hasTopic
		dst = appendString(dst, path)
	}
	if prev == nil && m.Sender != (parley.Identity{}) || prev != nil && prev.Sender != m.Sender {
		flags |= hasSender
		dst = appendString(appendString(dst, m.Sender.User), m.Sender.Device)
	}
	if m.ID != "" {
		flags |= hasID
		dst = appendString(dst, m.ID)
	}
	if m.Header != "" {
		flags |= hasHeader
		dst = appendString(dst, m.Header)
	}
	if !m.Expires.IsZero() {
		flags |= hasExpires
		dst = binary.AppendVarint(dst, m.Expires.UnixMicro())
	}
	if m.Filters != nil {
		flags |= hasFilters
		dst = appendFilters(dst, m.Filters)
	}
	dst[at] = flags
	dst = binary.AppendUvarint(dst, uint64(len(m.Body)))
	return append(dst, m.Body...)
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendFilters(dst []byte, filters map[string]string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(filters)))
	for _, k := range slices.Sorted(maps.Keys(filters)) {
		dst = appendString(appendString(dst, k), filters[k])
	}
	return dst
}

// reader steps through a block's messages. What it points to lives in rest.
type reader struct {
	rest []byte
	err  error

	path, user, device, id, header, filters, body []byte
	expires                                       int64 // µs; 0 is never
	hasFilters                                    bool
}

// next reads one message into r and reports whether there was one.
func (r *reader) next() bool {
	if r.err != nil || len(r.rest) == 0 {
		return false
	}
	flags := r.rest[0]
	r.rest = r.rest[1:]
	if flags >= hasFlags {
		r.err = errCorrupt
		return false
	}
	r.id, r.header, r.filters, r.expires, r.hasFilters = nil, nil, nil, 0, false
	if flags&hasTopic != 0 {
		r.path = r.bytes()
	}
	if flags&hasSender != 0 {
		r.user, r.device = r.bytes(), r.bytes()
	}
	if flags&hasID != 0 {
		r.id = r.bytes()
	}
	if flags&hasHeader != 0 {
		r.header = r.bytes()
	}
	if flags&hasExpires != 0 {
		v, n := binary.Varint(r.rest)
		r.expires = v
		r.skip(n)
	}
	if flags&hasFilters != 0 {
		r.hasFilters = true
		r.skipFilters()
	}
	r.body = r.bytes()
	return r.err == nil
}

// bytes reads a length and that many bytes.
func (r *reader) bytes() []byte {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 || v > uint64(len(r.rest)-n) {
		r.fail()
		return nil
	}
	end := n + int(v)
	p := r.rest[n:end:end]
	r.rest = r.rest[end:]
	return p
}

func (r *reader) skip(n int) {
	if n <= 0 {
		r.fail()
		return
	}
	r.rest = r.rest[n:]
}

func (r *reader) skipFilters() {
	start := r.rest
	count, n := binary.Uvarint(r.rest)
	r.skip(n)
	for range min(count, parley.MaxFilters) {
		r.bytes()
		r.bytes()
	}
	r.filters = start[:len(start)-len(r.rest)]
}

func (r *reader) fail() { r.err, r.rest = errCorrupt, nil }

// hidden reports whether the current message has expired, or is not for params;
// nil params see everything.
func (r *reader) hidden(now int64, params map[string]string) bool {
	if r.expires != 0 && r.expires <= now {
		return true
	}
	if !r.hasFilters || params == nil {
		return false
	}
	m := parley.Message{Filters: readFilters(r.filters)}
	return !m.Matches(params)
}

// message builds the current message; prev is the one before it, whose strings
// are used again where they are the same.
func (r *reader) message(m, prev *parley.Message, s parley.Stream) {
	m.ID, m.Header, m.Body = string(r.id), string(r.header), r.body
	if prev != nil && string(r.user) == prev.Sender.User && string(r.device) == prev.Sender.Device {
		m.Sender = prev.Sender
	} else {
		m.Sender = parley.Identity{User: string(r.user), Device: string(r.device)}
	}
	if prev != nil && len(prev.Topic) == 1+len(s)+len(r.path) && string(prev.Topic[1+len(s):]) == string(r.path) {
		m.Topic = prev.Topic
	} else {
		m.Topic = parley.Topic("/" + string(s) + string(r.path))
	}
	if r.expires != 0 {
		m.Expires = time.UnixMicro(r.expires)
	}
	if r.hasFilters {
		m.Filters = readFilters(r.filters)
	}
}

func readFilters(p []byte) map[string]string {
	r := reader{rest: p}
	count, n := binary.Uvarint(p)
	r.skip(n)
	filters := map[string]string{}
	for range min(count, parley.MaxFilters) {
		k, v := string(r.bytes()), string(r.bytes())
		filters[k] = v
	}
	return filters
}
