package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/internal/wire"
)

// scissors cut the n-th step of a conversation, a step being a frame that
// arrives or a write. They count across connections.
type scissors struct {
	mu   sync.Mutex
	next func() int // how many steps until the next cut; 0 is never
	left int
}

func cutAfter(next func() int) *scissors { return &scissors{next: next, left: next()} }

// step reports whether this is where to cut.
func (s *scissors) step() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == 0 {
		return false
	}
	if s.left--; s.left > 0 {
		return false
	}
	s.left = s.next()
	return true
}

// cutConn is a connection under scissors.
type cutConn struct {
	wire.Conn
	scissors *scissors
	lose     bool // a write that is cut does not arrive
	late     []wire.Frame
}

var errCut = errors.New("cut")

func (c *cutConn) Read() ([]wire.Frame, error) {
	frames := c.late
	if c.late = nil; len(frames) == 0 {
		var err error
		if frames, err = c.Conn.Read(); err != nil {
			return nil, err
		}
	}
	if c.scissors.step() {
		_ = c.Close(0, "")
		return nil, errCut
	}
	c.late = frames[1:]
	return frames[:1], nil
}

func (c *cutConn) Write(p []byte) error {
	cut := c.scissors.step()
	if cut && c.lose {
		_ = c.Close(0, "")
		return errCut
	}
	err := c.Conn.Write(p)
	if cut {
		_ = c.Close(0, "")
		return errCut
	}
	return err
}

// opener is a way to connect.
type opener = func(ctx context.Context, url string, header http.Header) (wire.Conn, error)

// under makes a way to connect whose connections are under scissors.
func (s *scissors) under(open opener, lose bool) opener {
	return func(ctx context.Context, url string, header http.Header) (wire.Conn, error) {
		conn, err := open(ctx, url, header)
		if err != nil {
			return nil, err
		}
		return &cutConn{Conn: conn, scissors: s, lose: lose}, nil
	}
}

// converse publishes in three ways while three loops read, and checks that
// each message is stored once and received once by each loop, in order.
func converse(t *testing.T, c *client.Client, prefix string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	topic := parley.Topic("/" + prefix + "/x")
	var tasks sync.WaitGroup
	for name, loop := range map[string]struct {
		topic parley.Topic
		first int
		start client.SubscribeOption
	}{
		"all":   {topic, 1, client.After(0)},
		"above": {parley.Topic("/" + prefix), 1, client.After(0)},
		"last":  {topic, 1, client.Last(1000)},
	} {
		tasks.Go(func() {
			got := texts(t, c.Subscribe(ctx, loop.topic, loop.start, client.Max(20)), 0)
			if want := numbers(loop.first, 20); !slices.Equal(got, want) {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		})
	}
	for i := 1; i <= 20; {
		var err error
		if i%5 == 0 {
			var batch []parley.Message
			for _, n := range numbers(i, i+3) {
				batch = append(batch, parley.Message{Topic: topic, Body: []byte(n)})
			}
			_, err = c.PublishAll(ctx, batch[:min(4, 21-i)])
			i += 4
		} else {
			_, err = c.Publish(ctx, parley.Message{Topic: topic, Body: []byte(fmt.Sprint(i))})
			i++
		}
		if err != nil {
			t.Error(err)
		}
	}
	tasks.Wait()
	if got := texts(t, c.Subscribe(t.Context(), topic, client.After(0), client.ReplayOnly()), 0); !slices.Equal(got, numbers(1, 20)) {
		t.Errorf("stored %q, want 1 to 20, each once", got)
	}
}

// cutEverywhere runs the conversation once for each step, cut there.
func cutEverywhere(t *testing.T, open opener, url string) {
	t.Helper()
	for _, lose := range []bool{false, true} {
		for n := 3; ; n++ { // 1 and 2 are the first hello, which Dial does not repeat
			once := []int{n, 0}
			s := cutAfter(func() int {
				defer func() { once = once[1:] }()
				return once[0]
			})
			c, err := client.DialWith(t.Context(), url, client.Options{Backoff: quick()}, s.under(open, lose))
			if err != nil {
				t.Fatal(err)
			}
			converse(t, c, fmt.Sprintf("cut-%d-%t", n, lose))
			_ = c.Close()
			if s.left > 0 {
				t.Logf("%d steps", n)
				break
			}
			if t.Failed() {
				t.Fatalf("cut at step %d, lost %t", n, lose)
			}
		}
	}
}

// cutAtRandom runs the conversation with the connection cut again and again.
func cutAtRandom(t *testing.T, open opener, url string) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range 20 {
		s := cutAfter(func() int { return 3 + random.IntN(30) })
		c, err := client.DialWith(t.Context(), url, client.Options{Backoff: quick()}, s.under(open, i%2 == 0))
		if err != nil {
			t.Fatal(err)
		}
		converse(t, c, fmt.Sprintf("random-%d", i))
		_ = c.Close()
	}
}

func quick() client.Backoff {
	return client.Backoff{Min: time.Millisecond, Max: 2 * time.Millisecond}
}

func TestNothingIsLostOrRepeatedWhereverItIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { cutEverywhere(t, newPeer(t).dial, "http://peer") })
}

func TestNothingIsLostOrRepeatedHoweverOftenItIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { cutAtRandom(t, newPeer(t).dial, "http://peer") })
}

func TestBackoffIsFullyRandomWithinItsBounds(t *testing.T) {
	b := client.Backoff{Min: 100 * time.Millisecond, Max: 10 * time.Second}
	var low, high [12]time.Duration
	for range 1000 {
		for i, wait := range b.Waits(len(low)) {
			bound := min(b.Max, b.Min<<i)
			if wait < 0 || wait > bound {
				t.Fatalf("attempt %d waits %s, want at most %s", i, wait, bound)
			}
			if low[i] == 0 || wait < low[i] {
				low[i] = wait
			}
			high[i] = max(high[i], wait)
		}
	}
	for i := range low { // all of the range is used
		if bound := min(b.Max, b.Min<<i); low[i] > bound/10 || high[i] < bound*9/10 {
			t.Errorf("attempt %d waited between %s and %s of %s", i, low[i], high[i], bound)
		}
	}
	for i, wait := range (client.Backoff{Min: 1 << 40, Max: 1 << 62}).Waits(200) {
		if wait < 0 || wait > 1<<62 {
			t.Fatalf("attempt %d waits %s", i, wait)
		}
	}
}

func TestReconnectWaitsLongerAndLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		p.connect(t)
		for range 2 { // after a long connection the counting starts again
			time.Sleep(time.Hour)
			down := time.Now()
			p.set(func() { p.down, p.dials = true, nil })
			p.cut()
			time.Sleep(10 * time.Minute)
			p.set(func() {
				for i, at := range p.dials {
					bound := min(client.DefaultBackoffMax, client.DefaultBackoffMin<<min(i, 20))
					if wait := at.Sub(down); wait > bound {
						t.Errorf("attempt %d came after %s, want at most %s", i, wait, bound)
					}
					down = at
				}
				if n := len(p.dials); n < 50 || n > 300 {
					t.Errorf("%d attempts in ten minutes, want about 120", n)
				}
				p.down = false
			})
		}
	})
}

func TestByeSaysWhenToComeBack(t *testing.T) {
	for _, test := range []struct{ says, want time.Duration }{
		{3 * time.Second, 3 * time.Second},
		{1000 * time.Hour, client.MaxRetry},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newPeer(t)
			c := p.connect(t)
			p.say("bye", map[string]any{"code": "shutdown", "reason": "restart", "retry_ms": test.says.Milliseconds()})
			synctest.Wait()
			p.cut()
			began := time.Now()
			if _, err := c.Publish(t.Context(), parley.Message{Topic: "/a"}); err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(began); waited != test.want {
				t.Errorf("came back after %s, want %s", waited, test.want)
			}
		})
	}
}

// A bye in place of the hello's answer counts too.
func TestFullServerSaysWhenToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		c := p.connect(t)
		p.set(func() {
			p.greet = func(c *peerConn, _ json.RawMessage) {
				c.say("bye", map[string]any{"code": "overload", "retry_ms": 60_000})
				p.greet = nil
			}
		})
		p.cut()
		began := time.Now()
		if _, err := c.Publish(t.Context(), parley.Message{Topic: "/a"}); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited < time.Minute || waited > time.Minute+client.DefaultBackoffMin {
			t.Errorf("came back after %s, want a minute", waited)
		}
	})
}

// A server that is gone without a word is noticed by its silence.
func TestSilentServerIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		c := p.connect(t)
		time.Sleep(time.Hour)
		if len(p.dials) != 1 {
			t.Fatalf("%d connections in an hour of a quiet but living server", len(p.dials))
		}
		p.set(func() { p.mute = true })
		go func() {
			time.Sleep(client.Quiet)
			synctest.Wait()
			p.set(func() { p.mute = false }) // what was said meanwhile is lost
		}()
		began := time.Now()
		if _, err := c.Publish(t.Context(), parley.Message{Topic: "/a"}); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited > 3*client.Quiet+client.DefaultBackoffMin {
			t.Errorf("a dead server was noticed after %s", waited)
		}
		if len(p.log) != 1 {
			t.Errorf("%d messages stored, want 1", len(p.log))
		}
	})
}

func TestDialFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, test := range map[string]struct {
			set  func(p *peer)
			want error
		}{
			"refused": {func(p *peer) { p.down = true }, parley.ErrUnavailable},
			"silence": {func(p *peer) { p.mute = true }, parley.ErrUnavailable},
			"garbage": {func(p *peer) {
				p.greet = func(c *peerConn, _ json.RawMessage) { c.send("hi") }
			}, parley.ErrUnavailable},
			"event": {func(p *peer) {
				p.greet = func(c *peerConn, _ json.RawMessage) { c.say("live", nil) }
			}, parley.ErrUnavailable},
			"login": {func(p *peer) {
				p.refuse = func(string) map[string]any { return wireError(-32001, "unauthenticated", "who?") }
			}, parley.ErrUnauthenticated},
		} {
			p := newPeer(t)
			test.set(p)
			began := time.Now()
			_, err := client.DialWith(t.Context(), "http://peer", client.Options{}, p.dial)
			if !errors.Is(err, test.want) {
				t.Errorf("%s: Dial = %v, want %v", name, err, test.want)
			}
			if waited := time.Since(began); waited > 10*time.Second {
				t.Errorf("%s: Dial took %s", name, waited)
			}
		}
	})
}

func TestCloseEndsWhatWaits(t *testing.T) {
	for _, down := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := newPeer(t)
			c := p.connect(t)
			p.set(func() { p.mute, p.down = true, down })
			if down {
				p.cut()
			}
			ended := make(chan error)
			go func() {
				_, err := c.Publish(t.Context(), parley.Message{Topic: "/a"})
				ended <- err
			}()
			go func() {
				_, err := c.History(t.Context(), client.HistoryQuery{Topic: "/a"})
				ended <- err
			}()
			go func() {
				var last error
				for _, err := range c.Subscribe(t.Context(), "/a") {
					last = err
				}
				ended <- last
			}()
			synctest.Wait()
			_ = c.Close()
			_ = c.Close()
			for range 3 {
				if err := <-ended; !errors.Is(err, client.ErrClosed) {
					t.Errorf("down %t: got %v, want %v", down, err, client.ErrClosed)
				}
			}
			if _, err := c.Publish(t.Context(), parley.Message{Topic: "/a"}); !errors.Is(err, client.ErrClosed) {
				t.Errorf("Publish after Close = %v", err)
			}
			for _, err := range c.Subscribe(t.Context(), "/a") {
				if !errors.Is(err, client.ErrClosed) {
					t.Errorf("Subscribe after Close = %v", err)
				}
			}
		})
	}
}

func TestCloseInsideTheLoop(t *testing.T) {
	p := newPeer(t)
	c := p.connect(t)
	p.store("/a", "1")
	var last error
	for _, err := range c.Subscribe(t.Context(), "/a", client.After(0)) {
		_ = c.Close()
		last = err
	}
	if !errors.Is(last, client.ErrClosed) {
		t.Errorf("the loop ended with %v, want %v", last, client.ErrClosed)
	}
}

func TestOptionsAndAddress(t *testing.T) {
	for raw, want := range map[string]string{
		"http://127.0.0.1:8080":   "ws://127.0.0.1:8080/v1/rpc",
		"https://h/":              "wss://h/v1/rpc",
		"ws://h/other":            "ws://h/other",
		"wss://h?a=b#c":           "wss://h/v1/rpc?a=b",
		"":                        "",
		"127.0.0.1:8080":          "",
		"ftp://h":                 "",
		"http://":                 "",
		"http://ann:secret@h":     "",
		"http://h:secret-port/\n": "",
	} {
		got, err := client.Address(raw)
		if got != want || (err != nil) != (want == "") || err != nil && !errors.Is(err, parley.ErrInvalid) {
			t.Errorf("address of %q = %q, %v; want %q", raw, got, err, want)
		}
	}
	p := newPeer(t)
	for name, o := range map[string]client.Options{
		"short producer": {Producer: "abc"},
		"not hex":        {Producer: "0123456789abcdef0123456789abcdeg"},
		"back-off":       {Backoff: client.Backoff{Min: 2, Max: 1}},
		"negative":       {Backoff: client.Backoff{Min: -1}},
	} {
		if _, err := client.DialWith(t.Context(), "http://h", o, p.dial); !errors.Is(err, parley.ErrInvalid) {
			t.Errorf("%s: Dial = %v, want %v", name, err, parley.ErrInvalid)
		}
	}
}
