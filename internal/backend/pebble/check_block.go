package pebble

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parley-im/parley"
)

// blockCheck reads the blocks of all streams, in order. It builds each block's
// postings anew and compares them with those that are stored.
type blockCheck struct {
	*checker
	build  builder
	stream parley.Stream
	end    parley.Seq // of the stream's block before
	floor  parley.Seq
}

func (b *blockCheck) block(key, value []byte) {
	s, first := blockOf(key)
	if s == "" {
		b.fault(Fault{Problem: fmt.Sprintf("a block has a key that makes no sense: %q", key), Advice: adviseRestore})
		return
	}
	if s != b.stream {
		b.enter(s)
	}
	last, problem := b.decode(first, value)
	if problem == "" {
		problem = b.place(first, last)
	}
	if problem != "" {
		b.fault(Fault{Stream: s, From: first, To: last, Problem: problem, Advice: adviseRestore})
	} else if !b.broken {
		b.compare(first, last)
	}
	b.end = max(b.end, last)
}

// enter begins the next stream.
func (b *blockCheck) enter(s parley.Stream) {
	b.stream, b.end = s, 0
	b.report.Streams++
	var err error
	if b.floor, err = floorIn(b.db, s); err != nil {
		b.fault(Fault{Stream: s, Problem: "its floor cannot be read: " + err.Error(), Advice: adviseRestore})
	}
	if _, err := parley.ParseTopic(string(s.Topic())); err != nil {
		b.fault(Fault{Stream: s, Problem: "this is no name of a stream", Advice: adviseRestore})
	}
}

// place says what is wrong with where a block is.
func (b *blockCheck) place(first, last parley.Seq) string {
	switch {
	case first <= b.end:
		return fmt.Sprintf("these messages overlap with those before them, which end at seq %d", b.end)
	case last > b.report.Last:
		return fmt.Sprintf("these messages are beyond the store's last seq, %d", b.report.Last)
	case last <= b.floor:
		return fmt.Sprintf("these messages were removed, up to seq %d, and are still there", b.floor)
	case b.build.head.time > int64(first):
		return "these messages claim a time later than their seq"
	}
	return ""
}

// decode reads a block into b.build, and says what is wrong with it.
func (b *blockCheck) decode(first parley.Seq, value []byte) (last parley.Seq, problem string) {
	h, rest, err := readHead(value)
	if err != nil {
		return first, err.Error()
	}
	last = h.last(first)
	p, err := inflate(h, rest)
	if err != nil {
		return last, err.Error()
	}
	b.build.reset(time.UnixMicro(h.time))
	b.build.begin()
	r := reader{rest: p}
	var prev *parley.Message
	for n := 0; r.next(); n++ {
		m := &parley.Message{Seq: first + parley.Seq(n)}
		r.message(m, prev, b.stream)
		if _, err := parley.ParseTopic(string(m.Topic)); err != nil {
			return last, fmt.Sprintf("message %d has the topic %q: %v", m.Seq, m.Topic, err)
		}
		b.build.message(m, prev, string(r.path))
		prev = m
	}
	if r.err != nil {
		return last, r.err.Error()
	}
	got := b.build.head
	b.report.Messages += int64(got.count)
	switch {
	case got.count != h.count:
		return last, fmt.Sprintf("the block holds %d messages and says %d", got.count, h.count)
	case got.size != h.size:
		return last, fmt.Sprintf("the messages have %d bytes, the block says %d", got.size, h.size)
	case got.flags&blockConditional != h.flags&blockConditional:
		return last, "the block is wrong about whether its messages expire or have filters"
	case (b.build.posted > 0) != (h.flags&blockIndexed != 0):
		return last, "the block is wrong about whether its topics are indexed"
	}
	return last, ""
}

// compare looks up the postings that the block must have.
func (b *blockCheck) compare(first, last parley.Seq) {
	build := &b.build
	posted := build.postings[:build.posted]
	slices.SortFunc(posted, func(x, y posting) int { return strings.Compare(x.path, y.path) })
	for i := range posted {
		p := &posted[i]
		build.key = topicKey(build.key[:0], b.stream, p.path, first)
		build.value = p.encode(build.value[:0], build.head.count)
		stored, err := getIn(b.db, build.key)
		f := Fault{Stream: b.stream, From: first, To: last, Advice: adviseIndex}
		switch {
		case errors.Is(err, pebble.ErrNotFound):
			f.Problem = fmt.Sprintf("the index of topic /%s%s does not have these messages", b.stream, p.path)
			b.fault(f)
			continue
		case err != nil:
			f.Problem = fmt.Sprintf("the index of topic /%s%s cannot be read: %v", b.stream, p.path, err)
			b.fault(f)
		case !bytes.Equal(stored, build.value):
			f.Problem = fmt.Sprintf("the index of topic /%s%s is about other messages than the topic has", b.stream, p.path)
			b.fault(f)
		}
		b.postings++
	}
}
