package broker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
)

// SessionConfig says who a session is and how to wake it.
type SessionConfig struct {
	Identity parley.Identity
	// Principal is who the session is at first, and replaces Identity; nil is
	// anyone with that identity.
	Principal *account.Principal
	// Protocol and Remote are told to who lists their sessions.
	Protocol, Remote string
	// Watch is told what the client does.
	Watch *Watch
	// Wake is called when there are events to take and nobody is taking them:
	// whoever is woken calls Next until it returns none. It must not block and
	// must not call the session.
	Wake func()
}

// Session is one conversation with one client. One goroutine makes requests,
// another, when woken, takes the events; Bye and Stop may be called by any.
type Session struct {
	broker *Broker
	cfg    SessionConfig
	caller caller

	mu      sync.Mutex
	room    sync.Cond // there is room for a request again
	outbox  []answer  // in order
	ready   []*Subscription
	subs    []*Subscription
	nextID  uint64
	overlap bool // some subscription covered another, so far
	unsent  int  // bytes of publishes whose answer was not taken
	queued  int  // bytes of other answers that were not delivered
	taken   int  // what of queued was taken last, and is delivered when more is taken
	awake   bool // someone takes events
	closed  bool
	bye     *Bye
	forced  bool // bye does not wait for what was published
}

// NewSession begins a session. Close ends it.
func (b *Broker) NewSession(cfg SessionConfig) *Session {
	s := &Session{broker: b, cfg: cfg}
	s.room.L = &s.mu
	b.enter(s)
	return s
}

// params are what the filters of messages are compared with.
func (s *Session) params() map[string]string { return paramsOf(s.Identity()) }

// Stop makes requests do nothing any more, and those that wait return. Wake is
// not called again.
func (s *Session) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.ready, s.outbox = nil, nil
	s.room.Broadcast()
}

// Close ends the session and its subscriptions. No request may be in progress.
func (s *Session) Close() {
	s.Stop()
	s.broker.leave(s)
	s.mu.Lock()
	subs := s.subs
	s.subs = nil
	s.mu.Unlock()
	for _, u := range subs {
		s.detach(u)
	}
}

// Bye ends the conversation from the server's side: what is in progress is
// answered, then e is the last event.
func (s *Session) Bye(e *Bye) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bye == nil {
		s.bye = e
	}
	s.room.Broadcast()
	s.wakeLocked()
}

// Reply adds an event to those to be taken. It waits while the client does not
// take its answers. Cost is about how many bytes the event holds.
func (s *Session) Reply(e Event, cost int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.queued > s.broker.cfg.SessionBytes && !s.closed && !s.caller.cut.Load() {
		s.room.Wait()
	}
	if s.closed || s.caller.cut.Load() {
		return
	}
	s.queued += cost + 128
	s.outbox = append(s.outbox, answer{event: e})
	s.wakeLocked()
}

// Offer adds an event as Reply does, but never waits: it reports false, and adds
// nothing, when more than most bytes of answers wait to be taken or the session
// ends. Any goroutines may call it.
func (s *Session) Offer(e Event, cost, most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.bye != nil || s.queued > most {
		return false
	}
	s.queued += cost + 128
	s.outbox = append(s.outbox, answer{event: e})
	s.wakeLocked()
	return true
}

// Subscribe begins a subscription; it is answered by Subscribed or Failed.
func (s *Session) Subscribe(ctx context.Context, r Subscribe) {
	who := s.Principal()
	err := cmp.Or(s.broker.expired(who), r.Permit(who))
	if s.cfg.Watch.note(who, account.Subscribe, r.Topic, err) != nil {
		s.Reply(&Failed{r.Ref, err}, 0)
		return
	}
	u := newSubscription(s, r)
	err = s.attach(ctx, u)
	if err != nil {
		s.Reply(&Failed{r.Ref, err}, 0)
		return
	}
	s.mu.Lock()
	if s.closed || s.bye != nil {
		s.mu.Unlock()
		u.unfeed()
		return
	}
	var old *Subscription
	if i := s.findLocked(0, r.Topic); r.Replace && !r.ReplayOnly && i >= 0 {
		old = s.cancelLocked(i)
	}
	if len(s.subs) >= s.broker.cfg.Limits.Subscriptions {
		err = fmt.Errorf("more than %d subscriptions: %w", s.broker.cfg.Limits.Subscriptions, parley.ErrInvalid)
	} else {
		s.enterLocked(u)
	}
	s.mu.Unlock()
	if old != nil {
		s.detach(old)
	}
	if err != nil {
		u.unfeed()
		s.Reply(&Failed{r.Ref, err}, 0)
	}
}

// attach finds the place from which u is told of what is published.
func (s *Session) attach(ctx context.Context, u *Subscription) error {
	if u.request.ReplayOnly && u.request.Delivery == nil {
		return nil
	}
	if err := s.broker.findEnd(ctx); err != nil {
		return err
	}
	s.broker.feeds.attach(u)
	if u.request.Delivery == nil {
		return nil
	}
	if err := s.broker.join(ctx, u); err != nil {
		u.unfeed()
		return err
	}
	return nil
}

// enterLocked makes u one of the session's subscriptions and gives it a turn. It
// was marked as queued so far, so that no bell did that too early.
func (s *Session) enterLocked(u *Subscription) {
	s.nextID++
	u.ID = s.nextID
	for _, v := range s.subs {
		s.overlap = s.overlap || u.Topic.Covers(v.Topic) || v.Topic.Covers(u.Topic)
	}
	s.subs = append(s.subs, u)
	s.broker.stats.subscribe()
	s.ready = append(s.ready, u)
	s.wakeLocked()
}

// Unsubscribe ends the subscription with that id or, if id is 0, the one to
// topic that is live or will be. It is answered by Unsubscribed, or by Failed
// unless quiet.
func (s *Session) Unsubscribe(ref string, id uint64, topic parley.Topic, quiet bool) {
	s.mu.Lock()
	i := s.findLocked(id, topic)
	if i < 0 {
		s.mu.Unlock()
		if !quiet {
			s.Reply(&Failed{ref, fmt.Errorf("no such subscription: %w", parley.ErrNotFound)}, 0)
		}
		return
	}
	u := s.cancelLocked(i)
	u.farewell = &Unsubscribed{ref, u}
	s.mu.Unlock()
	s.detach(u)
}

func (s *Session) findLocked(id uint64, topic parley.Topic) int {
	return slices.IndexFunc(s.subs, func(u *Subscription) bool {
		if id != 0 {
			return u.ID == id
		}
		return u.Topic == topic && !u.request.ReplayOnly
	})
}

// cancelLocked removes a subscription. Whoever takes the events tells u.farewell,
// if the caller sets one, after what u was due to tell.
func (s *Session) cancelLocked(i int) *Subscription {
	u := s.subs[i]
	s.subs = slices.Delete(s.subs, i, i+1)
	u.canceled = true
	if !u.queued {
		u.queued = true
		s.ready = append(s.ready, u)
		s.wakeLocked()
	}
	return u
}

// detach ends what the broker does for a subscription that was removed.
func (s *Session) detach(u *Subscription) {
	s.broker.stats.subscriptions.Add(-1)
	if u.feed != nil {
		u.unfeed()
		s.ringAll()
	}
}

// ring says that u has something to do.
func (s *Session) ring(u *Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || u.canceled || u.queued {
		return
	}
	u.queued = true
	s.ready = append(s.ready, u)
	s.wakeLocked()
}

// ringAll rings every subscription: one that they may have waited for is out of
// the way.
func (s *Session) ringAll() {
	s.mu.Lock()
	subs := slices.Clone(s.subs)
	s.mu.Unlock()
	for _, u := range subs {
		s.ring(u)
	}
}

// wakeLocked calls Wake under the lock, so that none is under way when Close
// returns.
func (s *Session) wakeLocked() {
	if !s.awake && !s.closed {
		s.awake = true
		s.cfg.Wake()
	}
}

// takeBytes bounds what Next takes at once.
const takeBytes = 256 << 10

// Next appends the events that are due to dst, about 256 KiB of them. When it
// appends none, the caller has to wait until it is woken.
func (s *Session) Next(ctx context.Context, dst []Event) []Event {
	n := len(dst)
	for {
		dst = s.pull(ctx, dst, s.rung())
		pulled := len(dst) - n
		var acked int
		dst, acked = s.answers(dst)
		// What was published is answered before it is delivered, and what has
		// been delivered had its answer in the outbox by now. What was pulled may
		// have been acknowledged meanwhile: that is confirmed after it.
		rotate(dst[n:len(dst)-acked], pulled)
		if len(dst) > n || s.rest() {
			return dst
		}
	}
}

// rotate moves the first n events behind the others.
func rotate(events []Event, n int) {
	if n > 0 && n < len(events) {
		slices.Reverse(events[:n])
		slices.Reverse(events[n:])
		slices.Reverse(events)
	}
}

// pull gives each subscription that rang its turn.
func (s *Session) pull(ctx context.Context, dst []Event, ready []*Subscription) []Event {
	budget := takeBytes
	// The broadest first: it delivers for those below it.
	slices.SortStableFunc(ready, func(u, v *Subscription) int { return len(u.Topic) - len(v.Topic) })
	for i, u := range ready {
		if budget <= 0 {
			s.again(ready[i:])
			break
		}
		if s.begin(u) {
			dst = u.leave(dst)
			continue
		}
		var more bool
		if dst, more = u.pull(ctx, dst, &budget); more {
			s.ring(u)
		}
		dst = u.tellMarker(ctx, dst)
	}
	return dst
}

// rung takes the subscriptions that rang.
func (s *Session) rung() []*Subscription {
	s.mu.Lock()
	defer s.mu.Unlock()
	ready := s.ready
	s.ready = nil
	if s.bye != nil {
		return nil
	}
	return ready
}

// answers moves the outbox to dst, and the goodbye when all else was told. The last
// ones are Acked.
func (s *Session) answers(dst []Event) (events []Event, acked int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queued -= s.taken
	s.taken = s.queued
	for _, a := range s.outbox {
		s.unsent -= a.unsent
		if _, is := a.event.(*Acked); is {
			acked++
			continue
		}
		dst = append(dst, a.event)
	}
	for i := 0; i < len(s.outbox) && acked > 0; i++ {
		if _, is := s.outbox[i].event.(*Acked); is {
			dst = append(dst, s.outbox[i].event)
		}
	}
	clear(s.outbox)
	if s.outbox = s.outbox[:0]; cap(s.outbox) > 64 {
		s.outbox = nil
	}
	s.room.Broadcast()
	if len(dst) == 0 && s.leavingLocked() && !s.closed {
		s.closed = true
		return append(dst, s.bye), 0
	}
	return dst, acked
}

// begin begins u's turn: a bell from now on counts anew.
func (s *Session) begin(u *Subscription) (canceled bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u.queued = false
	return u.canceled
}

// Cursors tells how far each subscription came: up to there its messages were
// handed out by Next, which does not say that the client got them. Only whoever
// takes the events may call it.
func (s *Session) Cursors() map[parley.Topic]parley.Seq {
	s.mu.Lock()
	defer s.mu.Unlock()
	cursors := map[parley.Topic]parley.Seq{}
	for _, u := range s.subs {
		cursors[u.Topic] = u.cursor
	}
	return cursors
}

// again puts subscriptions that had no turn back to the front.
func (s *Session) again(ready []*Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = append(ready, s.ready...)
}

// rest ends the taking of events, unless more came meanwhile.
func (s *Session) rest() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed && (len(s.outbox) > 0 || len(s.ready) > 0 && s.bye == nil || s.leavingLocked()) {
		return false
	}
	s.awake = false
	return true
}

// finish removes a subscription that has come to its end by itself.
func (s *Session) finish(u *Subscription) {
	s.mu.Lock()
	i := slices.Index(s.subs, u)
	if i >= 0 {
		s.subs = slices.Delete(s.subs, i, i+1)
	}
	s.mu.Unlock()
	if i >= 0 {
		s.detach(u)
	}
}

// History reads one page; it is answered by History or Failed.
func (s *Session) History(ctx context.Context, ref string, q backend.Query) {
	page, err := s.broker.History(ctx, s.Principal(), q)
	if s.cfg.Watch.note(s.Principal(), account.History, q.Topic, err) != nil {
		s.Reply(&Failed{ref, err}, 0)
		return
	}
	cost := 0
	for _, m := range page.Messages {
		cost += m.Size()
	}
	s.Reply(&History{Ref: ref, Messages: page.Messages, Next: page.Next, More: page.More, Floor: page.Floor}, cost)
}

// Count counts stored messages; it is answered by Counted or Failed.
func (s *Session) Count(ctx context.Context, ref string, q backend.Query) {
	span, err := s.broker.Count(ctx, s.Principal(), q)
	if s.cfg.Watch.note(s.Principal(), account.History, q.Topic, err) != nil {
		s.Reply(&Failed{ref, err}, 0)
		return
	}
	s.Reply(&Counted{Ref: ref, Count: span.Count, First: span.First, Last: span.Last}, 0)
}
