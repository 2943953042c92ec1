package pebble

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parley-im/parley"
)

// keys reads everything that the database has, by what it is for, and compares
// what belongs together.
func (c *checker) keys() error {
	keys, err := c.meta()
	if err != nil {
		return err
	}
	blocks := &blockCheck{checker: c}
	for _, pass := range []struct {
		kind  byte
		check func(key, value []byte)
	}{
		{kindBlock, blocks.block},
		{kindFloor, c.floor},
		{kindRecord, c.record},
		{kindUsage, c.usage},
	} {
		if err := c.each(pass.kind, pass.check); err != nil {
			return err
		}
	}
	if !c.broken {
		if err := errors.Join(c.topics(), c.dedup(keys)); err != nil {
			return err
		}
	}
	if err := c.each(kindMeta, c.known); err != nil {
		return err
	}
	return c.unknown()
}

// known looks for what the store does not note about itself.
func (c *checker) known(key, _ []byte) {
	switch string(key[1:]) {
	case "format", "last", "store", "usage":
	default:
		c.fault(Fault{Problem: describeKey(key) + " means nothing", Advice: adviseRestore})
	}
}

// each calls check with every key of one kind. A key that cannot be read is a
// fault, and the pass goes on with the next stream.
func (c *checker) each(kind byte, check func(key, value []byte)) error {
	lower := []byte{kind}
	for lower != nil {
		next, err := c.scan(lower, []byte{kind + 1}, check)
		if err != nil {
			return err
		}
		lower = next
	}
	return nil
}

// scan reads keys until the end or until one cannot be read; then it returns
// where to go on.
func (c *checker) scan(lower, upper []byte, check func(key, value []byte)) (next []byte, err error) {
	it, err := c.db.NewIterWithContext(c.ctx, &pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	defer func() { _ = it.Close() }()
	at := lower
	for it.First(); it.Valid(); it.Next() {
		if err := c.ctx.Err(); err != nil {
			return nil, err
		}
		value, err := it.ValueAndErr()
		if err != nil {
			break
		}
		at = append(at[:0:0], it.Key()...)
		check(it.Key(), value)
		c.progress(len(it.Key()) + len(value))
	}
	if err := c.ctx.Err(); err != nil {
		return nil, err
	}
	if err := it.Error(); err != nil {
		c.unreadable(at, err)
		return c.beyond(at, upper), nil
	}
	return nil, nil
}

// unreadable reports that what follows a key cannot be read.
func (c *checker) unreadable(at []byte, err error) {
	f := Fault{Problem: fmt.Sprintf("what follows %s cannot be read: %v", describeKey(at), err), Advice: adviseRestore}
	if s, seq := blockOf(at); s != "" {
		f.Stream, f.From = s, seq
	}
	c.fault(f)
}

// beyond is where reading goes on after at: with the next stream, where there
// are streams.
func (c *checker) beyond(at, upper []byte) []byte {
	if len(c.report.Faults) == maxFaults {
		return nil
	}
	end := bytes.IndexByte(at, 0)
	if (at[0] != kindBlock && at[0] != kindTopic) || end < 0 {
		return nil
	}
	next := append(bytes.Clone(at[:end]), 1)
	if bytes.Compare(next, upper) >= 0 {
		return nil
	}
	return next
}

// meta reads the format and the last seq, and returns the number of idempotency
// keys that there should be.
func (c *checker) meta() (keys int64, err error) {
	v, err := getIn(c.db, metaKey("format"))
	switch {
	case err == nil && len(v) == 1 && v[0] > formatVersion:
		c.fault(Fault{Problem: fmt.Sprintf("the store has format version %d, this program reads up to %d", v[0], formatVersion), Advice: adviseNewer})
	case err != nil || len(v) != 1:
		c.fault(Fault{Problem: fmt.Sprintf("the format version cannot be read: %x %v", v, err), Advice: adviseRestore})
	default:
		c.report.Format = int(v[0])
	}
	v, err = getIn(c.db, metaKey("last"))
	switch {
	case errors.Is(err, pebble.ErrNotFound) && c.report.Mark == 0:
		return 0, c.ctx.Err() // nothing was ever stored
	case err != nil || len(v) != lastBytes && len(v) != lastBytesV1:
		c.fault(Fault{Problem: fmt.Sprintf("the last seq cannot be read: %x %v", v, err), Advice: adviseRestore})
		c.report.Last = parley.MaxSeq
		return -1, c.ctx.Err()
	}
	c.report.Last = parley.Seq(binary.BigEndian.Uint64(v))
	if c.report.Mark > c.report.Last {
		c.fault(Fault{
			From: c.report.Last + 1, To: c.report.Mark, Advice: adviseRestore,
			Problem: fmt.Sprintf("messages are lost: the store ends at seq %d, but %d was acknowledged", c.report.Last, c.report.Mark),
		})
	}
	return int64(binary.BigEndian.Uint64(v[8:])), nil
}

func (c *checker) floor(key, value []byte) {
	s := parley.Stream(key[1:])
	if len(value) != seqBytes || s == "" {
		c.fault(Fault{Stream: s, Problem: "its floor is damaged", Advice: adviseRestore})
		return
	}
	if floor := seqOf(value); floor > c.report.Last {
		c.fault(Fault{Stream: s, From: floor, To: floor, Problem: fmt.Sprintf("its floor is beyond the store's last seq, %d", c.report.Last), Advice: adviseRestore})
	}
}

// usage looks at what is counted of a user. Whether that is right is not known
// here.
func (c *checker) usage(key, value []byte) {
	if _, err := decodeAmount(value); err != nil || len(key) != 1+16 {
		c.fault(Fault{Problem: fmt.Sprintf("%s is damaged", describeKey(key)), Advice: adviseUsage})
	}
}

func (c *checker) record(key, value []byte) {
	c.report.Records++
	r, err := readRecord(string(key[1:]), value)
	err = errors.Join(err, checkKey(string(key[1:])))
	if err == nil && (r.Rev == 0 || parley.Seq(r.Rev) > c.report.Last) {
		err = fmt.Errorf("revision %d is beyond the store's last, %d", r.Rev, c.report.Last)
	}
	if err != nil {
		c.fault(Fault{Problem: fmt.Sprintf("record %q: %v", key[1:], err), Advice: adviseRecord})
	}
}

// topics counts the postings. Each that a block has was found and compared with
// the block, so that others are there only when there are more.
func (c *checker) topics() error {
	count := int64(0)
	if err := c.each(kindTopic, func(_, _ []byte) { count++ }); err != nil {
		return err
	}
	if count <= c.postings {
		return nil
	}
	return c.each(kindTopic, func(key, _ []byte) {
		s, path, seq, ok := splitTopicKey(key)
		if !ok {
			c.fault(Fault{Problem: fmt.Sprintf("the index has a key that makes no sense: %q", key), Advice: adviseIndex})
			return
		}
		if _, err := getIn(c.db, blockKey(nil, s, seq)); errors.Is(err, pebble.ErrNotFound) {
			c.fault(Fault{Stream: s, From: seq, Problem: fmt.Sprintf("the index of topic /%s%s points to messages that are not there", s, path), Advice: adviseRestore})
		}
	})
}

func splitTopicKey(key []byte) (s parley.Stream, path string, first parley.Seq, ok bool) {
	if len(key) < 1+seqBytes+2 || key[len(key)-seqBytes-1] != 0 {
		return "", "", 0, false
	}
	stream, path, ok := strings.Cut(string(key[1:len(key)-seqBytes-1]), "\x00")
	return parley.Stream(stream), path, seqOf(key), ok && stream != ""
}

// dedup compares the idempotency keys with the order in which they are
// forgotten.
func (c *checker) dedup(want int64) error {
	var keys, current, listed int64
	err := c.each(kindDedup, func(key, value []byte) {
		keys++
		if len(key) != 1+len(dedupHash{}) || len(value) != 16 || parley.Seq(binary.BigEndian.Uint64(value)) > c.report.Last {
			c.fault(Fault{Problem: fmt.Sprintf("idempotency key %x is damaged", key[1:]), Advice: adviseKeys})
		}
	})
	if err != nil {
		return err
	}
	err = c.each(kindWindow, func(key, value []byte) {
		var h dedupHash
		if len(key) != 1+seqBytes || len(value)%len(h) != 0 || seqOf(key) > c.report.Last {
			c.fault(Fault{Problem: fmt.Sprintf("the order of idempotency keys is damaged at %x", key[1:]), Advice: adviseKeys})
			return
		}
		for ; len(value) > 0; value = value[len(h):] {
			copy(h[:], value)
			listed++
			v, err := getIn(c.db, dedupKey(h))
			if err == nil && len(v) == 16 && parley.Seq(binary.BigEndian.Uint64(v)) <= seqOf(key) {
				current++
			}
			if errors.Is(err, pebble.ErrNotFound) {
				c.fault(Fault{Problem: fmt.Sprintf("idempotency key %x is missing", h), Advice: adviseKeys})
			}
		}
	})
	if err != nil {
		return err
	}
	c.report.Keys = keys
	if keys != current {
		c.fault(Fault{Problem: fmt.Sprintf("%d idempotency keys are kept, %d of them to be forgotten one day", keys, current), Advice: adviseKeys})
	}
	if want >= 0 && listed != want {
		c.fault(Fault{Problem: fmt.Sprintf("%d idempotency keys are in the window, %d were counted", listed, want), Advice: adviseKeys})
	}
	return nil
}

// unknown looks for keys that mean nothing.
func (c *checker) unknown() error {
	lower := []byte{0}
	for _, kind := range []byte{kindBlock, kindFloor, kindDedup, kindRecord, kindMeta, kindTopic, kindUsage, kindWindow, 0xff} {
		_, err := c.scan(lower, []byte{kind}, func(key, _ []byte) {
			c.fault(Fault{Problem: fmt.Sprintf("the database has a key that means nothing: %q", key), Advice: adviseRestore})
		})
		if err != nil {
			return err
		}
		lower = []byte{kind + 1}
	}
	return nil
}
