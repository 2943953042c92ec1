package backendtest

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-im/parley/internal/backend"
)

// Bus runs the conformance suite of backend.Bus. open returns a new bus without
// subscribers and closes it when the test ends.
func Bus(t *testing.T, open func(t *testing.T) backend.Bus) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, bus backend.Bus)
	}{
		{"EverySubscriber", busEverySubscriber},
		{"OtherSubject", busOtherSubject},
		{"Order", busOrder},
		{"OneAtATime", busOneAtATime},
		{"Payload", busPayload},
		{"NobodyListens", busNobodyListens},
		{"CancelEnds", busCancelEnds},
		{"CancelledContext", busCancelledContext},
		{"SlowSubscriber", busSlowSubscriber},
		{"NoGoroutineLeft", busNoGoroutineLeft},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// mailbox collects the signals of one subscription.
type mailbox struct {
	mu       sync.Mutex
	payloads []string
}

func (m *mailbox) put(payload []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.payloads = append(m.payloads, string(payload))
}

func (m *mailbox) all() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.payloads)
}

func (m *mailbox) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.payloads)
}

func (m *mailbox) holds(n int) func() bool { return func() bool { return m.count() >= n } }

func subscribe(ctx context.Context, t *testing.T, bus backend.Bus, subject string, fn func([]byte)) {
	t.Helper()
	if err := bus.Subscribe(ctx, subject, fn); err != nil {
		t.Fatalf("Subscribe %q: %v", subject, err)
	}
}

func signal(t *testing.T, bus backend.Bus, subject, payload string) {
	t.Helper()
	if err := bus.Publish(t.Context(), subject, []byte(payload)); err != nil {
		t.Fatalf("Publish %q: %v", subject, err)
	}
}

func busEverySubscriber(t *testing.T, bus backend.Bus) {
	boxes := make([]mailbox, 5)
	for i := range boxes {
		subscribe(t.Context(), t, bus, "bell", boxes[i].put)
	}
	signal(t, bus, "bell", "ding")
	for i := range boxes {
		eventually(t, "every subscriber has the signal", boxes[i].holds(1))
		if got := boxes[i].all(); !slices.Equal(got, []string{"ding"}) {
			t.Errorf("subscriber %d got %q, want one ding", i, got)
		}
	}
}

func busOtherSubject(t *testing.T, bus backend.Bus) {
	var own, other mailbox
	subscribe(t.Context(), t, bus, "bell", own.put)
	subscribe(t.Context(), t, bus, "bell.a", other.put)
	for _, subject := range []string{"be", "bell.", "bell.a.b", "*", ">", ""} {
		// A bus may refuse a subject that it cannot carry, but not deliver it to
		// another one.
		_ = bus.Publish(t.Context(), subject, []byte("astray"))
	}
	signal(t, bus, "bell", "end")
	signal(t, bus, "bell.a", "end")
	eventually(t, "the last signal arrives", func() bool { return own.holds(1)() && other.holds(1)() })
	if got := own.all(); !slices.Equal(got, []string{"end"}) {
		t.Errorf("subject bell got %q, want only end", got)
	}
	if got := other.all(); !slices.Equal(got, []string{"end"}) {
		t.Errorf("subject bell.a got %q, want only end", got)
	}
}

// busOrder publishes in runs that a small buffer takes, because a bus may drop
// what a subscriber has no room for.
func busOrder(t *testing.T, bus backend.Bus) {
	const runs, run = 50, 16
	var box mailbox
	subscribe(t.Context(), t, bus, "bell", box.put)
	var want []string
	for range runs {
		for range run {
			want = append(want, fmt.Sprint(len(want)))
			signal(t, bus, "bell", want[len(want)-1])
		}
		eventually(t, "a run of signals arrives", box.holds(len(want)))
	}
	if got := box.all(); !slices.Equal(got, want) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func busOneAtATime(t *testing.T, bus backend.Bus) {
	var running, most, calls atomic.Int64
	subscribe(t.Context(), t, bus, "bell", func([]byte) {
		most.Store(max(most.Load(), running.Add(1)))
		runtime.Gosched()
		running.Add(-1)
		calls.Add(1)
	})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 25 {
				if err := bus.Publish(t.Context(), "bell", []byte("x")); err != nil {
					t.Errorf("Publish: %v", err)
				}
			}
		})
	}
	wg.Wait()
	eventually(t, "signals arrive", func() bool { return calls.Load() > 0 && running.Load() == 0 })
	if most.Load() != 1 {
		t.Errorf("%d calls of one subscriber at a time, want 1", most.Load())
	}
}

func busPayload(t *testing.T, bus backend.Bus) {
	payloads := []string{"", "x", "\x00\xff\r\n", string(pattern(4096))}
	var box mailbox
	subscribe(t.Context(), t, bus, "bell", box.put)
	for i, p := range payloads {
		buffer := []byte(p)
		if err := bus.Publish(t.Context(), "bell", buffer); err != nil {
			t.Fatal(err)
		}
		clear(buffer) // The publisher's buffer is its own again.
		eventually(t, "the payload arrives", box.holds(i+1))
	}
	if got := box.all(); !slices.Equal(got, payloads) {
		t.Error("payloads were changed on the way")
	}
}

func busNobodyListens(t *testing.T, bus backend.Bus) {
	for range 1000 {
		signal(t, bus, "desert", "x")
	}
}

func busCancelEnds(t *testing.T, bus backend.Bus) {
	var ended, live mailbox
	ctx, cancel := context.WithCancel(t.Context())
	subscribe(ctx, t, bus, "bell", ended.put)
	subscribe(t.Context(), t, bus, "bell", live.put)
	signal(t, bus, "bell", "before")
	eventually(t, "both are subscribed", func() bool { return ended.holds(1)() && live.holds(1)() })
	cancel()
	quiet := 0
	eventually(t, "the cancelled subscription ends", func() bool {
		count := ended.count()
		sent := live.count() + 1
		signal(t, bus, "bell", "after")
		eventually(t, "the other subscription goes on", live.holds(sent))
		quiet++
		if ended.count() != count {
			quiet = 0
		}
		return quiet == 20
	})
}

func busCancelledContext(t *testing.T, bus backend.Bus) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := bus.Publish(ctx, "bell", nil); err == nil {
		t.Error("Publish with a cancelled context: no error")
	}
	if err := bus.Subscribe(ctx, "bell", func([]byte) {}); err == nil {
		t.Error("Subscribe with a cancelled context: no error")
	}
}

func busSlowSubscriber(t *testing.T, bus backend.Bus) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	subscribe(t.Context(), t, bus, "bell", func([]byte) {
		once.Do(func() { close(entered) })
		<-leave
	})
	defer close(leave)
	var fast mailbox
	subscribe(t.Context(), t, bus, "bell", fast.put)
	signal(t, bus, "bell", "first")
	<-entered
	for range 5000 { // Far more than any buffer holds.
		sent := fast.count() + 1
		signal(t, bus, "bell", "more")
		eventually(t, "the fast subscriber has every signal", fast.holds(sent))
	}
}

func busNoGoroutineLeft(t *testing.T, bus backend.Bus) {
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(t.Context())
	for i := range 100 {
		subscribe(ctx, t, bus, fmt.Sprint("bell", i%10), func([]byte) {})
	}
	cancel()
	eventually(t, "the goroutines of ended subscriptions end", func() bool {
		return runtime.NumGoroutine() <= before
	})
}

// eventually polls until the condition holds, at first without a pause. It gives
// up, and fails the test, only after a time that no working backend needs.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for tries := 0; !condition(); tries++ {
		switch {
		case tries < 1000:
			runtime.Gosched()
		case time.Now().After(deadline):
			t.Fatalf("not within 5 s: %s", what)
		default:
			<-time.After(100 * time.Microsecond)
		}
	}
}
