package broker

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
)

// Where letters are. In the inbox of each recipient, and as a copy in the
// sender's own:
//
//	/$inbox/bob/ann            from Ann to Bob, as Bob has it
//	/$inbox/bob/ann/$asks      the same, when Ann wants receipts
//	/$inbox/ann/bob            from Ann to Bob, as Ann has it, and from Bob to Ann
//	/$inbox/ann/bob/$delivered Bob's device has acknowledged what Ann sent him
//	/$inbox/ann/bob/$read      Bob has read it
//
// What Ann sends to herself is once at /$inbox/ann/ann.
const (
	asksSegment      = "/$asks"
	deliveredSegment = "/$delivered"
	readSegment      = "/$read"
)

func letterTopic(owner, peer string) parley.Topic {
	return parley.Topic("/$inbox/" + owner + "/" + peer)
}

// The producers in an inbox: each kind has its own, and no names of users or
// devices run together.
const (
	letterProducer  = "letter"
	receiptProducer = "receipt"
)

func producerOf(kind string, parts ...string) string {
	return kind + "\x00" + strings.Join(parts, "\x00")
}

// Send stores letters; it does not wait, and is answered by Sent.
func (s *Session) Send(r *Send) {
	r.Watch = s.cfg.Watch
	sub := s.broker.post(s.Principal(), r)
	sub.session = s
	sub.answer = func() {
		r.settle(sub)
		s.answer(&Sent{r}, sub.bytes)
	}
	s.submit(sub)
}

// Send stores letters of who without a session, and returns when they have their
// results. An error is as from Publish.
func (b *Broker) Send(ctx context.Context, who *account.Principal, r *Send) error {
	sub := b.post(who, r)
	if err := b.await(ctx, sub); err != nil {
		return err
	}
	r.settle(sub)
	return nil
}

// post makes the submission of r: every message that its letters become, but for
// those that are refused. They are stored by one append, so that no crash leaves
// the copy without the letter.
func (b *Broker) post(who *account.Principal, r *Send) *submission {
	p := &Publish{}
	most := min(b.cfg.QueueBytes/2, sendBytes)
	room, copies := most, 0
	for i := range r.Letters {
		copies += min(len(r.Letters[i].To), b.cfg.Limits.Recipients)
	}
	// What all letters need is taken at once: they are many, and short.
	copies = min(copies, commitMessages)
	p.Messages = make([]Publication, 0, 2*copies)
	a := addresser{broker: b, who: who, watch: r.Watch, results: make([]SendResult, copies), entries: make([]int, copies)}
	for i := range r.Letters {
		l := &r.Letters[i]
		if l.Err == nil {
			l.Err = b.checkLetter(who, l, i)
		}
		if l.Err == nil {
			size := 2 * len(l.To) * (l.Message.Size() + parley.MaxTopicBytes)
			if size > room {
				l.Err = fmt.Errorf("with copies for all recipients it is more than %d bytes at once: %w", most, parley.ErrInvalid)
			} else {
				room -= size
			}
		}
		if l.Err != nil {
			b.Refused(l.Err)
			continue
		}
		p.Messages = a.address(p.Messages, l)
	}
	sub := &submission{publishes: []*Publish{p}}
	sub.bounded(b, who, r.Watch)
	return sub
}

// sendBytes bounds what one Send has stored, all copies together.
const sendBytes = 32 << 20

// checkLetter applies the rules for the letter with that index.
func (b *Broker) checkLetter(who *account.Principal, l *Letter, i int) error {
	most := b.cfg.Limits.Recipients
	switch {
	case i >= b.cfg.Limits.BatchMessages:
		return fmt.Errorf("more than %d letters at once: %w", b.cfg.Limits.BatchMessages, parley.ErrInvalid)
	case len(l.To) == 0:
		return fmt.Errorf("the letter has no recipient: %w", parley.ErrInvalid)
	case len(l.To) > most:
		return fmt.Errorf("more than %d recipients: %w", most, parley.ErrInvalid)
	case len(l.Producer) > parley.MaxIDBytes:
		return fmt.Errorf("the producer has more than %d bytes: %w", parley.MaxIDBytes, parley.ErrInvalid)
	}
	if !who.Known() {
		return account.ErrUnknown
	}
	if err := isName(who.User); err != nil {
		return fmt.Errorf("only a user with a proper name can send: %w", parley.ErrForbidden)
	}
	if err := b.expired(who); err != nil {
		return err
	}
	for j, to := range l.To {
		if err := isName(to); err != nil {
			return err
		}
		if slices.Contains(l.To[:j], to) {
			return fmt.Errorf("the recipient %.40q is named twice: %w", to, parley.ErrInvalid)
		}
	}
	return b.cfg.Limits.check(&l.Message)
}

// isName refuses what is not the name of a user, as from parley.ParseUser.
func isName(s string) error {
	name, err := parley.ParseUser(s)
	if err == nil && name != s {
		err = fmt.Errorf("the user's name %.40q has capital letters: %w", s, parley.ErrInvalid)
	}
	return err
}

// addresser makes messages of the letters of one request.
type addresser struct {
	broker *Broker
	who    *account.Principal
	watch  *Watch

	results []SendResult // room for those of the letters to come
	entries []int

	from, producer string // the last letter's producer, as it came and as it is stored
}

// room gives l its place for n results.
func (a *addresser) room(l *Letter, n int) {
	if n > len(a.results) {
		a.results, a.entries = make([]SendResult, n), make([]int, n)
	}
	l.Results, a.results = a.results[:n:n], a.results[n:]
	l.entries, a.entries = a.entries[:n:n], a.entries[n:]
}

// producerOf names who has chosen the ID of l. The sender stands first, so that
// nobody's ids are in another's way.
func (a *addresser) producerOf(l *Letter) string {
	if a.producer == "" || a.from != l.Producer {
		kind, name := "producer", l.Producer
		if name == "" {
			kind, name = "device", a.who.Device
		}
		a.from, a.producer = l.Producer, producerOf(letterProducer, a.who.User, "", kind, name)
	}
	return a.producer
}

// address appends the messages that l becomes.
func (a *addresser) address(dst []Publication, l *Letter) []Publication {
	b, who := a.broker, a.who
	producer := ""
	if l.Message.ID == "" {
		l.Message.ID = newID()
	} else {
		producer = a.producerOf(l)
	}
	a.room(l, len(l.To))
	add := func(topic parley.Topic) *Publication {
		dst = append(dst, Publication{Message: parley.Message{
			Topic: topic, ID: l.Message.ID, Sender: who.Identity,
			Header: l.Message.Header, Body: l.Message.Body, Expires: l.Message.Expires,
		}})
		return &dst[len(dst)-1]
	}
	for i, to := range l.To {
		l.entries[i] = -1
		inbox := parley.InboxTopic(to)
		err := a.watch.note(who, account.Send, inbox, who.Allow(account.Send, inbox))
		if err == nil {
			err = a.watch.spend(who, account.Send, &l.Message, inbox)
		}
		if err != nil {
			l.Results[i].Err = err
			b.Refused(err)
			continue
		}
		l.entries[i] = len(dst)
		topic := letterTopic(to, who.User)
		if l.Receipts && to != who.User {
			topic += asksSegment
		}
		add(topic).Producer = producer
		if to != who.User {
			add(letterTopic(who.User, to)).along = true
		}
	}
	return dst
}

// settle sets the results of the letters from those of their messages.
func (r *Send) settle(sub *submission) {
	entries := sub.publishes[0].Messages
	for i := range r.Letters {
		l := &r.Letters[i]
		for j, at := range l.entries {
			if at >= 0 {
				result := entries[at].Result
				l.Results[j] = SendResult{Seq: result.Seq, Duplicate: result.Duplicate, Err: result.Err}
			}
		}
	}
}

// newID names a message: 128 random bits.
func newID() string {
	var p [16]byte
	_, _ = rand.Read(p[:]) // it never fails
	return base64.RawURLEncoding.EncodeToString(p[:])
}
