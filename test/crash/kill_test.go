package crash_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/test/oracle"
)

// TestKill kills the server after a random time under load and starts it again
// on the same store, 20 times; 200 times with PARLEY_SOAK=1, 5 with -short.
// What was acknowledged is there (R1), in one order (R2), nobody saw what is not
// (R3), readers that resume from their last seq miss nothing and get nothing
// twice (R4), and a publish with a producer and an id, sent again after the
// crash, is stored once and keeps its seq (R5).
func TestKill(t *testing.T) {
	binary := build(t)
	t.Run("Promises", func(t *testing.T) { killAndCheck(t, binary) })
	t.Run("LossIsNoticed", func(t *testing.T) { killAndLose(t, binary) })
}

func killAndCheck(t *testing.T, binary string) {
	cycles := 20
	switch {
	case os.Getenv("PARLEY_SOAK") == "1":
		cycles = 200
	case testing.Short():
		cycles = 5
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := newWorld(binary, t.TempDir(), rand.New(rand.NewPCG(seed, seed)))
	for range cycles {
		w.cycle(t)
	}
	log := w.fetchAll(t)
	if err := errors.Join(w.ledger.Check(log), pipelined(log)); err != nil {
		t.Error(err)
	}
	for _, r := range w.readers {
		stream := slices.DeleteFunc(slices.Clone(log), func(m oracle.Message) bool { return m.Stream != r.stream })
		if err := oracle.Broken(stream, 0, r.trace); err != nil {
			t.Errorf("reader of %s: %v", r.stream, err)
		}
		if err := oracle.Order(log, r.trace); err != nil {
			t.Errorf("reader of %s: %v", r.stream, err)
		}
		t.Logf("reader of %s: %d messages", r.stream, len(r.trace))
	}
	t.Logf("%d kills: %d stored, %d acknowledgements, %d of them of publishes sent again", cycles, len(log), len(w.ledger.Acked()), w.resent())
	if len(log) == 0 || w.resent() == 0 || len(w.readers[0].trace) == 0 {
		t.Error("nothing was stored, sent again or read: this run shows nothing")
	}
}

// killAndLose: on a store in memory, where a kill loses everything, the same
// checks find it.
func killAndLose(t *testing.T, binary string) {
	w := newWorld(binary, t.TempDir(), rand.New(rand.NewPCG(1, 1)))
	w.args = []string{"--ms", "memory"}
	for len(w.ledger.Acked()) == 0 {
		w.cycle(t)
	}
	if err := w.ledger.Check(w.fetchAll(t)); err == nil || !strings.Contains(err.Error(), "R1, ") {
		t.Errorf("a server that forgets everything: %v, want R1 to be broken", err)
	}
}

// pipelined checks the rest of R2: what one connection published without
// waiting is stored in that order.
func pipelined(log []oracle.Message) error {
	type line struct {
		name   string
		stream parley.Stream
	}
	last := map[line]int{}
	for _, m := range log {
		name, number, _ := strings.Cut(m.ID, "-")
		n, err := strconv.Atoi(number)
		if err != nil {
			return fmt.Errorf("stored id %q: %w", m.ID, err)
		}
		if strings.HasPrefix(name, "native") {
			continue // They send old publishes again among new ones.
		}
		l := line{name, m.Stream}
		if before, ok := last[l]; ok && n <= before {
			return fmt.Errorf("stream %q: %s-%d is stored after %s-%d", m.Stream, name, n, name, before)
		}
		last[l] = n
	}
	return nil
}

// world is one store and all who use it, across the server's lives.
type world struct {
	binary, dir string
	under       []string // a program, with its arguments, that runs the server
	args        []string
	rand        *rand.Rand
	ledger      oracle.Ledger
	publishers  []*gobblerPublisher
	producers   []*producer
	readers     []*reader
}

func newWorld(binary, dir string, r *rand.Rand) *world {
	w := &world{binary: binary, dir: dir, rand: r}
	for i := range 3 {
		w.publishers = append(w.publishers, &gobblerPublisher{name: fmt.Sprint("gobbler", i), ledger: &w.ledger})
	}
	for i := range 2 {
		w.producers = append(w.producers, &producer{name: fmt.Sprint("native", i), id: fmt.Sprintf("%032x", i+1), ledger: &w.ledger})
	}
	for _, s := range streams() {
		w.readers = append(w.readers, &reader{stream: s, ledger: &w.ledger})
	}
	return w
}

// streams are those that hold what topicOf chooses.
func streams() []parley.Stream { return []parley.Stream{"crash", "other"} }

// topicOf chooses the n-th topic that a publisher publishes to.
func topicOf(n int) parley.Topic {
	return []parley.Topic{"/crash", "/crash/a", "/crash/b/c", "/other", "/other/x"}[n%5]
}

// bodyOf is the body of the publish with that id: the id, and some weight.
func bodyOf(id string) string { return id + " " + strings.Repeat("x", len(id)*7%200) }

// messageOf is what a reader should see of a publish.
func messageOf(id string, topic parley.Topic, seq parley.Seq) oracle.Message {
	return oracle.Message{Stream: topic.Stream(), Seq: seq, ID: id, Sum: oracle.SumOf(topic, "", []byte(bodyOf(id)))}
}

// resent counts publishes that were acknowledged more than once or only after a
// crash: those that show R5.
func (w *world) resent() int {
	n := 0
	for _, p := range w.producers {
		n += p.resent
	}
	return n
}

// cycle is one life of the server.
func (w *world) cycle(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	defer end()
	server, address := w.start(ctx, t)
	var clients sync.WaitGroup
	faults := make(chan error, 16)
	run := func(name string, talk func(address string) error) {
		clients.Go(func() {
			if err := talk(address); err != nil {
				faults <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	for _, r := range w.readers {
		run("reader of "+string(r.stream), r.run)
	}
	for _, p := range w.publishers {
		run(p.name, p.run)
	}
	for _, p := range w.producers {
		run(p.name, p.run)
	}
	moment := time.NewTimer(time.Duration(10+w.rand.IntN(80)) * time.Millisecond)
	<-moment.C
	server.kill()
	clients.Wait()
	close(faults)
	for err := range faults {
		t.Error(err)
	}
	if t.Failed() {
		t.Fatal(server.out)
	}
}

// fetchAll reads every stream from its beginning to its end.
func (w *world) fetchAll(t *testing.T) []oracle.Message {
	t.Helper()
	server, address := w.start(t.Context(), t)
	defer server.kill()
	var log []oracle.Message
	for _, s := range streams() {
		c, err := dial(address, "/stream/user/fetch")
		if err != nil {
			t.Fatal(err)
		}
		part, err := fetch(c, s)
		_ = c.Close()
		if err != nil {
			t.Fatalf("fetch %s: %v\n%s", s, err, server.out)
		}
		log = append(log, part...)
	}
	return log
}
