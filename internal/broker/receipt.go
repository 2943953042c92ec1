package broker

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// ReceiptOf tells whether m, of an inbox, is a receipt. Its ID is then that of
// the message that it is about, and its body {"seq":N} says where that is in the
// recipient's inbox.
func ReceiptOf(m *parley.Message) ReceiptKind {
	switch {
	case !strings.HasPrefix(string(m.Topic), "/$inbox/"):
	case strings.HasSuffix(string(m.Topic), deliveredSegment):
		return Delivered
	case strings.HasSuffix(string(m.Topic), readSegment):
		return Read
	}
	return NoReceipt
}

// asks reports whether the sender of m, of an inbox, wants receipts.
func asks(m *parley.Message) bool { return strings.HasSuffix(string(m.Topic), asksSegment) }

// delivered is told of messages in owner's inbox that a device has acknowledged,
// before that is durable: who comes back after a crash then acknowledges them
// again, and no receipt is lost. It stores the receipts that were asked for, one
// for each message however many devices acknowledge it, and returns when they are
// durable. Messages that ask for none cost nothing.
func (b *Broker) delivered(ctx context.Context, owner string, messages []*parley.Message) error {
	var young []*parley.Message
	old := map[string][]*parley.Message{} // by sender
	for _, m := range messages {
		_, peer := m.Topic.Inbox()
		switch {
		case !asks(m):
		case b.cfg.Clock.Now().Sub(m.Time) < b.cfg.Limits.DedupWindow*3/4:
			young = append(young, m)
		default:
			old[peer] = append(old[peer], m)
		}
	}
	for peer, messages := range old {
		missing, err := b.withoutReceipt(ctx, owner, peer, messages)
		if err != nil {
			return err
		}
		young = append(young, missing...)
	}
	return b.receipt(ctx, Delivered, owner, young)
}

// withoutReceipt are those of messages, from peer and in ascending order, whose
// delivery peer was not told of. It looks for the receipts: their keys may be
// forgotten.
func (b *Broker) withoutReceipt(ctx context.Context, owner, peer string, messages []*parley.Message) ([]*parley.Message, error) {
	missing := map[string]*parley.Message{}
	first := messages[0].Seq
	for _, m := range messages {
		missing[string(receiptBody(m.Seq))] = m
		first = min(first, m.Seq)
	}
	topic := letterTopic(peer, owner) + deliveredSegment
	q := backend.Query{Stream: topic.Stream(), Topic: topic, After: first, MaxBytes: batchBytes}
	for len(missing) > 0 {
		page, err := b.log.Read(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, m := range page.Messages {
			delete(missing, string(m.Body))
		}
		if !page.More {
			break
		}
		q.After = page.Next
	}
	var rest []*parley.Message
	for _, m := range messages {
		if missing[string(receiptBody(m.Seq))] != nil {
			rest = append(rest, m)
		}
	}
	return rest, nil
}

// receipt stores receipts of that kind for those of owner's messages whose senders
// want them, and returns when they are durable.
func (b *Broker) receipt(ctx context.Context, kind ReceiptKind, owner string, messages []*parley.Message) error {
	segment := parley.Topic(deliveredSegment)
	if kind == Read {
		segment = readSegment
	}
	p := &Publish{}
	for _, m := range messages {
		_, peer := m.Topic.Inbox()
		if !asks(m) || peer == owner {
			continue
		}
		p.Messages = append(p.Messages, Publication{
			Message: parley.Message{
				Topic: letterTopic(peer, owner) + segment, ID: m.ID,
				Sender: parley.Identity{User: owner}, Body: receiptBody(m.Seq),
			},
			Producer: producerOf(receiptProducer, owner, string(segment), m.Seq.String()),
		})
	}
	if len(p.Messages) == 0 {
		return nil
	}
	if err := b.await(ctx, &submission{publishes: []*Publish{p}}); err != nil {
		return fmt.Errorf("receipts: %w", err)
	}
	for i := range p.Messages {
		if err := p.Messages[i].Result.Err; err != nil {
			return fmt.Errorf("receipts: %w", err)
		}
	}
	return nil
}

func receiptBody(s parley.Seq) []byte {
	return append(strconv.AppendUint([]byte(`{"seq":`), uint64(s), 10), '}')
}
