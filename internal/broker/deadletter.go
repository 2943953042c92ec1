package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/parley-im/parley"
)

// DeadLetter is a message that a consumer could not deal with: it was delivered
// too often without an acknowledgement, or refused for good.
type DeadLetter struct {
	Consumer ConsumerID
	Reason   string
	Attempts int
	Time     time.Time  // when it died
	Seq      parley.Seq // of the dead letter
	Message  *parley.Message
}

// death is a message on its way to the dead letters.
type death struct {
	seq    parley.Seq
	reason string
}

// envelope is a dead letter as the body of a message of the owner's stream.
type envelope struct {
	Version  int              `json:"version"`
	Topic    parley.Topic     `json:"topic"` // of the consumer
	Owner    string           `json:"owner,omitempty"`
	Name     string           `json:"name"`
	Reason   string           `json:"reason"`
	Attempts int              `json:"attempts"`
	Message  envelopedMessage `json:"message"`
}

type envelopedMessage struct {
	Topic   parley.Topic      `json:"topic"`
	Seq     parley.Seq        `json:"seq"`
	Time    time.Time         `json:"time"`
	Expires time.Time         `json:"expires,omitzero"`
	ID      string            `json:"id,omitempty"`
	User    string            `json:"user,omitempty"`
	Device  string            `json:"device,omitempty"`
	Header  string            `json:"header,omitempty"`
	Body    []byte            `json:"body"`
	Filters map[string]string `json:"filters,omitempty"`
}

const envelopeVersion = 1

// nobodysLetters is where the dead letters of owners without a name are.
const nobodysLetters = "$anyone"

// deadTopic is the topic, and the stream, of an owner's dead letters: one for
// each, so that it can be bounded and erased.
func deadTopic(owner string) parley.Topic {
	if owner == "" {
		owner = nobodysLetters
	}
	return parley.DeadTopic(owner)
}

// dieLocked sends f to the dead letters.
func (c *consumer) dieLocked(f *flight, reason string) {
	c.pending.move(f, perishing, nil, 0)
	if reason == "" {
		reason = "refused"
	}
	c.dying = append(c.dying, death{f.seq, reason})
	c.broker.tender.save(c)
}

// bury stores dead letters, and returns the seqs of those that are stored, with
// the seqs of the dead letters as far as they are known.
func (b *Broker) bury(ctx context.Context, c *consumer, dying []death) (buried map[parley.Seq]parley.Seq, err error) {
	buried = map[parley.Seq]parley.Seq{}
	for len(dying) > 0 && err == nil {
		n := min(len(dying), againMessages)
		err = b.burySome(ctx, c, dying[:n], buried)
		dying = dying[n:]
	}
	return buried, err
}

func (b *Broker) burySome(ctx context.Context, c *consumer, dying []death, buried map[parley.Seq]parley.Seq) error {
	due := make([]again, 0, len(dying))
	reasons := map[parley.Seq]string{}
	c.mu.Lock()
	for _, d := range dying {
		if f := c.pending.find(d.seq); f != nil && f.state == perishing {
			due = append(due, again{d.seq, f.deliveries})
			reasons[d.seq] = d.reason
		}
	}
	c.mu.Unlock()
	sortAgain(due)
	for len(due) > 0 {
		f, err := c.fetch(ctx, due)
		if err != nil {
			return err
		}
		due = f.rest
		p := &Publish{}
		for i, m := range f.messages {
			body, err := json.Marshal(envelop(c.id, m, f.attempts[i], reasons[m.Seq]))
			if err != nil {
				return err
			}
			p.Messages = append(p.Messages, Publication{
				Message:  parley.Message{Topic: deadTopic(c.id.Owner), ID: m.Seq.String(), Body: body, Sender: parley.Identity{User: c.id.Owner}},
				Producer: producerOf("dead", c.id.key(), strconv.Itoa(f.attempts[i])),
			})
		}
		if len(p.Messages) > 0 {
			if err := b.await(ctx, &submission{publishes: []*Publish{p}}); err != nil {
				return err
			}
		}
		for i, m := range f.messages {
			if err := p.Messages[i].Result.Err; err != nil && !errors.Is(err, parley.ErrConflict) {
				return err
			}
			buried[m.Seq] = p.Messages[i].Result.Seq
		}
		c.lost(f.lost)
	}
	return nil
}

// buriedLocked takes out what was buried; what was not is tried again.
func (c *consumer) buriedLocked(dying []death, buried map[parley.Seq]parley.Seq, failure error) []*member {
	n := 0
	for _, d := range dying {
		f := c.pending.find(d.seq)
		at, is := buried[d.seq]
		if is {
			c.learn(at)
		}
		switch {
		case f == nil || f.state != perishing:
		case is:
			c.pending.remove(f)
			c.changed = true
			n++
		case failure != nil:
			c.dying = append(c.dying, d)
		}
	}
	c.pending.tidy()
	c.broker.stats.consumers.dead.Add(int64(n))
	return c.unblockLocked()
}

func envelop(id ConsumerID, m *parley.Message, attempts int, reason string) envelope {
	return envelope{
		Version: envelopeVersion, Topic: id.Topic, Owner: id.Owner, Name: id.Name, Reason: reason, Attempts: attempts,
		Message: envelopedMessage{
			Topic: m.Topic, Seq: m.Seq, Time: m.Time, Expires: m.Expires, ID: m.ID, User: m.Sender.User, Device: m.Sender.Device,
			Header: m.Header, Body: m.Body, Filters: m.Filters,
		},
	}
}

// open undoes envelop; m carries e.
func (e *envelope) open(m *parley.Message) DeadLetter {
	in := &e.Message
	return DeadLetter{
		Consumer: ConsumerID{Topic: e.Topic, Owner: e.Owner, Name: e.Name}, Reason: e.Reason, Attempts: e.Attempts,
		Time: m.Time, Seq: m.Seq,
		Message: &parley.Message{
			Topic: in.Topic, Seq: in.Seq, Time: in.Time, Expires: in.Expires, ID: in.ID,
			Sender: parley.Identity{User: in.User, Device: in.Device}, Header: in.Header, Body: in.Body, Filters: in.Filters,
		},
	}
}

func readEnvelope(m *parley.Message) (DeadLetter, error) {
	var e envelope
	if err := json.Unmarshal(m.Body, &e); err != nil || e.Version != envelopeVersion || !e.whole() {
		return DeadLetter{}, fmt.Errorf("dead letter %d cannot be read: %w", m.Seq, parley.ErrUnavailable)
	}
	return e.open(m), nil
}

// whole reports whether e can be of a consumer and of a message: a damaged one must
// not be replayed to somebody else.
func (e *envelope) whole() bool {
	_, ofConsumer := parley.ParseTopic(string(e.Topic))
	_, ofMessage := parley.ParseTopic(string(e.Message.Topic))
	return ofConsumer == nil && ofMessage == nil && e.Message.Seq <= parley.MaxSeq && e.Attempts >= 0
}
