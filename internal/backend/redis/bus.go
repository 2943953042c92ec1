package redis

import (
	"context"
	"fmt"
	"slices"
	"sync"

	goredis "github.com/redis/go-redis/v9"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// pending bounds the signals that wait for one slow subscriber. A signal is a few
// bytes and only delays something when it is lost, so the bound is small.
const pending = 256

var _ backend.Bus = (*Bus)(nil)

// Bus carries signals between nodes, all over one connection. All methods may be
// called concurrently.
type Bus struct {
	client *Client
	prefix string
	cancel context.CancelFunc
	done   chan struct{}
	tasks  sync.WaitGroup

	mu       sync.Mutex // guards what follows
	closed   bool
	subjects map[string]*subject
	live     *goredis.PubSub // nil while there is no connection
}

// subject is what somebody of this node listens to.
type subject struct {
	subscribers []*subscriber
	ready       chan struct{} // closed when Redis has confirmed it
}

type subscriber struct {
	signals chan []byte
	fn      func(payload []byte)
}

// Bus makes a bus whose channels begin with prefix. Close ends it.
func (c *Client) Bus(prefix string) *Bus {
	ctx, cancel := context.WithCancel(context.Background())
	b := &Bus{client: c, prefix: prefix, cancel: cancel, done: make(chan struct{}), subjects: make(map[string]*subject)}
	b.tasks.Go(func() { c.again(ctx, func(up func()) error { return b.connect(ctx, up) }) })
	return b
}

// Publish hands payload to every subscriber of subject. The error wraps
// parley.ErrUnavailable when Redis is away or the bus closed.
func (b *Bus) Publish(ctx context.Context, subject string, payload []byte) error {
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	if closed {
		return errClosed()
	}
	return b.client.Publish(ctx, b.prefix+subject, payload)
}

// Subscribe calls fn with every later signal on subject until ctx ends or the bus
// is closed. It returns when Redis has confirmed that, which takes as long as Redis
// is away; the error is ctx's, or wraps parley.ErrUnavailable after Close. Later
// the connection may be lost for some time, and with it signals.
func (b *Bus) Subscribe(ctx context.Context, name string, fn func(payload []byte)) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("redis: subscribe: %w", err)
	}
	s := &subscriber{signals: make(chan []byte, pending), fn: fn}
	ready, err := b.add(ctx, b.prefix+name, s)
	if err != nil {
		return err
	}
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("redis: subscribe: %w", ctx.Err())
	case <-b.done:
		return errClosed()
	}
}

// add makes s a subscriber of a channel and tells when Redis has confirmed it.
func (b *Bus) add(ctx context.Context, channel string, s *subscriber) (ready <-chan struct{}, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errClosed()
	}
	to := b.subjects[channel]
	if to == nil {
		to = &subject{ready: make(chan struct{})}
		b.subjects[channel] = to
		if b.live != nil {
			// When it fails the connection ends, and with the next one all is
			// subscribed again.
			_ = b.live.Subscribe(context.WithoutCancel(ctx), channel)
		}
	}
	to.subscribers = append(to.subscribers, s)
	b.tasks.Go(func() {
		b.run(ctx, s)
		b.remove(ctx, channel, s)
	})
	return to.ready, nil
}

// Close ends all subscriptions and waits until none of their functions runs any
// more; it must not be called from one of them. Further calls do nothing.
func (b *Bus) Close() error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.done)
		b.cancel()
	}
	b.mu.Unlock()
	b.tasks.Wait()
	return nil
}

// connect subscribes to all that there is and hands over what comes, until the
// connection ends.
func (b *Bus) connect(ctx context.Context, up func()) error {
	ps := b.client.redis.Subscribe(ctx)
	defer b.disconnected()
	return listen(ctx, ps, func() error {
		if err := ps.Ping(ctx); err != nil { // connects, also when there is nothing to subscribe to
			return err
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.live = ps
		for channel := range b.subjects {
			if err := ps.Subscribe(ctx, channel); err != nil {
				return err
			}
		}
		return nil
	}, func(event any) {
		switch e := event.(type) {
		case *goredis.Pong:
			if up != nil {
				up()
				up = nil
			}
		case *goredis.Subscription:
			b.confirmed(e)
		case *goredis.Message:
			b.dispatch(e)
		}
	})
}

func (b *Bus) disconnected() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.live = nil
}

func (b *Bus) confirmed(e *goredis.Subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	to := b.subjects[e.Channel]
	if e.Kind != "subscribe" || to == nil {
		return
	}
	select {
	case <-to.ready: // after the connection was lost
	default:
		close(to.ready)
	}
}

func (b *Bus) dispatch(m *goredis.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	to := b.subjects[m.Channel]
	if to == nil {
		return
	}
	b.client.counts.received.Add(1)
	signal := []byte(m.Payload)
	for _, s := range to.subscribers {
		select {
		case s.signals <- signal:
		default: // At most once: the slow lose signals, nobody waits for them.
		}
	}
}

// run passes on signals until the subscription ends. It looks at the end first, so
// that a full buffer does not prolong a subscription.
func (b *Bus) run(ctx context.Context, s *subscriber) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-b.done:
			return
		case signal := <-s.signals:
			s.fn(signal)
		}
	}
}

func (b *Bus) remove(ctx context.Context, channel string, s *subscriber) {
	b.mu.Lock()
	defer b.mu.Unlock()
	to := b.subjects[channel]
	to.subscribers = slices.DeleteFunc(to.subscribers, func(other *subscriber) bool { return other == s })
	if len(to.subscribers) > 0 {
		return
	}
	delete(b.subjects, channel)
	if b.live != nil && !b.closed {
		_ = b.live.Unsubscribe(context.WithoutCancel(ctx), channel) // the connection ends when it fails
	}
}

func errClosed() error { return fmt.Errorf("redis: the bus is closed: %w", parley.ErrUnavailable) }
