package broker

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
)

// What one commit takes at most. The first submission always fits.
const (
	commitMessages = 16384
	commitBytes    = 8 << 20
)

// submission is what one publisher handed over at once.
type submission struct {
	publishes []*Publish
	bytes     int
	messages  int
	invalid   int      // of the messages, those that are refused already
	limited   int      // of those, the ones that were too many
	answer    func()   // called when all results are set
	session   *Session // whose end takes it along; nil for nobody's
	quota     int64    // what the sender may have stored; 0 is no bound

	// Whom to tell of what the quota refuses; nil for nobody.
	watch *Watch
	who   *account.Principal
}

// measure is called when the rules were applied.
func (s *submission) measure() {
	for _, p := range s.publishes {
		for i := range p.Messages {
			s.bytes += p.Messages[i].Message.Size()
			if err := p.Messages[i].Result.Err; err != nil {
				s.invalid++
				if errors.Is(err, parley.ErrUnavailable) {
					s.limited++
				}
			}
		}
		s.messages += len(p.Messages)
	}
}

// commit is what is stored together.
type commit struct {
	submissions  []*submission
	publications []*Publication // of the submissions, without the refused ones
	entries      []backend.Entry
	refused      int // messages of sessions that were cut off meanwhile
}

// queue holds what is not durable yet, up to a bound: what waits, and what is
// being stored.
type queue struct {
	mu      sync.Mutex
	filled  sync.Cond
	waiting []*submission
	bytes   int // of what waits and of what is being stored
	storing struct{ bytes, submissions int }
	bound   int
	closed  bool
}

func newQueue(bound int) *queue {
	q := &queue{bound: bound}
	q.filled.L = &q.mu
	return q
}

// push adds s, or fails with ErrOverloaded, or when the broker has stopped.
func (q *queue) push(s *submission) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return fmt.Errorf("the server is stopping: %w", parley.ErrUnavailable)
	}
	if q.bytes > 0 && q.bytes+s.bytes > q.bound {
		return ErrOverloaded
	}
	q.bytes += s.bytes
	q.waiting = append(q.waiting, s)
	q.filled.Signal()
	return nil
}

// take waits for submissions and returns as many as one commit takes; nil when
// the queue was closed and is empty.
func (q *queue) take() *commit {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) == 0 {
		if q.closed {
			return nil
		}
		q.filled.Wait()
	}
	n, bytes, messages := 0, 0, 0
	for _, s := range q.waiting {
		if n > 0 && (bytes+s.bytes > commitBytes || messages+s.messages > commitMessages) {
			break
		}
		n++
		bytes += s.bytes
		messages += s.messages
	}
	c := &commit{submissions: append([]*submission(nil), q.waiting[:n]...)}
	c.gather(messages)
	rest := copy(q.waiting, q.waiting[n:])
	clear(q.waiting[rest:])
	q.waiting = q.waiting[:rest]
	q.storing.bytes, q.storing.submissions = bytes, n
	return c
}

// stored is called when what was taken last has its results, before they are
// answered: whoever is answered finds room for as much again.
func (q *queue) stored() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.bytes -= q.storing.bytes
	q.storing.bytes, q.storing.submissions = 0, 0
}

func (c *commit) gather(messages int) {
	c.publications = make([]*Publication, 0, messages)
	c.entries = make([]backend.Entry, 0, messages)
	for _, s := range c.submissions {
		if s.cut() {
			s.refuse(errCut)
			c.refused += s.messages - s.invalid
			continue
		}
		for _, p := range s.publishes {
			for i := range p.Messages {
				m := &p.Messages[i]
				if m.Result.Err != nil {
					continue
				}
				e := backend.Entry{Message: &m.Message, Along: m.along, Quota: s.quota}
				if m.Producer != "" && m.Message.ID != "" {
					if user := m.Message.Sender.User; user != "" { // whose ids are in nobody else's way
						e.Key = user + "\x00" + m.Producer + "\x00" + m.Message.ID
					} else {
						e.Key = m.Producer + "\x00" + m.Message.ID
					}
				}
				c.publications = append(c.publications, m)
				c.entries = append(c.entries, e)
			}
		}
	}
}

// delay lets what expires do so later, by as much as the wall clock is behind:
// whoever chose the moment went by the wall clock, or by one like it.
func (c *commit) delay(by time.Duration) {
	if by == 0 {
		return
	}
	for _, p := range c.publications {
		if m := &p.Message; !m.Expires.IsZero() {
			m.Expires = m.Expires.Add(by.Truncate(time.Microsecond))
		}
	}
}

// drop takes out what waits and is not wanted. The caller counts it when asked
// whether it is, and answers it afterwards.
func (q *queue) drop(unwanted func(*submission) bool) []*submission {
	q.mu.Lock()
	defer q.mu.Unlock()
	var dropped []*submission
	q.waiting = slices.DeleteFunc(q.waiting, func(s *submission) bool {
		if !unwanted(s) {
			return false
		}
		q.bytes -= s.bytes
		dropped = append(dropped, s)
		return true
	})
	return dropped
}

// close makes push fail; what was pushed is still taken.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.filled.Broadcast()
}

// used is how many bytes are not durable yet, and how many submissions. When it
// is 0, all that was pushed before has been counted.
func (q *queue) used() (bytes, submissions int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes, len(q.waiting) + q.storing.submissions
}
