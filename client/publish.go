package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"

	"github.com/parley-im/parley"
)

const (
	// defaultBatch is how many messages one request has at most when the
	// server did not say.
	defaultBatch = 100
	// batchBytes is how long a request may become when the server accepts more:
	// a longer one gains nothing and delays what other goroutines ask.
	batchBytes = 1 << 20
	// envelopeBytes is more than what surrounds the messages in a request.
	envelopeBytes = 128
)

// Receipt says that a message is stored.
type Receipt struct {
	// ID is the message's id: the one given, or the one that was made for it.
	ID string
	// Seq is its place in its topic's stream; 0 if it is not known to be stored.
	Seq parley.Seq
	// Duplicate reports that an earlier publish with the same id had stored it.
	Duplicate bool
}

// Publish stores m and returns when it is durable. It uses m's Topic, Body, ID,
// Header (a JSON object of strings), Expires and Filters; the rest is the
// server's to set. A message without ID gets a random one.
//
// If the connection breaks, Publish waits for the next one and repeats the
// request, and likewise if the server is too busy; the server recognises the ID
// and stores m once. After an error that does not come from the server, such as
// ctx's, it is not known whether m is stored: publish it again with the
// receipt's ID, which is set even then.
//
// The error wraps parley.ErrInvalid, ErrForbidden or ErrConflict (the ID was
// used for another message), or is ctx's or ErrClosed. With ctx's comes what
// Publish was waiting for, which then wraps parley.ErrUnavailable.
func (c *Client) Publish(ctx context.Context, m parley.Message) (Receipt, error) {
	receipt := Receipt{ID: nameIt(&m)}
	params, err := encodeMessage(&m)
	if err != nil {
		return receipt, err
	}
	var stored published
	if err := c.do(ctx, "publish", json.RawMessage(params), &stored); err != nil {
		return receipt, err
	}
	receipt.Seq, receipt.Duplicate = stored.Seq, stored.Duplicate
	return receipt, nil
}

// PublishAll stores messages, in order and with few round trips. Everything
// that Publish says holds for each of them. The receipts are as many as the
// messages, in their order; Seq is 0 in those of messages that are not known to
// be stored. The error is nil only if all are; it wraps the first failure.
// Messages may fail one by one, for instance for an ID that was used before,
// while those after them are stored.
func (c *Client) PublishAll(ctx context.Context, messages []parley.Message) ([]Receipt, error) {
	receipts := make([]Receipt, len(messages))
	encoded := make([]json.RawMessage, len(messages))
	for i, m := range messages {
		receipts[i].ID = nameIt(&m)
		p, err := encodeMessage(&m)
		if err == nil {
			err = c.fitsAlone(p)
		}
		if err != nil {
			return receipts, fmt.Errorf("message %d: %w", i, err)
		}
		encoded[i] = p
	}
	var failures failures
	for i := 0; i < len(encoded); {
		n := c.batch(encoded[i:])
		var answer struct {
			Results []published `json:"results"`
		}
		err := c.do(ctx, "publish", batchParams{encoded[i : i+n]}, &answer)
		if err == nil && len(answer.Results) != n {
			err = fmt.Errorf("client: publish: %w", errGarbled)
		}
		if err != nil {
			failures.add(i, err, len(encoded)-i)
			break
		}
		for j, stored := range answer.Results {
			if err := stored.Error.err(); err != nil {
				failures.add(i+j, err, 1)
				continue
			}
			receipts[i+j].Seq, receipts[i+j].Duplicate = stored.Seq, stored.Duplicate
		}
		i += n
	}
	return receipts, failures.err(len(messages))
}

// fitsAlone checks that a request can hold the message.
func (c *Client) fitsAlone(message []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fits(len(message) + envelopeBytes)
}

// batch is how many of the messages go into the next request: at least one.
func (c *Client) batch(messages []json.RawMessage) int {
	c.mu.Lock()
	most, room := c.limits.batchMessages, batchBytes
	if limit := c.limits.frameBytes; limit > 0 {
		room = min(room, limit)
	}
	c.mu.Unlock()
	if most <= 0 {
		most = defaultBatch
	}
	room -= envelopeBytes
	for i, m := range messages {
		if room -= len(m) + 1; i > 0 && (room < 0 || i == most) {
			return i
		}
	}
	return len(messages)
}

type batchParams struct {
	Messages []json.RawMessage `json:"messages"`
}

// published is one message's part of the answer.
type published struct {
	Seq       parley.Seq `json:"seq"`
	Duplicate bool       `json:"duplicate"`
	Error     *wireError `json:"error"`
}

// failures counts messages that were not stored and keeps the first reason.
type failures struct {
	count int
	first error
}

func (f *failures) add(i int, err error, count int) {
	if f.first == nil {
		f.first = fmt.Errorf("message %d: %w", i, err)
	}
	f.count += count
}

func (f *failures) err(of int) error {
	if f.count == 0 {
		return nil
	}
	return fmt.Errorf("client: %d of %d messages are not known to be stored: %w", f.count, of, f.first)
}

// nameIt makes sure that m has an ID, and returns it.
func nameIt(m *parley.Message) string {
	if m.ID == "" {
		m.ID = rand.Text()
	}
	return m.ID
}
