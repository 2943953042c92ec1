package broker_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/internal/broker"
)

// slow is a log whose appends wait.
type slow struct {
	backend.Log

	begun, release chan struct{}
}

func (h *slow) Append(ctx context.Context, entries []backend.Entry) ([]backend.Result, error) {
	h.begun <- struct{}{}
	<-h.release
	return h.Log.Append(ctx, entries)
}

// TestWhatIsBeingStoredWaits (R21): the queue is not empty before it is counted
// what became of everything, so that the books balance whenever it is.
func TestWhatIsBeingStoredWaits(t *testing.T) {
	t.Parallel()
	db, err := pebble.Open("stats", pebble.Options{Memory: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	h := &slow{Log: db, begun: make(chan struct{}), release: make(chan struct{})}
	b := broker.New(broker.Config{Log: h})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = b.Run(ctx) })
	publish := &broker.Publish{Messages: []broker.Publication{{Message: parley.Message{Topic: "/a", Body: []byte("x")}}}}
	running.Go(func() {
		if err := b.Publish(t.Context(), account.Anyone(parley.Identity{}), publish); err != nil {
			t.Error(err)
		}
	})
	<-h.begun
	if s := b.Stats(); s.QueueBytes == 0 || s.Waiting != 1 || s.Received != 1 || s.Published != 0 {
		t.Errorf("while a message is being stored %d bytes and %d submissions wait, %d are received and %d published", s.QueueBytes, s.Waiting, s.Received, s.Published)
	}
	close(h.release)
	cancel()
	running.Wait()
	if s := b.Stats(); s.QueueBytes != 0 || s.Waiting != 0 || s.Published != 1 {
		t.Errorf("afterwards %d bytes and %d submissions wait, and %d messages are published", s.QueueBytes, s.Waiting, s.Published)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}
