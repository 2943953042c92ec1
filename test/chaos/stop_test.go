package chaos_test

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
	"github.com/parley-im/parley/test/oracle"
)

const (
	stopped parley.Topic = "/stopped"
	// restartLeast and restartMost bound when clients are told to come back.
	restartLeast, restartMost = 500 * time.Millisecond, 5 * time.Second
)

// publishers publish until the server says goodbye.
type publishers struct {
	ledger  oracle.Ledger
	acks    atomic.Int64
	refused atomic.Int64
	running sync.WaitGroup
}

// native publishes with up to window publishes unanswered, and returns what is
// wrong with how it ended.
func (p *publishers) native(c *peer, name string, window int) error {
	sent := 0
	more := func(n int) error {
		var all []string
		for range n {
			sent++
			all = append(all, publishing(sent, stopped, bodyOf(fmt.Sprint(name, "-", sent), 200)))
		}
		return c.say(all...)
	}
	if err := more(window); err != nil {
		return err
	}
	for {
		a, err := c.hear()
		switch {
		case err != nil:
			return fmt.Errorf("%s ended without a goodbye: %w", name, err)
		case a.Method == "bye":
			return farewell(c, name, &a)
		case a.Error != nil && (a.Error.Code != -32005 || !a.Error.Data.Retry):
			return fmt.Errorf("%s: publish %d is refused with %+v", name, a.ID, *a.Error)
		case a.Error != nil:
			p.refused.Add(1)
		default:
			p.ledger.Ack(message(stopped, a.Result.Seq, bodyOf(fmt.Sprint(name, "-", a.ID), 200)))
			p.acks.Add(1)
		}
		if window > 0 {
			_ = more(1) // if that fails, reading says why
		}
	}
}

// flood publishes without waiting for anything, which must not keep the server
// from saying goodbye.
func (p *publishers) flood(c *peer) error {
	var writing sync.WaitGroup
	defer writing.Wait()
	defer c.Close()
	writing.Go(func() {
		for n := 1; ; n += 100 {
			var all []string
			for i := range 100 {
				all = append(all, publishing(n+i, stopped, bodyOf(fmt.Sprint("flood-", n+i), 200)))
			}
			if c.say(all...) != nil {
				return
			}
		}
	})
	return p.native(c, "flood", 0)
}

// farewell checks a goodbye, and that the connection ends with it.
func farewell(c *peer, name string, bye *answer) error {
	retry := time.Duration(bye.Params.Retry) * time.Millisecond
	if bye.Params.Code != "shutdown" || retry < restartLeast || retry > restartMost {
		return fmt.Errorf("%s: the goodbye is %+v", name, bye.Params)
	}
	if code, err := c.farewell(); err != nil || code != 1012 {
		return fmt.Errorf("%s ends with %d, %w", name, code, err)
	}
	return nil
}

// gobbler publishes likewise, ten at a time.
func (p *publishers) gobbler(c *peer, name string) error {
	sent, answers := 0, 0
	for {
		if sent == answers {
			var all []string
			for range 10 {
				sent++
				all = append(all, fmt.Sprintf("> %s %d\n\n%s", stopped, sent, bodyOf(fmt.Sprint(name, "-", sent), 200)))
			}
			_ = c.say(all...) // if that fails, reading says why
		}
		text, err := c.next()
		if g, ok := errors.AsType[*goodbye](err); ok && g.code == 1012 {
			_ = c.Close()
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s ended without a goodbye: %w", name, err)
		}
		id, seq, err := outcome(text)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		case id == "":
			continue
		case seq == 0:
			p.refused.Add(1)
		default:
			p.ledger.Ack(message(stopped, seq, bodyOf(name+"-"+id, 200)))
			p.acks.Add(1)
		}
		answers++
	}
}

// follow reads a topic until the server says goodbye, and counts as it goes.
func follow(c *peer, d dialect, seen *atomic.Int64) (trace []oracle.Message, err error) {
	for {
		text, err := c.next()
		if g, ok := errors.AsType[*goodbye](err); ok && g.code == 1012 {
			_ = c.Close()
			return trace, nil
		}
		if err != nil {
			return trace, fmt.Errorf("a %s reader ended without a goodbye: %w", d.name, err)
		}
		messages, err := d.messages(text)
		if err != nil {
			return trace, err
		}
		trace = append(trace, messages...)
		seen.Add(int64(len(messages)))
	}
}

// TestStopUnderLoad (R14): a server that is stopped in the middle of everything
// says goodbye to all who listen, in time and with a time to come back; what it
// has acknowledged is there when it starts again.
func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	// Who never reads is waited for, so that much of this is the test's time.
	drain := time.Duration(scale(5, 5, 10)) * time.Second
	for name, stalled := range map[string]int{"all read": 0, "some never read": 6} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range scale(1, 1, 20) {
				stopUnderLoad(t, stalled, drain)
			}
		})
	}
}

func stopUnderLoad(t *testing.T, stalled int, drain time.Duration) {
	dir := t.TempDir()
	s := servertest.Start(t, servertest.Dir(dir), func(c *server.Config) { c.Drain = drain })
	stall(t, s, stalled)
	var p publishers
	run := func(path string, talk func(c *peer) error) {
		c := open(t, s, path)
		p.running.Go(func() {
			if err := talk(c); err != nil {
				t.Error(err)
			}
		})
	}
	for i := range 3 {
		run(rpcPath, func(c *peer) error { return p.native(c, fmt.Sprint("native", i), 64) })
		run(gobblerPath, func(c *peer) error { return p.gobbler(c, fmt.Sprint("gobbler", i)) })
	}
	run(rpcPath, p.flood)
	run(rpcPath, func(c *peer) error { // one that is idle
		a, err := c.hear()
		if err != nil {
			return fmt.Errorf("an idle client ended without a goodbye: %w", err)
		}
		return farewell(c, "an idle client", &a)
	})
	traces, seen := make([][]oracle.Message, 2), make([]atomic.Int64, 2)
	for i, d := range dialects() {
		run(d.path, func(c *peer) (err error) {
			if err := c.say(d.subscribe(stopped, 0)); err != nil {
				return err
			}
			traces[i], err = follow(c, d, &seen[i])
			return err
		})
	}
	want := int64(scale(200, 2000, 5000))
	eventually(t, "much is acknowledged, and both readers are at work", func() bool {
		return p.acks.Load() >= want && seen[0].Load() > 0 && seen[1].Load() > 0 || t.Failed()
	})

	began := time.Now()
	s.Stop() // it complains if the server did not stop cleanly
	took := time.Since(began)
	p.running.Wait()
	if took > drain {
		t.Errorf("stopping took %v, more than %v", took, drain)
	}
	again := servertest.Start(t, servertest.Dir(dir))
	log := stored(t, again, stopped)
	if err := errors.Join(p.ledger.Check(log), oracle.Order(log, traces...)); err != nil {
		t.Error(err)
	}
	t.Logf("stopped in %v: %d acknowledged, %d stored, %d refused, %d and %d read",
		took, p.acks.Load(), len(log), p.refused.Load(), len(traces[0]), len(traces[1]))
	again.Stop()
}

// stall opens connections that ask for much and read nothing, and one that never
// finishes its handshake.
func stall(t *testing.T, s *servertest.Server, n int) {
	t.Helper()
	if n == 0 {
		return
	}
	fillTarget(t, s)
	for i := range n {
		d := dialects()[i%2]
		c, err := dial(host(s), d.path, 4<<10)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if err := c.say(d.subscribe(target, 0)); err != nil {
			t.Fatal(err)
		}
	}
	c, err := net.DialTimeout("tcp", host(s), patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	once("GET /v1/r")(0, c)
}
