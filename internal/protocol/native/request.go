package native

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

func invalid(message string) error {
	return fmt.Errorf("%s: %w", message, parley.ErrInvalid)
}

// seqOf is *s, or 0 when s is nil.
func seqOf(name string, s *parley.Seq) (parley.Seq, error) {
	if s == nil {
		return 0, nil
	}
	if *s > parley.MaxSeq {
		return 0, invalid(name + " is above 2^53")
	}
	return *s, nil
}

// countOf is *n, or 0 when n is nil; *n must be positive.
func countOf(name string, n *int) (int, error) {
	if n == nil {
		return 0, nil
	}
	if *n < 1 {
		return 0, invalid(name + " must be at least 1")
	}
	return *n, nil
}

const (
	producerDigits = 32 // 128 bits in hex, which nobody guesses
	maxClientBytes = 255
)

type helloParams struct {
	Version  *int    `json:"version"`
	Client   string  `json:"client"`
	Producer *string `json:"producer"`
}

func (c *Codec) hello(call jsonrpc.Call) (protocol.Request, error) {
	if c.begun {
		return nil, fmt.Errorf("hello comes first, and once: %w", parley.ErrConflict)
	}
	var p helloParams
	if err := call.Params.Decode(&p); err != nil {
		return nil, err
	}
	if p.Version != nil && *p.Version != version {
		return nil, invalid("version 1 is the only one")
	}
	if len(p.Client) > maxClientBytes {
		return nil, invalid("client is longer than 255 bytes")
	}
	r := &protocol.Hello{Ref: call.ID}
	if p.Producer != nil {
		if _, err := hex.DecodeString(*p.Producer); err != nil || len(*p.Producer) != producerDigits {
			return nil, invalid("producer must be 32 hex digits")
		}
		r.Producer = strings.ToLower(*p.Producer)
	}
	c.begun = true
	c.producer = r.Producer
	return r, nil
}

type subscribeParams struct {
	startParams   `json:",inline"`
	durableParams `json:",inline"`

	Topic      string `json:"topic"`
	Max        *int   `json:"max"`
	ReplayOnly bool   `json:"replay_only"`
}

// startParams say where a subscription begins.
type startParams struct {
	After *parley.Seq `json:"after"`
	Since *time.Time  `json:"since"`
	Last  *int        `json:"last"`
}

func subscribe(call jsonrpc.Call) (protocol.Request, error) {
	var p subscribeParams
	if err := call.Params.Decode(&p); err != nil {
		return nil, err
	}
	r := &protocol.Subscribe{Subscribe: broker.Subscribe{Ref: call.ID, ReplayOnly: p.ReplayOnly}}
	var err error
	if r.Topic, err = parley.ParseTopic(p.Topic); err != nil {
		return nil, err
	}
	if r.Start, err = p.start(); err != nil {
		return nil, err
	}
	if r.Max, err = countOf("max", p.Max); err != nil {
		return nil, err
	}
	if r.Delivery, err = p.delivery(); err != nil {
		return nil, err
	}
	switch {
	case r.ReplayOnly && r.Delivery != nil:
		return nil, invalid("a durable subscription does not end: replay_only is not for it")
	case r.ReplayOnly && r.Start.Kind == broker.FromNow:
		return nil, invalid("replay_only needs after, since or last")
	case r.Max > 0 && !r.ReplayOnly:
		return nil, invalid("max needs replay_only")
	}
	return r, nil
}

func (p *startParams) start() (broker.Start, error) {
	s := broker.Start{Kind: broker.FromNow}
	var err error
	given := 0
	if p.After != nil {
		given++
		s.Kind = broker.AfterSeq
		if s.Seq, err = seqOf("after", p.After); err != nil {
			return s, err
		}
	}
	if p.Since != nil {
		given++
		s.Kind = broker.SinceTime
		s.Time = p.Since.UTC()
	}
	if p.Last != nil {
		given++
		s.Kind = broker.NewestN
		if s.Last, err = countOf("last", p.Last); err != nil {
			return s, err
		}
	}
	if given > 1 {
		return s, invalid("only one of after, since and last")
	}
	return s, nil
}

type unsubscribeParams struct {
	Sub uint64 `json:"sub"`
}

func unsubscribe(call jsonrpc.Call) (protocol.Request, error) {
	var p unsubscribeParams
	if err := call.Params.Decode(&p); err != nil {
		return nil, err
	}
	if p.Sub == 0 {
		return nil, invalid("sub is missing")
	}
	return &protocol.Unsubscribe{Ref: call.ID, ID: p.Sub}, nil
}

// span is what all requests for stored messages have in common.
type span struct {
	After  *parley.Seq `json:"after"`
	Before *parley.Seq `json:"before"`
	Since  *time.Time  `json:"since"`
}

// query is the span as a request that has neither Ref nor topic yet.
func (p *span) query() (protocol.Count, error) {
	var r protocol.Count
	var err error
	if r.After, err = seqOf("after", p.After); err != nil {
		return r, err
	}
	if r.Before, err = seqOf("before", p.Before); err != nil {
		return r, err
	}
	if p.Before != nil && r.Before == 0 {
		return r, invalid("before must be at least 1")
	}
	if p.Since != nil {
		r.Since = p.Since.UTC()
	}
	return r, nil
}

type countParams struct {
	span `json:",inline"`

	Topic string `json:"topic"`
}

func count(call jsonrpc.Call) (protocol.Request, error) {
	var p countParams
	if err := call.Params.Decode(&p); err != nil {
		return nil, err
	}
	topic, err := parley.ParseTopic(p.Topic)
	if err != nil {
		return nil, err
	}
	r, err := p.query()
	if err != nil {
		return nil, err
	}
	r.Ref, r.Topic = call.ID, topic
	return &r, nil
}

// pageParams select one page of stored messages.
type pageParams struct {
	span `json:",inline"`

	Limit   *int `json:"limit"`
	Reverse bool `json:"reverse"`
}

// fill checks p and fills r with it.
func (p *pageParams) fill(r *protocol.History) error {
	var err error
	if r.Limit, err = countOf("limit", p.Limit); err != nil {
		return err
	}
	q, err := p.query()
	r.After, r.Before, r.Since, r.Reverse = q.After, q.Before, q.Since, p.Reverse
	return err
}

type historyParams struct {
	pageParams `json:",inline"`

	Topic string `json:"topic"`
}

func history(call jsonrpc.Call) (protocol.Request, error) {
	var p historyParams
	if err := call.Params.Decode(&p); err != nil {
		return nil, err
	}
	r := &protocol.History{Ref: call.ID}
	var err error
	if r.Topic, err = parley.ParseTopic(p.Topic); err != nil {
		return nil, err
	}
	return r, p.fill(r)
}

func ping(call jsonrpc.Call) (protocol.Request, error) {
	var p struct{}
	if err := call.Params.Decode(&p); err != nil {
		return nil, err
	}
	return &protocol.Ping{Ref: call.ID}, nil
}
