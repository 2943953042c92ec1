package broker

import (
	"cmp"
	"context"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// Bounds are what a stream keeps. Zero fields take a default, negative ones are
// without bound.
type Bounds struct {
	Age      time.Duration
	Messages int
	Bytes    int64
}

func (b Bounds) or(d Bounds) Bounds {
	return Bounds{cmp.Or(b.Age, d.Age), cmp.Or(b.Messages, d.Messages), cmp.Or(b.Bytes, d.Bytes)}
}

// keep is b as of now.
func (b Bounds) keep(now time.Time) backend.Retention {
	r := backend.Retention{Messages: max(0, b.Messages), Bytes: max(0, b.Bytes)}
	if b.Age > 0 {
		r.Before = now.Add(-b.Age)
	}
	return r
}

// The streams of which there is one for each user.
const (
	inboxStreams = "$inbox/"
	deadStreams  = "$dead/"
)

// TopicStreams yields the streams of a log, from the first that is not before
// from, but for the inboxes and dead letters of users, which cost nothing here.
func TopicStreams(ctx context.Context, log backend.Log, from parley.Stream) iter.Seq2[parley.Stream, error] {
	return func(yield func(parley.Stream, error) bool) {
		for again := true; again; {
			again = false
			for s, err := range log.Streams(ctx, from) {
				if skip := beyondOwn(s); err == nil && skip != "" {
					from, again = skip, true
					break
				}
				if !yield(s, err) || err != nil {
					return
				}
			}
		}
	}
}

// beyondOwn is the first name beyond all of the kind, when s is a user's own.
func beyondOwn(s parley.Stream) parley.Stream {
	for _, prefix := range [...]string{deadStreams, inboxStreams} {
		if strings.HasPrefix(string(s), prefix) {
			return parley.Stream(prefix[:len(prefix)-1] + "0") // it follows the slash
		}
	}
	return ""
}

// personal watches how the inboxes and dead letters of users grow. One that is
// not written to costs nothing but its turn in the sweep.
type personal struct {
	wake chan struct{}

	mu          sync.Mutex
	inbox, dead Bounds
	grown       map[parley.Stream]growth // since they were trimmed
	over        map[parley.Stream]struct{}
	at          parley.Stream // the sweep goes on here
}

type growth struct {
	messages int
	bytes    int64
}

// maxGrown bounds the streams whose growth is remembered; the sweep finds the
// others.
const maxGrown = 100_000

// sweepStreams is how many streams are looked at each time that retention is
// applied: of a million, each is once in about 17 hours.
const sweepStreams = 1000

func newPersonal(inbox, dead Bounds) personal {
	return personal{
		inbox: inbox, dead: dead, wake: make(chan struct{}, 1),
		grown: map[parley.Stream]growth{}, over: map[parley.Stream]struct{}{},
	}
}

// SetBounds replaces Config.Inbox and Config.Dead. What is beyond new bounds is
// dropped when its stream is looked at next: when it grows, or in the sweep.
func (b *Broker) SetBounds(inbox, dead Bounds) {
	p := &b.personal
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inbox, p.dead = inbox.or(defaultInbox()), dead.or(defaultDead())
}

func defaultInbox() Bounds {
	return Bounds{Age: 30 * 24 * time.Hour, Messages: 100_000, Bytes: 256 << 20}
}

func defaultDead() Bounds { return Bounds{Age: 30 * 24 * time.Hour, Messages: 10_000, Bytes: 64 << 20} }

// bounds are those of a stream; ok is false when it is nobody's own.
func (p *personal) bounds(s parley.Stream) (b Bounds, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.boundsLocked(s)
}

func (p *personal) boundsLocked(s parley.Stream) (b Bounds, ok bool) {
	switch {
	case strings.HasPrefix(string(s), inboxStreams):
		return p.inbox, true
	case strings.HasPrefix(string(s), deadStreams):
		return p.dead, true
	}
	return Bounds{}, false
}

// grew counts stored messages. A stream that has grown by an eighth of what it
// may hold since it was looked at is looked at again.
func (p *personal) grew(messages []*parley.Message) {
	var due bool
	p.mu.Lock()
	for _, m := range messages {
		if !m.Topic.Reserved() {
			continue
		}
		s := m.Topic.Stream()
		b, ok := p.boundsLocked(s)
		if !ok {
			continue
		}
		if len(p.grown) >= maxGrown {
			clear(p.grown)
		}
		g := p.grown[s]
		g.messages++
		g.bytes += int64(m.Size())
		if b.Messages > 0 && g.messages > b.Messages/8 || b.Bytes > 0 && g.bytes > b.Bytes/8 {
			p.over[s], due = struct{}{}, true
			delete(p.grown, s)
			continue
		}
		p.grown[s] = g
	}
	p.mu.Unlock()
	if due {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// trimGrown trims the streams that may have come over their bounds.
func (b *Broker) trimGrown(ctx context.Context) error {
	p := &b.personal
	p.mu.Lock()
	over := p.over
	p.over = map[parley.Stream]struct{}{}
	p.mu.Unlock()
	for s := range over {
		if err := b.trimOwn(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// trimOwn drops the oldest of what is beyond the bounds of a user's stream.
// Whoever has not read that is told the gap.
func (b *Broker) trimOwn(ctx context.Context, s parley.Stream) error {
	bounds, ok := b.personal.bounds(s)
	if !ok {
		return nil
	}
	_, err := b.log.Trim(ctx, s, bounds.keep(b.cfg.Clock.Past()))
	return err
}

// sweep trims the next n users' streams, by age too.
func (b *Broker) sweep(ctx context.Context, n int) error {
	p := &b.personal
	p.mu.Lock()
	at := p.at
	p.mu.Unlock()
	if at == "" {
		at = deadStreams
	}
	var due []parley.Stream
	for s, err := range b.log.Streams(ctx, at) {
		if err != nil {
			return err
		}
		if len(due) == n || s >= beyondOwn(inboxStreams) {
			break
		}
		due = append(due, s)
	}
	at = ""
	for i, s := range due {
		if err := b.trimOwn(ctx, s); err != nil {
			return err
		}
		if i == n-1 {
			at = s + "\x01" // no name begins so
		}
	}
	p.mu.Lock()
	p.at = at
	p.mu.Unlock()
	return nil
}
