package local_test

import (
	"context"
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/backendtest"
	"github.com/parley-im/parley/internal/backend/local"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T) *local.Bus {
	bus := local.New()
	t.Cleanup(func() {
		if err := bus.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return bus
}

func TestBus(t *testing.T) {
	backendtest.Bus(t, func(t *testing.T) backend.Bus { return open(t) })
}

func TestCloseWaitsForSubscribers(t *testing.T) {
	bus := open(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	returned := false
	err := bus.Subscribe(t.Context(), "s", func([]byte) {
		close(entered)
		<-leave
		returned = true
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.Publish(t.Context(), "s", nil); err != nil {
		t.Fatal(err)
	}
	<-entered
	close(leave)
	if err := bus.Close(); err != nil {
		t.Fatal(err)
	}
	if !returned {
		t.Error("Close returned while a subscriber's function was running")
	}
}

func TestClosedBusRefuses(t *testing.T) {
	bus := open(t)
	for range 2 {
		if err := bus.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := bus.Publish(t.Context(), "s", nil); !errors.Is(err, parley.ErrUnavailable) {
		t.Errorf("Publish after Close: %v, want ErrUnavailable", err)
	}
	if err := bus.Subscribe(t.Context(), "s", func([]byte) {}); !errors.Is(err, parley.ErrUnavailable) {
		t.Errorf("Subscribe after Close: %v, want ErrUnavailable", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := bus.Publish(ctx, "s", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Publish with a cancelled context: %v", err)
	}
}

func BenchmarkPublish(b *testing.B) {
	bus := local.New()
	defer func() { _ = bus.Close() }()
	for range 4 {
		if err := bus.Subscribe(b.Context(), "s", func([]byte) {}); err != nil {
			b.Fatal(err)
		}
	}
	payload := []byte("16 bytes or so..")
	for b.Loop() {
		if err := bus.Publish(b.Context(), "s", payload); err != nil {
			b.Fatal(err)
		}
	}
}
