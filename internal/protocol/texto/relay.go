package texto

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-im/parley/internal/broker"
)

// Config says how a relay works.
type Config struct {
	// Publish hands a message to all nodes, this one included, on a channel of
	// Redis; each gives what it follows of [Channels] to Relay.Deliver. Nil is
	// for a node that is alone. An error means that nobody has the message, or
	// that nobody knows.
	Publish func(ctx context.Context, channel string, payload []byte) error
	// TextBytes bounds the text of a message; 0 is 1 MiB.
	TextBytes int
	// WaitingBytes bounds what waits for all sessions together to be read; 0 is
	// 64 MiB. Beyond it nothing more is handed over.
	WaitingBytes int64
	// Logger is told what goes wrong between nodes; nil is slog.Default().
	Logger *slog.Logger
}

const (
	// sessionBytes bounds what waits for one session to be read; a session that
	// is further behind is closed as slow.
	sessionBytes = 4 << 20
	// publishTimeout bounds how long a session waits for Redis.
	publishTimeout = 2 * time.Second
	// idleTime is how long a session may say and be told nothing.
	idleTime = 5 * time.Minute
	// idleEvery is how often that is looked at.
	idleEvery = 5 * time.Second
)

// Relay hands messages from session to session. Its methods may be called
// concurrently.
type Relay struct {
	cfg     Config
	began   time.Time
	counts  counts
	waiting atomic.Int64 // bytes handed over and not yet encoded

	mu       sync.RWMutex // guards what follows
	sessions map[UUID]*Codec

	loggedAt atomic.Int64 // when a bad payload was last logged, in ns since began
}

// counts are what Stats shows.
type counts struct {
	sent, delivered, astray, overflowed, failed, unreadable atomic.Int64
}

// Stats is a snapshot of what a relay has done.
type Stats struct {
	// Sessions are on this node.
	Sessions int64
	// Sent counts the messages that were acked, Failed those answered with
	// EBROKER.
	Sent, Failed int64
	// Delivered counts the messages handed to a session of this node.
	Delivered int64
	// Astray counts those for which there was no session here. With other nodes
	// that is most of what they send.
	Astray int64
	// Overflowed counts those that were lost because too much waited already.
	Overflowed int64
	// Unreadable counts what came from other nodes and was no message.
	Unreadable int64
	// Waiting is the bytes that were handed over and not yet written.
	Waiting int64
}

// NewRelay makes a relay; call Run too.
func NewRelay(cfg Config) *Relay {
	if cfg.TextBytes == 0 {
		cfg.TextBytes = 1 << 20
	}
	if cfg.WaitingBytes == 0 {
		cfg.WaitingBytes = 64 << 20
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Relay{cfg: cfg, began: time.Now(), sessions: make(map[UUID]*Codec)}
}

// Stats takes a snapshot.
func (r *Relay) Stats() Stats {
	r.mu.RLock()
	sessions := len(r.sessions)
	r.mu.RUnlock()
	c := &r.counts
	return Stats{
		Sessions: int64(sessions), Sent: c.sent.Load(), Failed: c.failed.Load(), Delivered: c.delivered.Load(), Astray: c.astray.Load(),
		Overflowed: c.overflowed.Load(), Unreadable: c.unreadable.Load(), Waiting: r.waiting.Load(),
	}
}

// Run ends sessions that are idle, until ctx ends, and returns nil.
func (r *Relay) Run(ctx context.Context) error {
	tick := time.NewTicker(idleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		r.mu.RLock()
		codecs := slices.Collect(maps.Values(r.sessions))
		r.mu.RUnlock()
		now := r.now()
		for _, c := range codecs {
			if now-c.active.Load() >= int64(idleTime) {
				c.session.Bye(&broker.Bye{Code: broker.ByeIdle, Reason: "idle"})
			}
		}
	}
}

// now is the time since the relay began, in ns.
func (r *Relay) now() int64 { return int64(time.Since(r.began)) }

// join makes a session known; leave, which it returns, unknown.
func (r *Relay) join(c *Codec, s *broker.Session) (leave func()) {
	c.session = s
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sessions[c.id] = c
	return func() {
		r.mu.Lock()
		delete(r.sessions, c.id)
		r.mu.Unlock()
		c.abandon()
	}
}

// send hands a message over: to all nodes where there are others, otherwise to
// its recipient. It reports whether that was done, which says nothing of whether
// there is a recipient.
func (r *Relay) send(l *letter) bool {
	ok := len(l.text) <= r.cfg.TextBytes
	switch {
	case !ok:
	case r.cfg.Publish != nil:
		ctx, cancel := context.WithTimeout(context.Background(), publishTimeout)
		defer cancel()
		ok = r.cfg.Publish(ctx, channel(l.to), l.encode()) == nil
	default:
		ok = r.hand(l)
	}
	if ok {
		r.counts.sent.Add(1)
	} else {
		r.counts.failed.Add(1)
	}
	return ok
}

// Deliver takes what some node has published. It never waits and keeps nothing of
// payload.
func (r *Relay) Deliver(payload []byte) {
	l, err := parseLetter(payload)
	if err != nil {
		r.unreadable(len(payload))
		return
	}
	r.hand(&l)
}

// hand gives a message to its recipient if that is here. It reports false when
// there is no room for it. A recipient that does not read is closed.
func (r *Relay) hand(l *letter) bool {
	r.mu.RLock()
	c := r.sessions[l.to]
	r.mu.RUnlock()
	if c == nil {
		r.counts.astray.Add(1)
		return true
	}
	payload := receiveOf(c.id, newUUID(), l)
	size := int64(len(payload))
	if r.waiting.Add(size) > r.cfg.WaitingBytes {
		r.waiting.Add(-size)
		r.counts.overflowed.Add(1)
		return false
	}
	if !c.offer(payload) {
		r.waiting.Add(-size)
		r.counts.overflowed.Add(1)
		return true
	}
	r.counts.delivered.Add(1)
	return true
}

// logEvery is how often bad payloads are logged at most: who can publish can
// publish many.
const logEvery = time.Minute

func (r *Relay) unreadable(size int) {
	n := r.counts.unreadable.Add(1)
	now, last := r.now(), r.loggedAt.Load()
	if n > 1 && now-last < int64(logEvery) || !r.loggedAt.CompareAndSwap(last, now) {
		return
	}
	r.cfg.Logger.Warn("skipped what another Texto node published, which is no message", "bytes", size, "so far", n)
}
