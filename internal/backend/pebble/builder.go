package pebble

import (
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parley-im/parley"
)

// builder turns the entries of one commit into blocks. It is used again for
// each commit, so that a commit of many messages allocates little.
type builder struct {
	now  time.Time
	time int64 // now in µs

	groups []group // by stream, in order of first appearance; the first used ones count
	used   int
	order  []*group
	index  map[parley.Stream]int

	// The block being built.
	head     head
	messages []byte
	topics   map[string]int // path below the root -> its posting
	postings []posting
	posted   int
	path     string // the last message's path, and the postings of it and its ancestors
	at       []int

	block, scratch, key, value []byte // buffers
}

// group is the entries of one stream, by index.
type group struct {
	stream  parley.Stream
	entries []int
}

// posting says which messages of the block a topic covers.
type posting struct {
	path        string
	deltas      []byte
	next        int // the position after the last one
	count       int
	conditional bool
}

// keepBytes bounds the buffers that outlive a commit.
const keepBytes = 1 << 20

func (b *builder) reset(now time.Time) {
	b.now, b.time = now, now.UnixMicro()
	b.used = 0
	if b.index == nil || len(b.index) > 4096 {
		b.index, b.groups = map[parley.Stream]int{}, nil
	}
	clear(b.index)
	for _, buf := range []*[]byte{&b.messages, &b.block, &b.scratch, &b.value} {
		if cap(*buf) > keepBytes {
			*buf = nil
		}
	}
}

// add puts entry i into its stream's group.
func (b *builder) add(i int, t parley.Topic) {
	if b.used > 0 {
		if g := &b.groups[b.used-1]; t[1:] == parley.Topic(g.stream) {
			g.entries = append(g.entries, i)
			return
		}
	}
	s := t.Stream()
	n, ok := b.index[s]
	if !ok {
		n = b.used
		b.index[s] = n
		if b.used++; b.used > len(b.groups) {
			b.groups = append(b.groups, group{})
		}
		g := &b.groups[n]
		g.stream, g.entries = s, g.entries[:0]
	}
	b.groups[n].entries = append(b.groups[n].entries, i)
}

// sorted are the groups in order of stream, for the memtable's sake: see flush.
func (b *builder) sorted() []*group {
	b.order = b.order[:0]
	for i := range b.used {
		b.order = append(b.order, &b.groups[i])
	}
	slices.SortFunc(b.order, func(x, y *group) int { return strings.Compare(string(x.stream), string(y.stream)) })
	return b.order
}

// begin starts an empty block.
func (b *builder) begin() {
	b.head = head{time: b.time}
	b.messages = b.messages[:0]
	b.posted = 0
	b.path, b.at = "", b.at[:0]
	if b.topics == nil || len(b.topics) > 4096 {
		b.topics, b.postings = map[string]int{}, nil
	}
	clear(b.topics)
}

func (b *builder) full() bool {
	return len(b.messages) >= maxBlockBytes || b.head.count >= maxBlockMessages
}

// message adds m to the block.
func (b *builder) message(m, prev *parley.Message, path string) {
	b.messages = appendMessage(b.messages, m, prev, path)
	if path != b.path {
		b.post(path)
	}
	conditional := !m.Expires.IsZero() || m.Filters != nil
	for _, at := range b.at {
		p := &b.postings[at]
		p.deltas = binary.AppendUvarint(p.deltas, uint64(b.head.count-p.next))
		p.next = b.head.count + 1
		p.count++
		p.conditional = p.conditional || conditional
	}
	if conditional {
		b.head.flags |= blockConditional
	}
	b.head.count++
	b.head.size += int64(m.Size())
}

// post finds the postings of path and of all that is above it below the root.
func (b *builder) post(path string) {
	b.path, b.at = path, b.at[:0]
	for p := path; p != ""; p = p[:strings.LastIndexByte(p, '/')] {
		n, ok := b.topics[p]
		if !ok {
			n = b.posted
			b.topics[p] = n
			if b.posted++; b.posted > len(b.postings) {
				b.postings = append(b.postings, posting{})
			}
			b.postings[n] = posting{path: p, deltas: b.postings[n].deltas[:0]}
		}
		b.at = append(b.at, n)
	}
}

// What a posting's first byte says.
const (
	postConditional = 1 << iota // some of these messages has an expiry or filters
	postAll                     // all of the block's messages; their number follows
)

// encode appends the posting as it is stored, for a block of count messages.
func (p *posting) encode(dst []byte, count int) []byte {
	flags := byte(0)
	if p.conditional {
		flags |= postConditional
	}
	if p.count == count {
		return binary.AppendUvarint(append(dst, flags|postAll), uint64(p.count))
	}
	return append(append(dst, flags), p.deltas...)
}

// flush writes the block, if it has messages, and its postings.
func (b *builder) flush(batch *pebble.Batch, s parley.Stream, first parley.Seq) error {
	if b.head.count == 0 {
		return nil
	}
	if b.posted > 0 {
		b.head.flags |= blockIndexed
	}
	b.block, b.scratch = appendBlock(b.block[:0], b.scratch, b.head, b.messages)
	b.key = blockKey(b.key[:0], s, first)
	if err := batch.Set(b.key, b.block, nil); err != nil {
		return err
	}
	// In order of key, because a memtable takes its next key fastest near the
	// last one.
	posted := b.postings[:b.posted]
	slices.SortFunc(posted, func(x, y posting) int { return strings.Compare(x.path, y.path) })
	for i := range posted {
		p := &posted[i]
		b.value = p.encode(b.value[:0], b.head.count)
		b.key = topicKey(b.key[:0], s, p.path, first)
		if err := batch.Set(b.key, b.value, nil); err != nil {
			return err
		}
	}
	return nil
}
