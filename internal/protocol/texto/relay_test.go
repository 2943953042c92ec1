package texto_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/texto"
	"github.com/parley-im/parley/internal/wire"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// storm lets many clients send to each other at the same time, and checks that
// each send is acked, in order, and each message arrives once, in its sender's
// order. The original server broke at 30 clients with 20 messages each.
func storm(t *testing.T, clients, messages int, opens ...func(string) (wire.Conn, error)) {
	t.Helper()
	peers := make([]*peer, clients)
	for i := range peers {
		peers[i] = dial(t, opens[i%len(opens)])
	}
	var all sync.WaitGroup
	for i, p := range peers {
		all.Go(func() {
			var batch []byte
			for m := range messages {
				to := peers[(i+m+1)%clients]
				frame := fmt.Sprintf(`{"client_id":"%s","id":"%s","kind":"send","data":{"receiver_id":"%s","text":"%d"}}`, p.id, numbered(m), to.id, m)
				batch = p.conn.AppendFrame(batch, true, []byte(frame))
			}
			if err := p.conn.Write(batch); err != nil {
				t.Errorf("sending: %v", err)
			}
		})
		all.Go(func() {
			acks, received, last := 0, 0, make(map[string]int)
			for acks < messages || received < messages {
				frame, err := p.next()
				if err != nil {
					t.Errorf("after %d acks and %d messages: %v", acks, received, err)
					return
				}
				if frame == ack(p.id, numbered(acks)) {
					acks++
					continue
				}
				sender, text := receipt(frame)
				n := -1
				if _, err := fmt.Sscan(text, &n); err != nil || n < last[sender] || sender == "" {
					t.Errorf("got %s after %d of that sender", frame, last[sender])
					return
				}
				last[sender] = n + 1
				received++
			}
		})
	}
	all.Wait()
}

// numbered is a UUID with a number.
func numbered(n int) string { return fmt.Sprintf("8a15b000-02d7-4823-8336-%012d", n) }

func TestManySendersAtOnce(t *testing.T) {
	n := newNode(t, texto.Config{})
	storm(t, 30, 20, n.open)
	storm(t, 100, 50, n.open)
	s := n.relay.Stats()
	if want := int64(30*20 + 100*50); s.Sent != want || s.Delivered != want || s.Failed != 0 || s.Overflowed != 0 || s.Astray != 0 {
		t.Errorf("the relay counts %+v, want %d", s, want)
	}
}

// Who is idle for five minutes is told goodbye; what is said or told to them
// counts, each by itself.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, texto.Config{})
		quiet, talker, hearer := dial(t, n.open), dial(t, n.open), dial(t, n.open)
		began := time.Now()
		for range 3 {
			time.Sleep(4 * time.Minute)
			talker.send(hearer.id, "still there?")
			if got := talker.want(); got != ack(talker.id, someID) {
				t.Fatalf("got %s", got)
			}
			hearer.want()
		}
		_, err := quiet.next()
		var closed *wire.CloseError
		if !errors.As(err, &closed) || closed.Code != wire.CloseGoingAway || closed.Reason != "idle" {
			t.Errorf("the end is %v", err)
		}
		if _, err := hearer.next(); !errors.As(err, &closed) {
			t.Errorf("the end is %v", err)
		}
		if took := time.Since(began); took < 17*time.Minute || took > 17*time.Minute+6*time.Second {
			t.Errorf("it ended after %v", took)
		}
		synctest.Wait()
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, err := range n.ends {
			var bye *protocol.ByeError
			if !errors.As(err, &bye) || bye.Bye.Code != broker.ByeIdle {
				t.Errorf("a conversation ended with %v", err)
			}
		}
	})
}

// Who does not read is closed, holds a bounded amount of memory until then, and
// neither delays nor costs anybody else anything.
func TestSlowReader(t *testing.T) {
	n := newNode(t, texto.Config{})
	slow, sender, friend := dial(t, n.open), dial(t, n.open), dial(t, n.open)
	text := strings.Repeat("x", 64<<10)
	most := int64(0)
	for range 200 { // three times of what may wait
		sender.send(slow.id, text)
		if got := sender.want(); got != ack(sender.id, someID) {
			t.Fatalf("got %s", got)
		}
		most = max(most, n.relay.Stats().Waiting)
		sender.send(friend.id, "hi")
		if got := sender.want(); got != ack(sender.id, someID) {
			t.Fatalf("got %s", got)
		}
		if from, text := receipt(friend.want()); from != sender.id || text != "hi" {
			t.Fatalf("got %q from %s", text, from)
		}
	}
	if most < 3<<20 || most > 5<<20 {
		t.Errorf("up to %d bytes waited", most)
	}
	if s := n.relay.Stats(); s.Overflowed == 0 {
		t.Errorf("nothing has overflowed: %+v", s)
	}
	// It is told what waited, and then why it must go.
	got := 0
	var err error
	for err == nil {
		if _, err = slow.next(); err == nil {
			got++
		}
	}
	var closed *wire.CloseError
	if !errors.As(err, &closed) || closed.Code != wire.ClosePolicy || closed.Reason != "slow reader" || got < 60 || got > 80 {
		t.Errorf("after %d messages the end is %v", got, err)
	}
}

// All that waits has one bound as well. Beyond it a send is refused, and succeeds
// again when somebody has read.
func TestAllWaiting(t *testing.T) {
	n := newNode(t, texto.Config{WaitingBytes: 1 << 20})
	sender, idle := dial(t, n.open), make([]*peer, 10)
	text := strings.Repeat("x", 64<<10)
	refused := false
	for i := range idle {
		idle[i] = dial(t, n.open)
		for range 4 { // three of which are more than the socket takes
			sender.send(idle[i].id, text)
			if got := sender.want(); got == broken(sender.id) {
				refused = true
			} else if got != ack(sender.id, someID) {
				t.Fatalf("got %s", got)
			}
		}
	}
	if s := n.relay.Stats(); !refused || s.Waiting > 1<<20 || s.Failed == 0 {
		t.Errorf("refused: %v, %+v", refused, s)
	}
	for _, p := range idle {
		_ = p.conn.Close(1000, "")
	}
	for {
		sender.send(sender.id, text)
		first, second := "", sender.want()
		if strings.Contains(second, `"kind":"receive"`) {
			first, second = second, sender.want()
		}
		if second == ack(sender.id, someID) && first != "" {
			break
		}
	}
}

// A client that sends and never reads is stopped, not served from memory, and in
// the end closed.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, texto.Config{})
		flood, other := dial(t, n.open), dial(t, n.open)
		frame := flood.conn.AppendFrame(nil, true, []byte(`{"kind":"registration"}`))
		sent := 0
		for flood.conn.Write(frame) == nil {
			sent += len(frame)
		}
		if sent > 4<<20 {
			t.Errorf("%d bytes of requests were taken from a client that reads no answer", sent)
		}
		other.send(flood.id, "hi")
		if got := other.want(); got != ack(other.id, someID) {
			t.Errorf("got %s", got)
		}
		synctest.Wait()
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.ends) != 1 || !errors.Is(n.ends[0], wire.ErrSlow) {
			t.Errorf("it ended with %v", n.ends)
		}
	})
}

// A session that goes while it is sent to leaves nothing behind.
func TestComingAndGoing(t *testing.T) {
	n := newNode(t, texto.Config{})
	sender := dial(t, n.open)
	for range 50 {
		guest := dial(t, n.open)
		var leaving sync.WaitGroup
		leaving.Go(func() { _ = guest.conn.Close(1000, "") })
		for range 20 {
			sender.send(guest.id, "hi")
			if got := sender.want(); got != ack(sender.id, someID) {
				t.Fatalf("got %s", got)
			}
		}
		leaving.Wait()
	}
}
