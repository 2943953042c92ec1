package broker

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// consumerKeys is the prefix of the records of consumers; owner, name and topic
// follow. Neither owner nor name has a slash, and a topic begins with one.
const consumerKeys = "consumer/"

// maxKeyBytes is as for a backend.KV.
const maxKeyBytes = 512

func (id ConsumerID) key() string { return consumerKeys + id.Owner + "/" + id.Name + string(id.Topic) }

// parseConsumerKey undoes key.
func parseConsumerKey(key string) (ConsumerID, error) {
	owner, rest, found := strings.Cut(strings.TrimPrefix(key, consumerKeys), "/")
	i := strings.IndexByte(rest, '/')
	if !found || i < 0 {
		return ConsumerID{}, fmt.Errorf("record %q is no consumer's: %w", key, parley.ErrInvalid)
	}
	return ConsumerID{Owner: owner, Name: rest[:i], Topic: parley.Topic(rest[i:])}, nil
}

// A record is a version, and then as varints: flags, the cursor, when it was last
// used in seconds, the number of pending messages, and for each the distance of
// its seq to the one before, how often it was delivered, doubled, with a 1 if
// its sender wants a receipt, and how often that failed. If a flag says so, the
// acknowledged letters whose senders are still due a receipt follow: how many,
// and the distance of each to the one before. So it is bounded by what may be in
// flight and by maxOwed.
const (
	consumerVersion = 1
	consumerPaused  = 1 // the flags
	consumerOwes    = 2
)

// recordLocked is what to keep of c. A device's record outlives its cursor, so
// that it can be told.
func (c *consumer) recordLocked() backend.Record {
	v := make([]byte, 0, 32+5*c.pending.live)
	flags := uint64(0)
	if c.paused {
		flags |= consumerPaused
	}
	if len(c.asked) > 0 {
		flags |= consumerOwes
	}
	v = append(v, consumerVersion)
	v = binary.AppendUvarint(v, flags)
	v = binary.AppendUvarint(v, uint64(c.cursor))
	v = binary.AppendUvarint(v, uint64(max(0, c.active.Unix())))
	v = binary.AppendUvarint(v, uint64(c.pending.live))
	last := parley.Seq(0)
	for i := range c.pending.list {
		f := &c.pending.list[i]
		if f.state == done {
			continue
		}
		deliveries := uint64(f.deliveries) << 1
		if f.asks {
			deliveries |= 1
		}
		v = binary.AppendUvarint(v, uint64(f.seq-last))
		v = binary.AppendUvarint(v, deliveries)
		v = binary.AppendUvarint(v, uint64(f.failures))
		last = f.seq
	}
	if len(c.asked) > 0 {
		slices.Sort(c.asked)
		c.asked = slices.Compact(c.asked)
		v = binary.AppendUvarint(v, uint64(len(c.asked)))
		last = 0
		for _, seq := range c.asked {
			v = binary.AppendUvarint(v, uint64(seq-last))
			last = seq
		}
	}
	r := backend.Record{Key: c.id.key(), Value: v, Rev: c.rev}
	if c.mode != turns {
		r.Expires = c.active.Add(4 * cursorLife)
	}
	return r
}

// load takes over a record.
func (c *consumer) load(r backend.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.decode(r.Value); err != nil {
		c.pending, c.asked = pending{}, nil
		return fmt.Errorf("record %q: %w", r.Key, err)
	}
	c.rev, c.owes = r.Rev, len(c.asked) > 0
	if c.owes {
		c.listLocked()
	}
	c.broker.stats.consumers.resumed.Add(int64(c.pending.live))
	return nil
}

func (c *consumer) decode(v []byte) error {
	if len(v) == 0 || v[0] != consumerVersion {
		return fmt.Errorf("it has a version that this program does not read: %w", parley.ErrUnavailable)
	}
	d := varints{v[1:], true}
	flags := d.next()
	c.cursor = parley.Seq(d.next())
	c.active = time.Unix(int64(d.next()&(1<<40-1)), 0)
	c.paused = flags&consumerPaused != 0
	n := d.next()
	if n > uint64(len(v)) {
		d.ok = false
	}
	last := parley.Seq(0)
	for ; n > 0 && d.ok; n-- {
		step, deliveries, failures := d.next(), d.next(), d.next()
		if step == 0 || parley.Seq(step) > c.cursor-last {
			d.ok = false
			break
		}
		last += parley.Seq(step)
		c.pending.add(flight{seq: last, state: waiting, deliveries: int(deliveries >> 1 & (1<<31 - 1)), asks: deliveries&1 != 0, failures: int(failures & (1<<31 - 1))})
	}
	if flags&consumerOwes != 0 {
		c.decodeOwed(&d)
	}
	if !d.ok || len(d.rest) > 0 {
		return fmt.Errorf("it is damaged: %w", parley.ErrUnavailable)
	}
	return nil
}

// decodeOwed reads the letters whose senders are due a receipt.
func (c *consumer) decodeOwed(d *varints) {
	n, last := d.next(), parley.Seq(0)
	if n == 0 || n > uint64(len(d.rest)) {
		d.ok = false
	}
	for ; n > 0 && d.ok; n-- {
		step := d.next()
		if last += parley.Seq(step); step == 0 || last > parley.MaxSeq { // beyond the cursor, too, after a seek
			d.ok = false
			return
		}
		c.asked = append(c.asked, last)
	}
}

// varints reads one after the other.
type varints struct {
	rest []byte
	ok   bool
}

func (d *varints) next() uint64 {
	x, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.ok, d.rest = false, nil
		return 0
	}
	d.rest = d.rest[n:]
	return x
}
