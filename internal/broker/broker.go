package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/clock"
)

// Config says what a broker stands on and what bounds it. Zero fields take the
// defaults of the comments.
type Config struct {
	// Log keeps the messages.
	Log backend.Log
	// Logger receives what goes wrong; slog.Default().
	Logger *slog.Logger
	// Limits bound each session: 1 MiB a message, 1,000 messages a batch, 1,000
	// subscriptions, 1,000 messages a page of history.
	Limits Limits
	// QueueBytes bounds what is not durable yet; 64 MiB. Beyond it, publishing
	// fails with ErrOverloaded.
	QueueBytes int
	// SessionBytes bounds what one session has published and not been answered,
	// and separately the answers that it has not taken; 1 MiB. Beyond it, its
	// requests wait, and so does its client.
	SessionBytes int
	// TailBytes bounds the newest messages kept in memory for live readers;
	// 16 MiB.
	TailBytes int
	// Retention rules; the first that matches a stream counts. Without a rule a
	// stream is kept for ever. SetRetention replaces them.
	Retention []Rule
	// KV keeps the rules that operators set while the broker runs, and what the
	// users have read; nil keeps the rules in memory only, and no read markers.
	KV backend.KV
	// Clock judges what has expired and what is too old to keep; a new one.
	Clock *clock.Clock
	// RetentionInterval is how often they are applied; a minute.
	RetentionInterval time.Duration
	// Inbox is what each inbox keeps: 30 days, the newest 100,000 messages, and of
	// them 256 MiB. Negative is without bound. Dead is the same for the dead
	// letters of each user: 30 days, 10,000 messages and 64 MiB. SetBounds
	// replaces them.
	Inbox, Dead Bounds
	// Quota is how many bytes a user may have stored, by Payer and
	// backend.Meter; 0 is without bound. It is asked with each request that
	// stores, once StartMetering was called, and must not block for long. Nil is
	// without bound for all.
	Quota func(user string) int64
}

// ErrOverloaded is a publish refused because too much waits to be stored.
var ErrOverloaded = fmt.Errorf("the publish queue is full, try again: %w", parley.ErrUnavailable)

// Broker connects sessions to a log. Its methods may be called concurrently.
type Broker struct {
	cfg   Config
	log   backend.Log
	queue *queue
	feeds *feeds
	rules *rules
	stats counters
	began time.Time

	consumers consumers
	tender    tender
	personal  personal
	counts    counts
	lags      lags

	mu       sync.Mutex
	sessions map[*Session]struct{}
	users    map[string][]*Session // those who have a user
	sessionN uint64                // how many sessions there have been
	anyone   *account.Principal    // without a name: most sessions of an open server

	ending sync.Mutex
	ended  atomic.Bool // the feeds know where the log ended at the start

	storing  sync.Mutex   // held from before a commit is stored until it is answered
	answered atomic.Int64 // the last seq of the commits that were
}

// New makes a broker; nothing is stored before Run.
func New(cfg Config) *Broker {
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	cfg.QueueBytes = cmp.Or(cfg.QueueBytes, 64<<20)
	cfg.SessionBytes = cmp.Or(cfg.SessionBytes, 1<<20)
	cfg.TailBytes = cmp.Or(cfg.TailBytes, 16<<20)
	cfg.RetentionInterval = cmp.Or(cfg.RetentionInterval, time.Minute)
	cfg.Inbox, cfg.Dead = cfg.Inbox.or(defaultInbox()), cfg.Dead.or(defaultDead())
	if cfg.Clock == nil {
		cfg.Clock = clock.New(clock.Options{Logger: cfg.Logger})
	}
	l := &cfg.Limits
	l.MessageBytes = cmp.Or(l.MessageBytes, 1<<20)
	l.BatchMessages = cmp.Or(l.BatchMessages, 1000)
	l.Subscriptions = cmp.Or(l.Subscriptions, 1000)
	l.HistoryMessages = cmp.Or(l.HistoryMessages, 1000)
	l.DedupWindow = cmp.Or(l.DedupWindow, 24*time.Hour)
	l.Recipients = cmp.Or(l.Recipients, 100)
	l.InFlight = cmp.Or(l.InFlight, 10_000)
	l.Unread = cmp.Or(l.Unread, 1000)
	return &Broker{
		cfg:      cfg,
		log:      cfg.Log,
		queue:    newQueue(cfg.QueueBytes),
		feeds:    newFeeds(cfg.TailBytes),
		rules:    newRules(cfg.Retention),
		sessions: map[*Session]struct{}{},
		users:    map[string][]*Session{},
		began:    time.Now(),

		consumers: consumers{byID: map[ConsumerID]*consumer{}},
		tender:    tender{wake: make(chan struct{}, 1)},
		anyone:    account.Anyone(parley.Identity{}),
		personal:  newPersonal(cfg.Inbox, cfg.Dead),
		lags:      lags{known: map[ConsumerID]knownLag{}},
	}
}

// Limits returns the limits in force.
func (b *Broker) Limits() Limits { return b.cfg.Limits }

// Run stores what is published, delivers it, and applies retention, until ctx
// ends and what waits then is stored. Later publishes are refused as
// unavailable. Nothing is answered before Run.
func (b *Broker) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { b.retain(ctx) })
	tasks.Go(func() { b.tend(ctx) })
	stop := context.AfterFunc(ctx, b.queue.close)
	defer stop()
	for {
		c := b.queue.take()
		if c == nil {
			return nil
		}
		b.feeds.add(b.settleCommit(context.WithoutCancel(ctx), c))
	}
}

// settleCommit stores a commit and answers its publishers. It returns what the
// feeds are to be given.
func (b *Broker) settleCommit(ctx context.Context, c *commit) []*parley.Message {
	b.storing.Lock()
	defer b.storing.Unlock()
	b.store(ctx, c)
	b.queue.stored()
	return b.answer(c)
}

// store appends a commit's messages to the log and sets their results.
func (b *Broker) store(ctx context.Context, c *commit) {
	began := time.Now()
	b.stats.refused.Add(int64(c.refused))
	c.delay(b.cfg.Clock.Behind())
	results, err := b.log.Append(ctx, c.entries)
	switch {
	case err == nil:
	case errors.Is(err, backend.ErrStorageFull):
		// The store says so once, however many publishes it refuses.
	default:
		b.cfg.Logger.ErrorContext(ctx, "cannot store messages", "messages", len(c.entries), "error", err)
		if !errors.Is(err, parley.ErrUnavailable) {
			err = fmt.Errorf("storing failed: %w", parley.ErrUnavailable)
		}
	}
	for i, p := range c.publications {
		if err != nil {
			p.Result.Err = err
		} else {
			p.Result = results[i]
		}
	}
	if b.stats.committed(c, time.Since(began), err) > 0 {
		for _, s := range c.submissions {
			s.tellOver()
		}
	}
}

// answer answers a stored commit's publishers, before anybody is delivered what
// they have published: some clients that publish to themselves rely on it.
func (b *Broker) answer(c *commit) []*parley.Message {
	messages := make([]*parley.Message, 0, len(c.publications))
	last := parley.Seq(0)
	for _, p := range c.publications {
		if p.Result.Err == nil && !p.Result.Duplicate {
			messages = append(messages, &p.Message)
			last = max(last, p.Result.Seq)
		}
	}
	b.feeds.reach(messages)
	b.personal.grew(messages)
	for _, s := range c.submissions {
		s.answer()
	}
	if last > 0 {
		b.answered.Store(int64(last))
	}
	return messages
}

// readAnswered reads the log for a subscription. What it finds may have been stored
// just now, so that its publisher has yet to be answered: it waits for that.
func (b *Broker) readAnswered(ctx context.Context, q backend.Query) (backend.Page, error) {
	page, err := b.log.Read(ctx, q)
	if n := len(page.Messages); n > 0 && page.Messages[n-1].Seq > parley.Seq(b.answered.Load()) {
		b.storing.Lock()
		defer b.storing.Unlock()
	}
	return page, err
}

// Publish stores messages of who without a session, and returns when all have
// their results, each of them in its Publication: the same rules apply as in a
// session. An error means that none is stored, or when it is ctx's that nobody
// knows: p then still belongs to the broker.
func (b *Broker) Publish(ctx context.Context, who *account.Principal, p *Publish) error {
	for i := range p.Messages {
		m := &p.Messages[i]
		if _, err := parley.ParseTopic(string(m.Message.Topic)); err != nil {
			b.Refused(err)
			return err
		}
		m.Message.Sender = who.Identity
		if m.Result.Err == nil {
			m.Result.Err = b.permit(who, account.Publish, m.Message.Topic)
		}
		if m.Result.Err == nil {
			m.Result.Err = b.cfg.Limits.check(&m.Message)
		}
	}
	sub := &submission{publishes: []*Publish{p}}
	sub.bounded(b, who, p.Watch)
	return b.await(ctx, sub)
}

// await hands s over to be stored, and waits until it has its results.
func (b *Broker) await(ctx context.Context, s *submission) error {
	done := make(chan struct{})
	s.answer = func() { close(done) }
	s.measure()
	if err := b.submit(s); err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// submit hands s over to be stored, and counts it.
func (b *Broker) submit(s *submission) error {
	b.stats.received.Add(int64(s.messages))
	b.stats.invalid.Add(int64(s.invalid - s.limited))
	b.stats.refused.Add(int64(s.limited))
	err := b.queue.push(s)
	if err != nil {
		b.stats.refused.Add(int64(s.messages - s.invalid))
	}
	return err
}

// Refused counts a publish that was refused with err before its messages could
// be handed over: as one message, however many it may have been about.
func (b *Broker) Refused(err error) {
	b.stats.received.Add(1)
	if errors.Is(err, parley.ErrUnavailable) {
		b.stats.refused.Add(1)
		return
	}
	b.stats.invalid.Add(1)
}

// Goodbye tells every session the event that bye makes for it; each ends once
// it has been told all that came before.
func (b *Broker) Goodbye(bye func() *Bye) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.sessions {
		s.Bye(bye())
	}
}

// findEnd lets the feeds begin at the end of the log, once: until something is
// published they would not know what was there before.
func (b *Broker) findEnd(ctx context.Context) error {
	if b.ended.Load() {
		return nil
	}
	b.ending.Lock()
	defer b.ending.Unlock()
	if b.ended.Load() {
		return nil
	}
	end, err := b.end(ctx, "$", 0) // a stream that does not exist
	if err == nil {
		b.feeds.begin(end)
		b.ended.Store(true)
	}
	return err
}

// end is the log's durable end, from which cursors of s are handed out: at least
// the stream's last seq.
func (b *Broker) end(ctx context.Context, s parley.Stream, last parley.Seq) (parley.Seq, error) {
	page, err := b.log.Read(ctx, backend.Query{Stream: s, After: last, Limit: 1})
	return max(page.Next, last), err
}
