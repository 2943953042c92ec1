package chaos_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
	"github.com/parley-im/parley/test/oracle"
)

const (
	// burst is how many messages are published at once: what no reader that
	// reads at all is too slow for.
	burst     = 8
	burstBody = 4 << 10
)

// crowd is one publisher and the readers of its topic.
type crowd struct {
	server  *servertest.Server
	topic   parley.Topic
	publish *client.Client
	log     []oracle.Message
	readers []*reader
	running sync.WaitGroup
}

// reader reads when it is told to, and only then.
type reader struct {
	dialect dialect
	*peer
	want  chan round
	done  chan error
	trace []oracle.Message
	// took is how long after its burst each message came.
	took []time.Duration
}

// round is what a reader is told to read.
type round struct {
	messages int
	began    time.Time
}

// gather starts a crowd of n readers of both protocols, of which the first few
// are going to stall.
func gather(t *testing.T, s *servertest.Server, n, stalling int) *crowd {
	t.Helper()
	c := &crowd{server: s, topic: "/crowd", publish: sdk(t, s)}
	t.Cleanup(c.leave)
	for i := range n {
		r := &reader{dialect: dialects()[i%2], want: make(chan round), done: make(chan error, 1)}
		receive := 0
		if i < stalling {
			receive = 16 << 10
		}
		if err := r.subscribe(s, c.topic, receive); err != nil {
			t.Fatal(err)
		}
		c.readers = append(c.readers, r)
		c.running.Go(func() {
			for round := range r.want {
				r.done <- r.read(round)
			}
		})
	}
	return c
}

// leave ends all readers.
func (c *crowd) leave() {
	for _, r := range c.readers {
		close(r.want)
		_ = r.Close()
	}
	c.running.Wait()
}

// subscribe connects, and asks for all above what the reader has.
func (r *reader) subscribe(s *servertest.Server, topic parley.Topic, receive int) error {
	p, err := dial(host(s), r.dialect.path, receive)
	if err != nil {
		return err
	}
	r.peer = p
	var last parley.Seq
	if n := len(r.trace); n > 0 {
		last = r.trace[n-1].Seq
	}
	return p.say(r.dialect.subscribe(topic, last))
}

// read reads as many messages as it is told to.
func (r *reader) read(want round) error {
	for want.messages > 0 {
		text, err := r.next()
		if err != nil {
			return err
		}
		messages, err := r.dialect.messages(text)
		if err != nil {
			return err
		}
		for range messages {
			r.took = append(r.took, time.Since(want.began))
		}
		want.messages -= len(messages)
		r.trace = append(r.trace, messages...)
	}
	return nil
}

// burst publishes some messages and waits until the given readers have them.
func (c *crowd) burst(t *testing.T, readers []*reader) {
	t.Helper()
	messages := make([]parley.Message, burst)
	for i := range messages {
		body := bodyOf(fmt.Sprint(len(c.log)+i), burstBody)
		messages[i] = parley.Message{Topic: c.topic, Body: []byte(body)}
	}
	began := time.Now()
	for _, r := range readers {
		r.want <- round{burst, began}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	receipts, err := c.publish.PublishAll(ctx, messages)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range receipts {
		c.log = append(c.log, message(c.topic, r.Seq, string(messages[i].Body)))
	}
	c.wait(t, readers)
}

// wait waits until the readers have read what they were told to.
func (c *crowd) wait(t *testing.T, readers []*reader) {
	t.Helper()
	for _, r := range readers {
		if err := <-r.done; err != nil {
			t.Fatalf("%s reader, after %d messages: %v", r.dialect.name, len(r.trace), err)
		}
	}
}

// catchUp has every reader read up to n messages of those that it lacks.
func (c *crowd) catchUp(t *testing.T, n int) {
	t.Helper()
	for _, r := range c.readers {
		r.want <- round{messages: min(n, len(c.log)-len(r.trace))}
	}
	c.wait(t, c.readers)
}

// check demands that every reader got everything, in order, once.
func (c *crowd) check(t *testing.T) {
	t.Helper()
	for i, r := range c.readers {
		if err := oracle.Broken(c.log, 0, r.trace); err != nil || len(r.trace) != len(c.log) {
			t.Errorf("%s reader %d has %d messages of %d: %v", r.dialect.name, i, len(r.trace), len(c.log), err)
		}
	}
	if err := oracle.Order(stored(t, c.server, c.topic), c.log); err != nil {
		t.Error(err)
	}
}

// slow is how many sessions were closed because they did not read.
func slow(t *testing.T, s *servertest.Server) int {
	t.Helper()
	return int(scrape(t, s)[`sessions_closed_total{reason="slow"}`])
}

// TestStalledReaders (R8): a tenth of the readers stop to read. The others get
// everything as before; the stalled are closed as slow once they took nothing
// for the write deadline, and when they come back and resume they have missed
// nothing.
func TestStalledReaders(t *testing.T) {
	s := servertest.Start(t, servertest.Dir(t.TempDir()), func(c *server.Config) {
		c.HTTP.WriteTimeout = 2 * time.Second
		c.Limits.Tail = 1 << 20
	})
	n, rounds := scale(10, 20, 100), scale(20, 100, 1000)
	stalled := max(n/10, 2) // one of each protocol
	c := gather(t, s, n, stalled)
	for range rounds {
		c.burst(t, c.readers)
	}
	others := c.readers[stalled:]
	before := percentile99(others)
	for range rounds {
		c.burst(t, others)
	}
	during := percentile99(others)
	t.Logf("p99 of %d readers: %v; with %d of them stalled: %v", n, before, stalled, during)
	eventually(t, "the stalled readers are closed as slow", func() bool {
		c.burst(t, others) // until their sockets are full
		return slow(t, s) == stalled
	})
	for _, r := range c.readers[:stalled] {
		had := len(r.trace)
		err := r.read(round{messages: len(c.log)})
		if err == nil {
			t.Fatalf("a stalled %s reader was not closed: it has %d messages", r.dialect.name, len(r.trace))
		}
		t.Logf("a stalled %s reader had %d messages, found %d in its socket, and then %v", r.dialect.name, had, len(r.trace)-had, err)
		_ = r.Close()
		if err := r.subscribe(s, c.topic, 0); err != nil {
			t.Fatal(err)
		}
		r.want <- round{messages: len(c.log) - len(r.trace)}
	}
	c.wait(t, c.readers[:stalled])
	c.burst(t, c.readers)
	c.check(t)
	if n := slow(t, s); n != stalled {
		t.Errorf("%d sessions were closed as slow, want %d", n, stalled)
	}
	unharmed(t, scrape(t, s))
}

// percentile99 is the 99th percentile of the times since it was last asked.
func percentile99(readers []*reader) time.Duration {
	var all []time.Duration
	for _, r := range readers {
		all = append(all, r.took...)
		r.took = r.took[:0]
	}
	slices.Sort(all)
	return all[len(all)*99/100]
}

// TestReadersResumeInTime (R8): readers that stall for less than the write
// deadline and read on fall out of the server's memory, and get everything
// without a gap on the same connection.
func TestReadersResumeInTime(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Dir(t.TempDir()), func(c *server.Config) {
		c.HTTP.WriteTimeout = time.Hour
		c.Limits.Tail = 1 << 20
	})
	const readers = 4
	c := gather(t, s, readers, readers)
	c.burst(t, c.readers)
	const sockets = 8 << 20 / burst / burstBody // bursts, more than the sockets hold
	for range scale(2, 2, 8) * sockets {
		c.burst(t, nil)
	}
	c.catchUp(t, sockets*burst) // now they are in a replay
	for range sockets / 2 {     // and when they are through, behind again
		c.burst(t, nil)
	}
	c.catchUp(t, len(c.log))
	c.burst(t, c.readers)
	c.check(t)
	m := scrape(t, s)
	if m["slow_fallbacks_total"] < readers || slow(t, s) != 0 {
		t.Errorf("%v readers fell back to the log and %d were closed, want %d and 0", m["slow_fallbacks_total"], slow(t, s), readers)
	}
	unharmed(t, m)
}

// TestTrickle (R8): readers that take a little now and then make progress, and
// are not closed however long it takes in all.
func TestTrickle(t *testing.T) {
	if scale(0, 0, 1) == 0 {
		t.Skip("takes many times the write deadline: PARLEY_SOAK=1 runs it")
	}
	t.Parallel()
	s := servertest.Start(t, func(c *server.Config) { c.HTTP.WriteTimeout = 3 * time.Second })
	const readers, step = 4, 32
	c := gather(t, s, readers, readers)
	for range 8 << 20 / burst / burstBody {
		c.burst(t, nil)
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for len(c.readers[0].trace) < len(c.log) {
		<-tick.C
		c.catchUp(t, step)
	}
	c.check(t)
	if n := slow(t, s); n != 0 {
		t.Errorf("%d readers were closed as slow, want none", n)
	}
}
