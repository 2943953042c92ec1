package broker

import (
	"context"
	"encoding/json"

	"github.com/parley-im/parley"
)

// Delivered is what an acknowledgement by a device calls.
func (b *Broker) Delivered(ctx context.Context, owner string, messages []*parley.Message) error {
	return b.delivered(ctx, owner, messages)
}

// ReadRecord decodes a consumer's record, and encodes what it says again.
func ReadRecord(id ConsumerID, value []byte) (again []byte, pending []parley.Seq, err error) {
	c := &consumer{id: id, mode: id.mode()}
	if err := c.decode(value); err != nil {
		return nil, nil, err
	}
	for _, f := range c.pending.list {
		pending = append(pending, f.seq)
	}
	return c.recordLocked().Value, pending, nil
}

// ReadConsumerKey reads the key of a consumer's record, and writes it again.
func ReadConsumerKey(key string) (ConsumerID, string, error) {
	id, err := parseConsumerKey(key)
	return id, id.key(), err
}

// SweepAll trims the streams of all users.
func (b *Broker) SweepAll(ctx context.Context) error { return b.sweep(ctx, sweepStreams) }

// ReadReadMarker decodes a read marker, and encodes what it says again.
func ReadReadMarker(value []byte) (read, told parley.Seq, again []byte, err error) {
	var m inboxRecord
	if err := m.decode(value); err != nil {
		return 0, 0, nil, err
	}
	told = m.Read
	if m.Told != nil {
		told = *m.Told
	}
	again, err = json.Marshal(m)
	return m.Read, told, again, err
}

// ReadDeadLetter opens a dead letter, and puts what it says into an envelope again.
func ReadDeadLetter(m *parley.Message) (l DeadLetter, again []byte, err error) {
	if l, err = readEnvelope(m); err != nil {
		return l, nil, err
	}
	again, err = json.Marshal(envelop(l.Consumer, l.Message, l.Attempts, l.Reason))
	return l, again, err
}
