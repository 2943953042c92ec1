package broker

import (
	"context"
	"slices"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// Subscription is a session's standing wish for a topic's messages.
type Subscription struct {
	// ID tells a session's subscriptions apart; the first is 1.
	ID uint64
	// Topic is what it covers.
	Topic parley.Topic
	// Ref is the request's id on the wire.
	Ref string

	session  *Session
	request  Subscribe
	inbox    bool       // it follows all of the user's inbox
	feed     *feed      // nil when it only replays
	attached parley.Seq // all above it reaches the feed
	order    uint64     // which subscriptions came before it

	place int // in feed.subs; guarded by feed.mu

	member  *member // of what it consumes; nil when nothing is acknowledged
	notices []Event // what to tell after Subscribed

	// Guarded by Session.mu.
	queued   bool // in Session.ready, or not yet one of the session's
	canceled bool
	farewell Event // what the cancellation is told by
	unmarked bool  // of an open inbox: the read marker is to be told

	// Only whoever takes the session's events touches these.
	phase    phase
	cursor   parley.Seq // all up to it was delivered, or is not wanted
	wasLive  bool       // it has been live, and may be catching up now
	through  parley.Seq // where the present replay ends
	left     int        // how many messages a replay may still deliver
	asOf     time.Time  // when the present replay judges expiry
	since    time.Time
	replayed bool // it has begun a replay
	told     bool // of the present replay's start
}

// phase is where a subscription is on its way.
type phase int

const (
	phaseNew phase = iota
	phaseReplay
	phaseLive
	phaseConsume // both, by a consumer
	phaseDone
)

func newSubscription(s *Session, r Subscribe) *Subscription {
	return &Subscription{Topic: r.Topic, Ref: r.Ref, session: s, request: r, queued: true, inbox: r.opensInbox(), unmarked: true}
}

// unfeed ends the bells.
func (u *Subscription) unfeed() {
	if u.member != nil {
		u.member.leave()
	}
	if u.feed != nil {
		u.session.broker.feeds.detach(u)
	}
}

// leave tells what a canceled subscription still owes: that it was subscribed,
// if it had no turn before, and that it is not any more.
func (u *Subscription) leave(dst []Event) []Event {
	if u.phase == phaseNew {
		dst = append(dst, &Subscribed{Ref: u.Ref, Sub: u, Cursor: u.attached})
		if !u.request.ReplayOnly {
			dst = append(dst, &Live{Sub: u, Cursor: u.attached})
		}
	}
	if u.phase = phaseDone; u.farewell != nil {
		dst = append(dst, u.farewell)
	}
	return dst
}

// pull appends what u has to tell next, and reports whether to come back.
func (u *Subscription) pull(ctx context.Context, dst []Event, budget *int) (events []Event, more bool) {
	var err error
	was := u.phase
	more = true
	switch was {
	case phaseNew:
		if u.member != nil {
			dst, err = u.startConsuming(ctx, dst)
			break
		}
		dst, err = u.start(ctx, dst)
	case phaseReplay:
		dst, err = u.replay(ctx, dst, budget)
	case phaseLive:
		dst, more, err = u.live(ctx, dst, budget)
	case phaseConsume:
		dst, more, err = u.consume(ctx, dst, budget)
	case phaseDone:
	}
	if err == nil {
		return dst, more && u.phase != phaseDone
	}
	u.phase = phaseDone
	u.session.finish(u)
	if was == phaseNew {
		return append(dst, &Failed{u.Ref, err}), false
	}
	return append(dst, &Ended{u, err}), false
}

// start finds where to begin.
func (u *Subscription) start(ctx context.Context, dst []Event) ([]Event, error) {
	told := Subscribed{Ref: u.Ref, Sub: u}
	var notice Event
	switch r := u.request; r.Start.Kind {
	case FromNow:
		u.cursor = u.attached
		told.Cursor = u.cursor
	case AfterSeq:
		u.cursor = r.Start.Seq
		var err error
		if notice, err = u.correct(ctx); err != nil {
			return dst, err
		}
		told.Cursor = u.cursor
	case SinceTime:
		u.since = r.Start.Time
	case NewestN:
	}
	dst = append(dst, &told)
	if notice != nil {
		dst = append(dst, notice)
	}
	if u.request.Start.Kind == FromNow && !u.request.ReplayOnly {
		return u.goLive(dst), nil
	}
	return u.startReplay(ctx, dst)
}

// correct moves a cursor that lies outside the stream.
func (u *Subscription) correct(ctx context.Context) (Event, error) {
	floor, last, err := u.session.broker.log.Bounds(ctx, u.Topic.Stream())
	if err != nil {
		return nil, err
	}
	from := u.cursor
	if from != 0 && from < floor {
		u.cursor = floor
		return &Gap{Sub: u, From: from, To: floor}, nil
	}
	if from <= last {
		return nil, nil
	}
	end, err := u.session.broker.end(ctx, u.Topic.Stream(), last)
	if err != nil || from <= end {
		return nil, err
	}
	u.cursor = max(end, u.attached)
	return &Reset{Sub: u, From: from, To: u.cursor}, nil
}

// startReplay begins to deliver what is stored beyond the cursor. A repeated
// replay that finds nothing is not worth an event.
func (u *Subscription) startReplay(ctx context.Context, dst []Event) ([]Event, error) {
	b, r := u.session.broker, &u.request
	at := parley.Seq(b.feeds.dispatched.Load())
	_, last, err := b.log.Bounds(ctx, u.Topic.Stream())
	if err != nil {
		return dst, err
	}
	u.through = max(last, at, u.cursor)
	u.asOf = b.cfg.Clock.Past()
	u.left = 0
	q := u.query()
	first := !u.replayed && !u.wasLive
	u.replayed = true
	if first {
		q.Limit = r.Max
		if r.Start.Kind == NewestN {
			q.Limit, q.Reverse = r.Start.Last, true
		}
	}
	none := first && r.Start.Kind == NewestN && r.Start.Last <= 0
	if !none {
		span, err := b.log.Count(ctx, q)
		if err != nil {
			return dst, err
		}
		if u.left = span.Count; q.Reverse && span.Count > 0 {
			u.cursor = span.First - 1
		}
	}
	u.phase = phaseReplay
	if u.told = first || u.left > 0; u.told {
		dst = append(dst, &ReplayStart{Sub: u, Count: u.left})
	}
	if u.left == 0 {
		// Nothing there may also mean that it was trimmed before the count.
		floor, _, err := b.log.Bounds(ctx, u.Topic.Stream())
		if err != nil {
			return dst, err
		}
		return u.endReplay(ctx, u.skip(dst, floor), true)
	}
	b.stats.replays.Add(1)
	return dst, nil
}

func (u *Subscription) query() backend.Query {
	return backend.Query{
		Stream: u.Topic.Stream(), Topic: u.Topic, After: u.cursor, Before: u.through + 1,
		Since: u.since, Now: u.asOf, Params: u.session.params(),
	}
}

// replay delivers one page.
func (u *Subscription) replay(ctx context.Context, dst []Event, budget *int) ([]Event, error) {
	q := u.query()
	q.Limit, q.MaxBytes = min(u.left, batchMessages), batchBytes
	page, err := u.session.broker.readAnswered(ctx, q)
	if err != nil {
		return dst, err
	}
	dst = u.skip(dst, page.Floor)
	if len(page.Messages) > 0 {
		dst = u.deliver(dst, NewBatch(page.Messages), nil, budget)
	}
	u.left -= len(page.Messages)
	u.cursor = max(u.cursor, page.Next)
	if page.More && u.left > 0 {
		return dst, nil
	}
	return u.endReplay(ctx, dst, !page.More)
}

// skip moves the cursor up to the stream's floor, and tells the gap that opens.
// Who begins with the oldest message, cursor 0, misses nothing.
func (u *Subscription) skip(dst []Event, floor parley.Seq) []Event {
	if floor <= u.cursor {
		return dst
	}
	if u.cursor != 0 || u.wasLive {
		dst = append(dst, &Gap{Sub: u, From: u.cursor, To: floor})
	}
	u.cursor = floor
	return dst
}

// endReplay goes live, or replays what was stored meanwhile. The replay is whole
// unless a maximum ended it.
func (u *Subscription) endReplay(ctx context.Context, dst []Event, whole bool) ([]Event, error) {
	if whole || !u.request.ReplayOnly {
		u.cursor = max(u.cursor, u.through)
	}
	if u.told {
		dst = append(dst, &ReplayEnd{Sub: u, Cursor: u.cursor})
	}
	if u.request.ReplayOnly {
		u.phase = phaseDone
		u.session.finish(u)
		return dst, nil
	}
	if _, behind := u.feed.next(u.cursor); behind {
		return u.startReplay(ctx, dst)
	}
	return u.goLive(dst), nil
}

func (u *Subscription) goLive(dst []Event) []Event {
	u.wasLive = true
	u.phase, u.since = phaseLive, time.Time{}
	return append(dst, &Live{Sub: u, Cursor: u.cursor})
}

// live delivers what the feed has beyond the cursor, and leaves to a broader
// subscription what that one has yet to deliver.
func (u *Subscription) live(ctx context.Context, dst []Event, budget *int) (events []Event, more bool, err error) {
	leader, others := u.overlaps()
	for *budget > 0 {
		batch, behind := u.feed.next(u.cursor)
		if behind {
			u.session.broker.stats.fallbacks.Add(1)
			dst, err = u.startReplay(ctx, dst)
			u.session.ringAll() // nobody is to wait for u now
			return dst, true, err
		}
		if batch == nil || leader != nil && batch.First() > leader.cursor {
			return dst, false, nil
		}
		last := batch.Last()
		if leader != nil {
			last = min(last, leader.cursor)
		}
		if last <= u.cursor {
			return dst, false, nil
		}
		if batch = u.wanted(batch, last); batch != nil {
			dst = u.deliver(dst, batch, others, budget)
		}
		u.cursor = last
	}
	return dst, true, nil
}

// wanted is the part of the batch beyond the cursor and up to last that is meant
// for this session and has not expired; most often the whole, which is shared.
func (u *Subscription) wanted(b *Batch, last parley.Seq) *Batch {
	if u.cursor < b.First() && b.Last() <= last && !b.conditional {
		return b
	}
	now, params := u.session.broker.cfg.Clock.Past(), u.session.params()
	part := slices.DeleteFunc(slices.Clone(b.Messages), func(m *parley.Message) bool {
		return m.Seq <= u.cursor || m.Seq > last || m.Expired(now) || !m.Matches(params)
	})
	if len(part) == 0 {
		return nil
	}
	return NewBatch(part)
}

// deliver appends b, naming those of others that get it with u.
func (u *Subscription) deliver(dst []Event, b *Batch, others []*Subscription, budget *int) []Event {
	for _, m := range b.Messages {
		*budget -= m.Size()
	}
	u.session.broker.stats.delivered.Add(int64(len(b.Messages)))
	if len(others) > 0 {
		return u.deliverOnce(dst, b, others)
	}
	return append(dst, &Messages{Sub: u, Batch: b})
}

// overlaps finds how u shares messages with the session's other live
// subscriptions. The broadest that covers u leads: it delivers for u too, and u
// only gets by itself what the leader has passed before u was live. Others are
// those that u leads.
func (u *Subscription) overlaps() (leader *Subscription, others []*Subscription) {
	s := u.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.overlap {
		return nil, nil
	}
	for _, v := range s.subs {
		switch {
		case v == u || v.phase != phaseLive:
		case v.leads(u):
			if leader == nil || v.leads(leader) {
				leader = v
			}
		case u.leads(v):
			others = append(others, v)
		}
	}
	return leader, others
}

// leads reports whether u covers all of v; of two with the same topic, the older
// one leads.
func (u *Subscription) leads(v *Subscription) bool {
	return u.Topic.Covers(v.Topic) && (u.Topic != v.Topic || u.ID < v.ID)
}

// deliverOnce splits b where the subscriptions that share a message change, and
// moves their cursors along. One that has not come as far as u delivers by
// itself.
func (u *Subscription) deliverOnce(dst []Event, b *Batch, others []*Subscription) []Event {
	level := slices.DeleteFunc(slices.Clone(others), func(v *Subscription) bool {
		if v.levelWith(u) {
			return false
		}
		u.session.ring(v)
		return true
	})
	var run []*parley.Message
	var also []*Subscription
	flush := func() {
		if len(run) > 0 {
			dst = append(dst, &Messages{Sub: u, Also: also, Batch: NewBatch(run)})
		}
		run = nil
	}
	for _, m := range b.Messages {
		var shared []*Subscription
		for _, v := range level {
			if m.Seq > v.cursor && v.Topic.Covers(m.Topic) {
				shared = append(shared, v)
				v.cursor = m.Seq
			}
		}
		u.session.broker.stats.delivered.Add(int64(len(shared)))
		if !slices.Equal(shared, also) {
			flush()
			also = shared
		}
		run = append(run, m)
	}
	flush()
	return dst
}

// levelWith reports whether u lacks nothing of what v has passed.
func (u *Subscription) levelWith(v *Subscription) bool {
	if u.cursor >= v.cursor {
		return true
	}
	b, behind := u.feed.next(u.cursor)
	return !behind && (b == nil || b.First() > v.cursor)
}
