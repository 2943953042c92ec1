// Package local is the backend of a server that runs alone: a [Bus] whose
// signals stay within the process.
package local

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// pending bounds the signals that wait for one slow subscriber. A signal is a
// few bytes and only delays something when it is lost, so the bound is small.
const pending = 256

var _ backend.Bus = (*Bus)(nil)

// Bus carries signals between the goroutines of one process. Each subscription
// has a goroutine of its own, which ends with the subscription's context or
// with Close. All methods may be called concurrently.
type Bus struct {
	done        chan struct{}
	subscribers sync.WaitGroup

	mu       sync.RWMutex // guards what follows
	closed   bool
	subjects map[string][]*subscriber
}

type subscriber struct {
	signals chan []byte
	fn      func(payload []byte)
}

// New returns a bus without subscribers.
func New() *Bus {
	return &Bus{done: make(chan struct{}), subjects: make(map[string][]*subscriber)}
}

// Publish hands a copy of payload to every subscriber of subject that has room
// for it. It never blocks for long. After Close the error wraps
// parley.ErrUnavailable.
func (b *Bus) Publish(ctx context.Context, subject string, payload []byte) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("publish a signal: %w", err)
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closed {
		return errClosed()
	}
	if len(b.subjects[subject]) == 0 {
		return nil
	}
	signal := slices.Clone(payload)
	for _, s := range b.subjects[subject] {
		select {
		case s.signals <- signal:
		default: // At most once: the slow lose signals, nobody waits for them.
		}
	}
	return nil
}

// Subscribe calls fn with every later signal on subject, in the order in which
// they were published, until ctx ends or the bus is closed. After Close the
// error wraps parley.ErrUnavailable.
func (b *Bus) Subscribe(ctx context.Context, subject string, fn func(payload []byte)) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("subscribe to signals: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return errClosed()
	}
	s := &subscriber{signals: make(chan []byte, pending), fn: fn}
	b.subjects[subject] = append(b.subjects[subject], s)
	b.subscribers.Go(func() {
		b.run(ctx, s)
		b.remove(subject, s)
	})
	return nil
}

// Close ends all subscriptions and waits until none of their functions runs
// any more; it must not be called from one of them. Further calls do nothing.
func (b *Bus) Close() error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.done)
	}
	b.mu.Unlock()
	b.subscribers.Wait()
	return nil
}

// run passes on signals until the subscription ends. It looks at the end first,
// so that a full buffer does not prolong a subscription.
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

func (b *Bus) remove(subject string, s *subscriber) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rest := slices.DeleteFunc(b.subjects[subject], func(other *subscriber) bool { return other == s })
	if len(rest) == 0 {
		delete(b.subjects, subject)
		return
	}
	b.subjects[subject] = rest
}

func errClosed() error { return fmt.Errorf("the bus is closed: %w", parley.ErrUnavailable) }
