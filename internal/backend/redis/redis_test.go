package redis_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/backendtest"
	"github.com/parley-im/parley/internal/backend/redis"
	"github.com/parley-im/parley/test/redisserver"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open makes a client of a server at url.
func open(t *testing.T, url string, edit ...func(*redis.Options)) *redis.Client {
	t.Helper()
	address, err := redis.ParseAddress(url)
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	o := redis.Options{Address: address, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for _, f := range edit {
		f(&o)
	}
	c := redis.Open(o)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

func TestBus(t *testing.T) {
	s := redisserver.Start(t)
	n := 0
	backendtest.Bus(t, func(t *testing.T) backend.Bus {
		n++
		bus := open(t, "redis://"+s.Addr).Bus(fmt.Sprintf("test%d:", n))
		t.Cleanup(func() { _ = bus.Close() })
		// What the suite counts does not begin before the bus is connected.
		if err := bus.Subscribe(t.Context(), "warm", func([]byte) {}); err != nil {
			t.Fatal(err)
		}
		return bus
	})
}

// Two nodes hear each other, also after Redis was away, and meanwhile are told
// that it is.
func TestBusOutlivesRedis(t *testing.T) {
	s := redisserver.Start(t)
	here, there := open(t, "redis://"+s.Addr).Bus("b:"), open(t, "redis://"+s.Addr).Bus("b:")
	defer here.Close()
	defer there.Close()
	heard := make(chan string, 1000)
	if err := there.Subscribe(t.Context(), "bell", func(p []byte) { heard <- string(p) }); err != nil {
		t.Fatal(err)
	}
	ring := func(text string) {
		redisserver.Eventually(t, text+" arrives", func() bool {
			_ = here.Publish(t.Context(), "bell", []byte(text))
			select {
			case got := <-heard:
				return got == text
			case <-time.After(20 * time.Millisecond):
				return false
			}
		})
	}
	ring("one")
	s.Kill()
	redisserver.Eventually(t, "a publish fails", func() bool {
		return errors.Is(here.Publish(t.Context(), "bell", nil), parley.ErrUnavailable)
	})
	s.Start()
	ring("two")
}

func TestClosedBusRefuses(t *testing.T) {
	s := redisserver.Start(t)
	bus := open(t, "redis://"+s.Addr).Bus("")
	for range 2 {
		if err := bus.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := bus.Publish(t.Context(), "s", nil); !errors.Is(err, parley.ErrUnavailable) {
		t.Errorf("Publish after Close: %v", err)
	}
	if err := bus.Subscribe(t.Context(), "s", func([]byte) {}); !errors.Is(err, parley.ErrUnavailable) {
		t.Errorf("Subscribe after Close: %v", err)
	}
}

// follow follows a pattern until the test ends, and says what came.
func follow(t *testing.T, c *redis.Client, pattern string) <-chan string {
	t.Helper()
	heard := make(chan string, 1<<16)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := c.Follow(ctx, pattern, func(p []byte) { heard <- string(p) }); err != nil {
			t.Errorf("Follow: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return heard
}

// passes publishes until something comes.
func passes(t *testing.T, c *redis.Client, heard <-chan string, text string) {
	t.Helper()
	redisserver.Eventually(t, text+" arrives", func() bool {
		_ = c.Publish(t.Context(), "p:1", []byte(text))
		select {
		case got := <-heard:
			return got == text
		case <-time.After(20 * time.Millisecond):
			return false
		}
	})
}

// While Redis is away a publish fails at once, and once it is back all goes on by
// itself.
func TestFollowOutlivesRedis(t *testing.T) {
	s := redisserver.Start(t)
	c := open(t, "redis://"+s.Addr)
	heard := follow(t, c, "p:*")
	for round := range 3 {
		passes(t, c, heard, fmt.Sprint("round ", round))
		if !c.Stats().Connected {
			t.Error("it is connected and does not say so")
		}
		s.Kill()
		redisserver.Eventually(t, "the client sees that Redis is away", func() bool { return !c.Stats().Connected })
		began := time.Now()
		for range 1000 {
			if err := c.Publish(t.Context(), "p:1", nil); !errors.Is(err, parley.ErrUnavailable) {
				t.Fatalf("a publish without Redis: %v", err)
			}
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("a thousand refusals took %v", took)
		}
		s.Start()
	}
	passes(t, c, heard, "the end")
}

// A Redis that stands still is noticed: nobody waits for it for long, and others
// than the one that tries do not wait at all.
func TestStalledRedis(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for seconds")
	}
	s := redisserver.Start(t)
	c := open(t, "redis://"+s.Addr)
	passes(t, c, follow(t, c, "p:*"), "before")
	s.Pause()
	began := time.Now()
	for range 100 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if err := c.Publish(ctx, "p:1", nil); !errors.Is(err, parley.ErrUnavailable) {
			t.Errorf("a publish to a Redis that stands still: %v", err)
		}
		cancel()
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("a hundred publishes took %v", took)
	}
	s.Resume()
	redisserver.Eventually(t, "a publish succeeds", func() bool { return c.Publish(t.Context(), "p:1", nil) == nil })
}

// Many publish at once; each has its answer, and all arrives.
func TestManyPublishers(t *testing.T) {
	const publishers, each = 30, 200
	s := redisserver.Start(t)
	c := open(t, "redis://"+s.Addr)
	heard := follow(t, c, "p:*")
	passes(t, c, heard, "before")
	var all sync.WaitGroup
	for i := range publishers {
		all.Go(func() {
			for j := range each {
				if err := c.Publish(t.Context(), fmt.Sprint("p:", i), fmt.Appendf(nil, "%d %d", i, j)); err != nil {
					t.Errorf("Publish: %v", err)
				}
			}
		})
	}
	all.Wait()
	next := make([]int, publishers)
	for n := 0; n < publishers*each; {
		text := <-heard
		var i, j int
		if _, err := fmt.Sscanf(text, "%d %d", &i, &j); err != nil {
			continue // of before
		}
		if j != next[i] {
			t.Fatalf("publisher %d: got %d, want %d", i, j, next[i])
		}
		next[i]++
		n++
	}
}

// Passwords are asked for, and a wrong one is no way in.
func TestPassword(t *testing.T) {
	s := redisserver.Start(t, "--requirepass", "hunter2", "--user", "parley", "on", ">hunter3", "+@all", "~*", "&*")
	for _, tt := range []struct {
		url, password string
		ok            bool
	}{
		{"redis://" + s.Addr, "hunter2", true},
		{"redis://" + s.Addr, "wrong", false},
		{"redis://" + s.Addr, "", false},
		{"redis://parley@" + s.Addr, "hunter3", true},
	} {
		c := open(t, tt.url, func(o *redis.Options) { o.Password = tt.password })
		err := c.Publish(t.Context(), "p:1", nil)
		if (err == nil) != tt.ok {
			t.Errorf("%s with %q: %v", tt.url, tt.password, err)
		}
		if err != nil && (!errors.Is(err, parley.ErrUnavailable) || strings.Contains(err.Error(), "hunter") || tt.password != "" && strings.Contains(err.Error(), tt.password+" ")) {
			t.Errorf("the error is %v", err)
		}
	}
}

// A user with the rights that the documentation lists can do all that is needed.
func TestLeastRights(t *testing.T) {
	doc, err := os.ReadFile("../../../docs/tasks/texto.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rule, _ := strings.Cut(string(doc), "    ACL SETUSER parley ")
	rule, _, _ = strings.Cut(rule, "\n")
	s := redisserver.Start(t)
	words := append([]string{"ACL", "SETUSER", "parley"}, strings.Fields(strings.Replace(rule, "PASSWORD", "hunter2", 1))...)
	if got := s.Ask(words...); got != "+OK\r\n" {
		t.Fatalf("%q: %q", words, got)
	}
	c := open(t, "redis://parley@"+s.Addr, func(o *redis.Options) { o.Password = "hunter2" })
	heard := follow(t, c, "texto:*")
	redisserver.Eventually(t, "a message arrives", func() bool {
		_ = c.Publish(t.Context(), "texto:1", []byte("hi"))
		select {
		case got := <-heard:
			return got == "hi"
		case <-time.After(20 * time.Millisecond):
			return false
		}
	})
	if err := c.Publish(t.Context(), "other", nil); err == nil {
		t.Error("it may publish elsewhere, too")
	}
}

// Two Sentinels find the master, and the next one when that dies.
func TestSentinels(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for seconds")
	}
	master := redisserver.Start(t)
	host, port, _ := strings.Cut(master.Addr, ":")
	replica := redisserver.Start(t, "--replicaof", host, port)
	sentinels := redisserver.StartSentinels(t, 2, "chat", master)
	for _, s := range sentinels {
		redisserver.Eventually(t, "the Sentinels know all", func() bool {
			told := s.Ask("info", "sentinel")
			return strings.Contains(told, "status=ok") && strings.Contains(told, "slaves=1,sentinels=2")
		})
	}
	url := fmt.Sprintf("redis-sentinel://%s,%s/chat", sentinels[0].Addr, sentinels[1].Addr)
	here, there := open(t, url), open(t, url)
	heard := follow(t, there, "p:*")
	passes(t, here, heard, "before")
	master.Kill()
	passes(t, here, heard, "after the failover")
	if role := replica.Ask("role"); !strings.Contains(role, "master") {
		t.Errorf("the replica is %q", role)
	}
	sentinels[0].Kill()
	passes(t, open(t, url), heard, "with one Sentinel")
}
