package client_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
)

// texts reads bodies until n have come or the loop ends.
func texts(t *testing.T, loop iter.Seq2[*parley.Message, error], n int) []string {
	t.Helper()
	var got []string
	for m, err := range loop {
		if err != nil {
			t.Errorf("after %q: %v", got, err)
			continue
		}
		if got = append(got, string(m.Body)); len(got) == n {
			break
		}
	}
	return got
}

func numbers(from, to int) []string {
	var s []string
	for i := from; i <= to; i++ {
		s = append(s, fmt.Sprint(i))
	}
	return s
}

func TestSubscribeBeginsAndEndsWhereItIsTold(t *testing.T) {
	p := newPeer(t)
	c := p.connect(t)
	p.store("/a", numbers(1, 9)...)
	p.store("/b", "other")
	type options = []client.SubscribeOption
	for name, test := range map[string]struct {
		options options
		want    []string
	}{
		"after":            {options{client.After(4), client.ReplayOnly()}, numbers(5, 9)},
		"all":              {options{client.After(0), client.ReplayOnly()}, numbers(1, 9)},
		"since the start":  {options{client.Since(time.Time{}), client.ReplayOnly()}, numbers(1, 9)},
		"last":             {options{client.Last(2), client.ReplayOnly()}, numbers(8, 9)},
		"last start wins":  {options{client.FromNow(), client.ReplayOnly(), client.Last(2), client.After(7)}, numbers(8, 9)},
		"max of a replay":  {options{client.After(2), client.ReplayOnly(), client.Max(3)}, numbers(3, 5)},
		"max of a live":    {options{client.After(2), client.Max(4)}, numbers(3, 6)},
		"nothing to reply": {options{client.After(10), client.ReplayOnly()}, nil},
	} {
		if got := texts(t, c.Subscribe(t.Context(), "/a", test.options...), 0); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestSubscribeRefusesNonsense(t *testing.T) {
	p := newPeer(t)
	c := p.connect(t)
	for name, loop := range map[string]iter.Seq2[*parley.Message, error]{
		"topic":       c.Subscribe(t.Context(), "a"),
		"replay":      c.Subscribe(t.Context(), "/a", client.ReplayOnly()),
		"replay now":  c.Subscribe(t.Context(), "/a", client.ReplayOnly(), client.Last(1), client.FromNow()),
		"minus last":  c.Subscribe(t.Context(), "/a", client.Last(-1)),
		"minus count": c.Subscribe(t.Context(), "/a", client.Max(-1)),
	} {
		rounds := 0
		for m, err := range loop {
			if rounds++; m != nil || !errors.Is(err, parley.ErrInvalid) {
				t.Errorf("%s: got %v, %v", name, m, err)
			}
		}
		if rounds != 1 {
			t.Errorf("%s: %d rounds, want 1", name, rounds)
		}
	}
}

// The beginning is settled once the server has said where it is: what is
// published after that comes, even if the connection breaks before the first
// message.
func TestNothingIsLostBeforeTheFirstMessage(t *testing.T) {
	for name, test := range map[string]struct {
		start  client.SubscribeOption
		unsaid string
	}{
		"from now, as answered":      {client.FromNow(), "live"},
		"last, as it was replayed":   {client.Last(1), "live"},
		"last, as it was going live": {client.Last(1), "replayed"},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newPeer(t)
			p.unsaid = test.unsaid
			c := p.connect(t)
			p.store("/other", "old")
			go func() {
				synctest.Wait()
				p.cut()
				p.store("/a", numbers(1, 3)...)
			}()
			if got := texts(t, c.Subscribe(t.Context(), "/a", test.start), 3); !slices.Equal(got, numbers(1, 3)) {
				t.Errorf("%s: got %q, want 1 to 3", name, got)
			}
		})
	}
}

// Whatever a server repeats, the loop does not.
func TestRepetitionsAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		c := p.connect(t)
		var got []string
		go func() {
			synctest.Wait()
			gap := map[string]any{"sub": 1, "from": 0, "to": 5}
			p.set(func() { p.clock = 5 })
			p.say("gap", gap)
			p.say("gap", gap)
			p.store("/a", "6", "7")
			p.set(func() {
				for c := range p.conns {
					c.say("messages", map[string]any{"sub": 1, "messages": p.log})
				}
			})
			p.say("gap", gap)
			p.store("/a", "8")
		}()
		for m, err := range c.Subscribe(t.Context(), "/a", client.Max(3)) {
			if err != nil {
				got = append(got, err.Error())
				continue
			}
			got = append(got, string(m.Body))
		}
		if want := []string{"/a: the messages after 0 up to 5 are gone", "6", "7", "8"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestSubscriptionsShareAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		c := p.connect(t)
		got := make(chan []string)
		for _, topic := range []parley.Topic{"/a", "/a/b", "/a/b/c", "/x"} {
			go func() { got <- texts(t, c.Subscribe(t.Context(), topic, client.Max(3)), 0) }()
		}
		synctest.Wait()
		p.store("/a/b/c", "1", "2")
		p.store("/x", "1", "2", "3")
		p.cut() // what the connection had not delivered comes on the next one
		p.store("/a/b/c", "3")
		for range 4 {
			if g := <-got; !slices.Equal(g, numbers(1, 3)) {
				t.Errorf("got %q, want 1 to 3", g)
			}
		}
		if len(p.dials) != 2 {
			t.Errorf("%d connections, want 2", len(p.dials))
		}
	})
}

func TestLeavingTheLoopUnsubscribes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		c := p.connect(t)
		p.store("/a", "1", "2")
		texts(t, c.Subscribe(t.Context(), "/a", client.After(0)), 1)

		p.set(func() { p.mute = true }) // the loop is left before the answer
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		texts(t, c.Subscribe(ctx, "/a"), 0)
		p.set(func() { p.mute = false })

		synctest.Wait()
		for conn := range p.conns {
			// The unanswered one stays until its answer comes, which here it does not.
			if len(conn.subs) > 1 {
				t.Errorf("%d subscriptions left", len(conn.subs))
			}
		}
	})
}

func TestLoopEndsWithItsContextWithoutAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		c := p.connect(t)
		p.store("/a", numbers(1, 9)...)
		ctx, cancel := context.WithCancel(t.Context())
		rounds := 0
		for _, err := range c.Subscribe(ctx, "/a", client.After(0)) {
			if err != nil {
				t.Errorf("got %v", err)
			}
			if rounds++; rounds == 2 {
				cancel()
			}
		}
		for range c.Subscribe(ctx, "/a", client.After(0)) {
			rounds++
		}
		if rounds != 2 {
			t.Errorf("%d rounds, want 2: none after the context has ended", rounds)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for m, err := range c.Subscribe(ctx, "/quiet") {
			t.Errorf("got %v, %v", m, err)
		}
	})
}

func TestGapAndResetDoNotEndTheLoop(t *testing.T) {
	p := newPeer(t)
	c := p.connect(t)
	p.store("/a", numbers(1, 9)...)
	p.floor = 6
	var got []string
	for m, err := range c.Subscribe(t.Context(), "/a", client.After(2), client.ReplayOnly()) {
		var gap *client.GapError
		switch {
		case errors.As(err, &gap):
			got = append(got, fmt.Sprintf("gap %s %d-%d", gap.Topic, gap.From, gap.To))
		case err != nil:
			t.Fatal(err)
		default:
			got = append(got, string(m.Body))
		}
	}
	if want := []string{"gap /a 2-6", "7", "8", "9"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}

	got = nil
	for m, err := range c.Subscribe(t.Context(), "/a", client.After(100)) {
		var reset *client.ResetError
		switch {
		case errors.As(err, &reset):
			got = append(got, fmt.Sprintf("reset %s %d-%d", reset.Topic, reset.From, reset.To))
			p.store("/a", "10")
		case err != nil:
			t.Fatal(err)
		default:
			got = append(got, string(m.Body))
		}
		if len(got) == 2 {
			break
		}
	}
	if want := []string{"reset /a 100-9", "10"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRefusedSubscriptionEndsTheLoop(t *testing.T) {
	p := newPeer(t)
	p.refuse = func(method string) map[string]any {
		if method == "subscribe" {
			return wireError(-32002, "forbidden", "not yours")
		}
		return nil
	}
	c := p.connect(t)
	rounds := 0
	for _, err := range c.Subscribe(t.Context(), "/a") {
		if rounds++; !errors.Is(err, parley.ErrForbidden) || !strings.Contains(err.Error(), "/a") {
			t.Errorf("got %v, want a refusal that names the topic", err)
		}
	}
	if rounds != 1 {
		t.Errorf("%d rounds, want 1", rounds)
	}
}

// A server that is too busy to take a subscription again is asked again: the
// application sees a pause.
func TestBusyServerIsAskedAgainForASubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		c := p.connect(t)
		refusals := 0
		go func() {
			synctest.Wait()
			p.set(func() {
				p.refuse = func(method string) map[string]any {
					if refusals++; method == "subscribe" && refusals < 10 {
						return wireError(-32005, "unavailable", "busy")
					}
					return nil
				}
			})
			p.cut()
			p.store("/a", "1")
		}()
		got := texts(t, c.Subscribe(t.Context(), "/a"), 1)
		p.set(func() {
			if !slices.Equal(got, numbers(1, 1)) || refusals < 10 {
				t.Errorf("got %q after %d requests", got, refusals)
			}
		})
	})
}

// A subscription that the server has to give up is taken up again after its
// last message.
func TestInterruptedSubscriptionIsTakenUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		c := p.connect(t)
		p.store("/a", "1")
		next := 1
		for m, err := range c.Subscribe(t.Context(), "/a", client.After(0), client.Max(5)) {
			if err != nil || string(m.Body) != fmt.Sprint(next) {
				t.Fatalf("got %v, %v; want %d", m, err, next)
			}
			next++
			p.set(func() {
				for c := range p.conns {
					c.say("ended", map[string]any{"sub": c.lastSub, "error": wireError(-32603, "internal", "disk")})
					c.subs = nil
				}
			})
			p.store("/a", fmt.Sprint(next))
		}
		if next != 6 || len(p.dials) != 1 {
			t.Errorf("the loop ended before %d with %d connections", next, len(p.dials))
		}
	})
}

// Publishing on the same client in the loop works although the server sends
// far more than the loop's buffer holds, and everything arrives once.
func TestPublishInsideTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		c := p.connect(t)
		body := strings.Repeat("x", 8<<10)
		const n = 5 * client.BufferBytes / (8 << 10)
		for range n {
			p.store("/a", body)
		}
		next := parley.Seq(1)
		for m, err := range c.Subscribe(t.Context(), "/a", client.After(0), client.Max(n)) {
			if err != nil {
				t.Fatal(err)
			}
			if m.Seq != next {
				t.Fatalf("got seq %d, want %d", m.Seq, next)
			}
			next++
			if _, err := c.Publish(t.Context(), parley.Message{Topic: "/done", Body: []byte(m.Seq.String())}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond) // in virtual time: the loop is slower than the server
		}
		if next != n+1 {
			t.Errorf("the loop ended before %d, want %d", next, n+1)
		}
	})
}

// A loop that does not come back neither holds up others nor makes the client
// hold more than its buffer.
func TestSlowLoopIsPaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		c := p.connect(t)
		const n = 1000
		body := strings.Repeat("x", 8<<10)
		resume := make(chan struct{})
		slow := make(chan int)
		go func() {
			count := 0
			for m, err := range c.Subscribe(t.Context(), "/a", client.Max(n)) {
				if count++; err != nil || int(m.Seq) != count {
					t.Errorf("got %v, %v as number %d", m, err, count)
				}
				if count == 1 {
					<-resume
				}
			}
			slow <- count
		}()
		fast := make(chan int)
		go func() {
			count := 0
			for _, err := range c.Subscribe(t.Context(), "/a", client.Max(n)) {
				if count++; err != nil {
					t.Error(err)
				}
			}
			fast <- count
		}()
		synctest.Wait()
		for range n {
			p.store("/a", body)
			synctest.Wait()
		}
		if count := <-fast; count != n {
			t.Errorf("the fast loop got %d, want %d", count, n)
		}
		if held := c.Buffered(); held == 0 || held > client.BufferBytes+16<<10 {
			t.Errorf("%d bytes are held for the slow loop, want at most about %d", held, client.BufferBytes)
		}
		close(resume)
		if count := <-slow; count != n {
			t.Errorf("the slow loop got %d, want %d", count, n)
		}
	})
}
