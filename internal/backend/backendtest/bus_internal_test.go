package backendtest

import (
	"context"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/parley-im/parley/internal/backend"
)

func TestReferenceBus(t *testing.T) {
	fault := os.Getenv(faultVar)
	Bus(t, func(t *testing.T) backend.Bus {
		bus := &referenceBus{fault: fault, closed: make(chan struct{})}
		t.Cleanup(func() {
			close(bus.closed)
			bus.running.Wait()
		})
		return bus
	})
}

// referenceBus is the plainest bus, but for its fault.
type referenceBus struct {
	fault   string
	closed  chan struct{}
	running sync.WaitGroup

	mu          sync.Mutex
	subscribers []*referenceSubscriber
}

type referenceSubscriber struct {
	ctx     context.Context //nolint:containedctx // The plainest way to know whether it has ended.
	subject string
	signals chan []byte
}

func (b *referenceBus) Publish(ctx context.Context, subject string, payload []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fault != "keeps the publisher's buffer" {
		payload = slices.Clone(payload)
	}
	for _, s := range b.subscribers {
		if s.subject != subject && b.fault != "ignores the subject" {
			continue
		}
		if s.ctx.Err() != nil && b.fault != "goes on after the end" {
			continue
		}
		select {
		case s.signals <- payload:
		default:
		}
		if b.fault == "wakes one subscriber" {
			break
		}
	}
	return nil
}

func (b *referenceBus) Subscribe(ctx context.Context, subject string, fn func([]byte)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s := &referenceSubscriber{ctx: ctx, subject: subject, signals: make(chan []byte, 64)}
	b.mu.Lock()
	b.subscribers = append(b.subscribers, s)
	b.mu.Unlock()
	if b.fault == "leaves goroutines behind" {
		b.running.Go(func() { <-b.closed })
	}
	b.running.Go(func() {
		done := ctx.Done()
		if b.fault == "goes on after the end" {
			done = b.closed
		}
		var held []byte
		for {
			select {
			case <-done:
				return
			case p := <-s.signals:
				switch {
				case b.fault == "turns signals round" && held == nil && len(s.signals) > 0:
					held = p
				case held != nil:
					fn(p)
					fn(held)
					held = nil
				default:
					fn(p)
				}
			}
		}
	})
	return nil
}
