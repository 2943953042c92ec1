package chaos_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/server/servertest"
)

// visit is one way to come and go.
type visit struct {
	name string
	make func(t *testing.T, s *servertest.Server, topic parley.Topic) error
}

func visits() []visit {
	return []visit{
		{"native, polite", func(_ *testing.T, s *servertest.Server, topic parley.Topic) error {
			return talk(s, dialects()[1], topic, (*peer).leave)
		}},
		{"native, reset", func(_ *testing.T, s *servertest.Server, topic parley.Topic) error {
			return talk(s, dialects()[1], topic, (*peer).reset)
		}},
		{"gobbler, polite", func(_ *testing.T, s *servertest.Server, topic parley.Topic) error {
			return talk(s, dialects()[0], topic, (*peer).leave)
		}},
		{"gobbler, reset", func(_ *testing.T, s *servertest.Server, topic parley.Topic) error {
			return talk(s, dialects()[0], topic, (*peer).reset)
		}},
		{"gobbler, closed without a word", func(_ *testing.T, s *servertest.Server, topic parley.Topic) error {
			return talk(s, dialects()[0], topic, func(p *peer) { _ = p.Close() })
		}},
		{"reset right after asking", func(_ *testing.T, s *servertest.Server, topic parley.Topic) error {
			p, err := dial(host(s), rpcPath, 0)
			if err != nil {
				return err
			}
			defer p.reset()
			return p.say(dialects()[1].subscribe(topic, 0), publishing(2, topic, "x"), call(3, "history", fmt.Sprintf(`{"topic":%q}`, topic)))
		}},
		{"reset within a frame", func(_ *testing.T, s *servertest.Server, _ parley.Topic) error {
			p, err := dial(host(s), rpcPath, 0)
			if err != nil {
				return err
			}
			defer p.reset()
			once(declared(100_000)+strings.Repeat("x", 5000))(0, p)
			return nil
		}},
		{"reset within the handshake", func(_ *testing.T, s *servertest.Server, _ parley.Topic) error {
			c, err := net.DialTimeout("tcp", host(s), patience)
			if err != nil {
				return err
			}
			once(upgrade(host(s), rpcPath)[:60])(0, c)
			(&peer{Conn: c}).reset()
			return nil
		}},
		{"reset without waiting for the handshake", func(_ *testing.T, s *servertest.Server, topic parley.Topic) error {
			c, err := net.DialTimeout("tcp", host(s), patience)
			if err != nil {
				return err
			}
			once(upgrade(host(s), rpcPath)+texts(dialects()[1].subscribe(topic, 0)))(0, c)
			(&peer{Conn: c}).reset()
			return nil
		}},
		{"events, polite", func(t *testing.T, s *servertest.Server, topic parley.Topic) error {
			return listenOnce(t, s, topic, func(f *tuned) { _ = f.Close() })
		}},
		{"events, reset", func(t *testing.T, s *servertest.Server, topic parley.Topic) error {
			return listenOnce(t, s, topic, func(f *tuned) { (&peer{Conn: f.Conn}).reset() })
		}},
		{"events, all that is stored", func(_ *testing.T, s *servertest.Server, topic parley.Topic) error {
			f, err := tune(host(s), string(topic)+"?after=0&replay_only=true", "", 0)
			if err != nil {
				return err
			}
			defer f.Close()
			for {
				if _, err := f.hear(); errors.Is(err, io.EOF) {
					return nil
				} else if err != nil {
					return err
				}
			}
		}},
		{"the Go client", func(t *testing.T, s *servertest.Server, topic parley.Topic) error {
			c, err := client.Dial(t.Context(), s.URL, client.Options{})
			if err != nil {
				return err
			}
			r, err := c.Publish(t.Context(), parley.Message{Topic: topic, Body: []byte("x")})
			for m := range c.Subscribe(t.Context(), topic, client.After(r.Seq-1), client.Max(1)) {
				if m.Seq != r.Seq {
					err = fmt.Errorf("received %d, published %d", m.Seq, r.Seq)
				}
			}
			return errors.Join(err, c.Close())
		}},
	}
}

// talk connects, subscribes, publishes, receives what it has published, and
// goes.
func talk(s *servertest.Server, d dialect, topic parley.Topic, leave func(*peer)) error {
	p, err := dial(host(s), d.path, 0)
	if err != nil {
		return err
	}
	defer leave(p)
	body := bodyOf(p.LocalAddr().String(), 100)
	publish := publishing(2, topic, body)
	if d.path == gobblerPath {
		publish = fmt.Sprintf("> %s\n\n%s", topic, body)
	}
	// What is published from now on, and without waiting for the answer: what
	// follows on the same connection is published after that.
	if err := p.say(strings.NewReplacer(`,"after":0`, "", " 1", "").Replace(d.subscribe(topic, 0)), publish); err != nil {
		return err
	}
	want := message(topic, 0, body).ID
	for {
		text, err := p.next()
		if err != nil {
			return err
		}
		messages, err := d.messages(text)
		if err != nil {
			return err
		}
		for _, m := range messages {
			if m.ID == want {
				return nil
			}
		}
	}
}

// listenOnce follows a topic, waits for an event, and goes.
func listenOnce(t *testing.T, s *servertest.Server, topic parley.Topic, leave func(*tuned)) error {
	t.Helper()
	f, err := tune(host(s), string(topic), "", 0)
	if err != nil {
		return err
	}
	defer leave(f)
	_, err = f.hear()
	return err
}

// leave says goodbye as RFC 6455 wants it, and waits for the answer.
func (p *peer) leave() {
	if _, err := p.Write(frame(opClose, "\x03\xe8")); err == nil {
		_, _ = p.farewell()
	}
	_ = p.Close()
}

// levels are what must not grow.
type levels struct{ goroutines, files, memory int }

// rest waits until all visitors are gone, and measures.
func rest(t *testing.T, s *servertest.Server) levels {
	t.Helper()
	unharmed(t, quiet(t, s))
	return levels{runtime.NumGoroutine(), files(t), memory()}
}

// churn has n visitors come and go, some at a time.
func churn(t *testing.T, s *servertest.Server, n int, rnd *rand.Rand) {
	t.Helper()
	all := visits()
	order := make([]int, n)
	for i := range order {
		order[i] = rnd.IntN(len(all))
	}
	var visiting sync.WaitGroup
	defer visiting.Wait()
	next := make(chan int)
	defer close(next)
	for range 8 {
		visiting.Go(func() {
			for i := range next {
				v := all[order[i]]
				if err := v.make(t, s, parley.Topic(fmt.Sprintf("/churn/%d/x", i%100))); err != nil {
					t.Errorf("visit %d, %s: %v", i, v.name, err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
}

// TestChurn (R22): thousands of clients connect, subscribe, publish and leave,
// many of them rudely. Goroutines, file descriptors and memory return to where
// they were.
func TestChurn(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, seed))
	s := servertest.Start(t, servertest.Dir(t.TempDir()))
	first := sdk(t, s)
	if _, err := first.Publish(t.Context(), parley.Message{Topic: "/churn"}); err != nil {
		t.Fatal(err)
	}
	_ = first.Close()
	churn(t, s, scale(100, 500, 2000), rnd) // what is made once, and pools
	before := rest(t, s)
	rounds, visitors := scale(1, 2, 20), scale(300, 2500, 5000)
	for range rounds {
		churn(t, s, visitors, rnd)
		t.Logf("after %d visitors: %+v", visitors, rest(t, s))
	}
	// The store keeps some more files and memory for what was published.
	const someFiles, someMemory = 16, 4 << 20
	var after levels
	eventually(t, "all is as before", func() bool {
		after = rest(t, s)
		return after.goroutines <= before.goroutines+2 && after.files <= before.files+someFiles && after.memory <= before.memory+someMemory
	})
	n := rounds * visitors
	t.Logf("%d visitors: %+v before, %+v after; %.3f goroutines, %.3f files and %.0f bytes for each", n, before, after,
		float64(after.goroutines-before.goroutines)/float64(n), float64(after.files-before.files)/float64(n), float64(after.memory-before.memory)/float64(n))
}
