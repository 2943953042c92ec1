package broker

import (
	"context"
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
// its sender wants a receipt, and how often that failed. If flags say so, these
// follow: the acknowledged letters whose senders are still due a receipt, as how
// many, and the distance of each to the one before; up to which dead letter the
// record knows what became of them; and in the form of the letters the dead
// letters that are being replayed. So it is bounded by what may be in flight, by
// maxOwed and by maxReplays.
const (
	consumerVersion = 1
	consumerPaused  = 1 // the flags
	consumerOwes    = 2
	consumerBuries  = 4
	consumerReplays = 8
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
	if c.known != 0 {
		flags |= consumerBuries
	}
	if len(c.replayed) > 0 {
		flags |= consumerReplays
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
	c.asked = ascending(c.asked)
	v = appendSeqs(v, c.asked)
	if c.known != 0 {
		v = binary.AppendUvarint(v, uint64(c.known))
	}
	v = appendSeqs(v, c.replayed)
	r := backend.Record{Key: c.id.key(), Value: v, Rev: c.rev}
	if c.mode != turns {
		r.Expires = c.active.Add(4 * cursorLife)
	}
	return r
}

func ascending(seqs []parley.Seq) []parley.Seq {
	slices.Sort(seqs)
	return slices.Compact(seqs)
}

// appendSeqs appends a list of seqs in ascending order, unless it is empty.
func appendSeqs(v []byte, seqs []parley.Seq) []byte {
	if len(seqs) == 0 {
		return v
	}
	v = binary.AppendUvarint(v, uint64(len(seqs)))
	last := parley.Seq(0)
	for _, seq := range seqs {
		v = binary.AppendUvarint(v, uint64(seq-last))
		last = seq
	}
	return v
}

// load takes over a record. Nobody else uses c yet.
func (c *consumer) load(ctx context.Context, r backend.Record) error {
	c.mu.Lock()
	err := c.decode(r.Value)
	c.mu.Unlock()
	if err == nil {
		err = c.exhume(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.pending, c.asked, c.burials, c.cursor, c.active = pending{}, nil, burials{}, 0, time.Time{}
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
		c.asked = d.seqs()
	}
	if flags&consumerBuries != 0 {
		c.known = parley.Seq(d.next())
		d.ok = d.ok && c.known != 0 && c.known <= parley.MaxSeq
	}
	if flags&consumerReplays != 0 {
		c.replayed = d.seqs()
	}
	if !d.ok || len(d.rest) > 0 {
		return fmt.Errorf("it is damaged: %w", parley.ErrUnavailable)
	}
	return nil
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

// seqs reads what appendSeqs has written.
func (d *varints) seqs() (seqs []parley.Seq) {
	n, last := d.next(), parley.Seq(0)
	if n == 0 || n > uint64(len(d.rest)) {
		d.ok = false
	}
	for ; n > 0 && d.ok; n-- {
		step := d.next()
		if last += parley.Seq(step); step == 0 || parley.Seq(step) > parley.MaxSeq || last > parley.MaxSeq { // for letters beyond the cursor, too, after a seek
			d.ok = false
			return nil
		}
		seqs = append(seqs, last)
	}
	return seqs
}
