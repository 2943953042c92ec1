package broker

import (
	"cmp"
	"fmt"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
)

// Publish has the messages of all requests stored, in order, and does not wait
// for it: each request is answered by a Published event. It waits while too much
// of this session's is unanswered.
func (s *Session) Publish(requests []*Publish) {
	sub := &submission{publishes: requests, session: s}
	sub.answer = func() { s.answer(&Published{sub.publishes}, sub.bytes) }
	who := s.Principal()
	expired := s.broker.expired(who)
	for _, r := range requests {
		for i := range r.Messages {
			m := &r.Messages[i]
			m.Message.Sender = who.Identity
			if m.Result.Err == nil {
				m.Result.Err = cmp.Or(expired, s.mayPublish(who, m.Message.Topic))
			}
			if m.Result.Err == nil {
				m.Result.Err = s.broker.cfg.Limits.check(&m.Message)
			}
			if m.Result.Err == nil {
				m.Result.Err = s.cfg.Watch.spend(who, account.Publish, &m.Message, m.Message.Topic)
			}
		}
	}
	sub.bounded(s.broker, who, s.cfg.Watch)
	s.submit(sub)
}

// submit hands sub over to be stored. It waits while too much of this session's
// is unanswered.
func (s *Session) submit(sub *submission) {
	sub.measure()
	s.mu.Lock()
	for s.unsent > s.broker.cfg.SessionBytes && !s.closed && s.bye == nil {
		s.room.Wait()
	}
	if s.closed || s.bye != nil {
		// Who publishes on and on must not put off its own goodbye: the end of
		// the connection is the answer.
		s.mu.Unlock()
		return
	}
	s.unsent += sub.bytes
	s.mu.Unlock()
	if err := s.broker.submit(sub); err != nil {
		sub.refuse(err)
		sub.answer()
	}
}

func (s *submission) refuse(err error) {
	for _, p := range s.publishes {
		for i := range p.Messages {
			if m := &p.Messages[i]; m.Result.Err == nil {
				m.Result.Err = err
			}
		}
	}
}

// answer is an event on its way to the client, with what it counts there.
type answer struct {
	event  Event
	unsent int // in Session.unsent
}

// answer tells the session what became of its messages, which had that many
// bytes.
func (s *Session) answer(e Event, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.outbox = append(s.outbox, answer{e, bytes})
	s.wakeLocked()
}

// check applies the rules for a message.
func (l *Limits) check(m *parley.Message) error {
	switch {
	case len(m.Body) > l.MessageBytes:
		return fmt.Errorf("the body has %d bytes, more than %d: %w", len(m.Body), l.MessageBytes, parley.ErrInvalid)
	case len(m.Header) > parley.MaxHeaderBytes:
		return fmt.Errorf("the header has %d bytes, more than %d: %w", len(m.Header), parley.MaxHeaderBytes, parley.ErrInvalid)
	case len(m.ID) > parley.MaxIDBytes:
		return fmt.Errorf("the id has %d bytes, more than %d: %w", len(m.ID), parley.MaxIDBytes, parley.ErrInvalid)
	case len(m.Filters) > parley.MaxFilters:
		return fmt.Errorf("more than %d filters: %w", parley.MaxFilters, parley.ErrInvalid)
	}
	return nil
}

// mayPublish is p.Allow. Most sessions publish to one topic again and again.
func (s *Session) mayPublish(p *account.Principal, t parley.Topic) error {
	c := &s.caller
	if c.allowed == p && c.topic == t {
		return nil
	}
	err := p.Allow(account.Publish, t)
	if err == nil {
		c.topic, c.allowed = t, p
	}
	return s.cfg.Watch.note(p, account.Publish, t, err)
}
