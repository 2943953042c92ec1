package chaos_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
	"github.com/parley-im/parley/test/oracle"
)

const (
	flooded      parley.Topic = "/flooded"
	floodedBody               = 32 << 10
	floodedBurst              = 48 // more than a session may have unanswered
)

// flooder publishes as fast as it can.
type flooder struct {
	name    string
	gobbler bool
	*peer
	sent   int
	acked  []oracle.Message
	refuse map[string]bool // ids that were refused
}

// wave publishes a burst without waiting, and then waits for every answer.
func (f *flooder) wave() error {
	unanswered := map[int]bool{}
	var all []string
	for range floodedBurst {
		f.sent++
		unanswered[f.sent] = true
		all = append(all, f.publish(f.sent))
	}
	var writing sync.WaitGroup
	var failure error
	writing.Go(func() { failure = f.say(all...) })
	defer writing.Wait()
	for len(unanswered) > 0 {
		n, seq, err := f.answer()
		switch {
		case err != nil:
			return fmt.Errorf("%s, with %d publishes unanswered: %w", f.name, len(unanswered), err)
		case n == 0:
		case !unanswered[n]:
			return fmt.Errorf("%s: publish %d is answered although it was not waiting", f.name, n)
		case seq == 0:
			f.refuse[f.id(n)] = true
		default:
			f.acked = append(f.acked, message(flooded, seq, f.body(n)))
		}
		delete(unanswered, n)
	}
	writing.Wait()
	return failure
}

func (f *flooder) id(n int) string { return fmt.Sprintf("%s-%d", f.name, n) }

func (f *flooder) body(n int) string { return bodyOf(f.id(n), floodedBody) }

func (f *flooder) publish(n int) string {
	if f.gobbler {
		return fmt.Sprintf("> %s %d\n\n%s", flooded, n, f.body(n))
	}
	return publishing(n, flooded, f.body(n))
}

// answer reads one answer: to which publish, and the seq, or 0 for one that was
// refused in the way the protocol's page says. It is 0 for another frame.
func (f *flooder) answer() (n int, seq parley.Seq, err error) {
	if !f.gobbler {
		a, err := f.hear()
		if err == nil && a.Error != nil &&
			(a.Error.Code != -32005 || a.Error.Data.Kind != "unavailable" || !a.Error.Data.Retry || a.Result.Seq != 0) {
			err = fmt.Errorf("publish %d is refused with %+v", a.ID, *a.Error)
		}
		return a.ID, a.Result.Seq, err
	}
	text, err := f.next()
	if err != nil {
		return 0, 0, err
	}
	id, seq, err := outcome(text)
	if err != nil || id == "" {
		return 0, 0, err
	}
	_, err = fmt.Sscan(id, &n)
	return n, seq, err
}

// floodUntil lets flooders publish wave after wave until enough was refused,
// and returns all that was acknowledged and refused.
func floodUntil(t *testing.T, flooders []*flooder, refusals int) (acked []oracle.Message, refused map[string]bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	refused = map[string]bool{}
	for len(refused) < refusals {
		if time.Now().After(deadline) {
			t.Fatalf("only %d publishes of %d were refused within %v", len(refused), len(acked)+len(refused), patience)
		}
		var flooding sync.WaitGroup
		failures := make([]error, len(flooders))
		for i, f := range flooders {
			flooding.Go(func() { failures[i] = f.wave() })
		}
		flooding.Wait()
		if err := errors.Join(failures...); err != nil {
			t.Fatal(err)
		}
		acked = acked[:0]
		for _, f := range flooders {
			acked = append(acked, f.acked...)
			for id := range f.refuse {
				refused[id] = true
			}
		}
	}
	return acked, refused
}

// TestOverload (R10): more is published than the queue holds. Every publish is
// answered, with success or with an error that says to try again; what was
// acknowledged is stored and nothing else; afterwards all is as before.
func TestOverload(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Dir(t.TempDir()), func(c *server.Config) {
		c.Limits.Message, c.Limits.PublishQueue = 64<<10, 1<<20
	})
	var flooders []*flooder
	for i := range 8 {
		f := &flooder{name: fmt.Sprint("f", i), gobbler: i%4 == 3, refuse: map[string]bool{}}
		path := rpcPath
		if f.gobbler {
			path = gobblerPath
		}
		f.peer = open(t, s, path)
		flooders = append(flooders, f)
	}
	began := time.Now()
	acked, refused := floodUntil(t, flooders, scale(20, 200, 20_000))
	overloaded := time.Since(began)

	// When there is room again, nobody is refused.
	calm := flooders[0]
	began = time.Now()
	const after = 100
	for range after {
		calm.sent++
		a, err := calm.ask(calm.sent, "publish", fmt.Sprintf(`{"topic":%q,"text":%q}`, flooded, calm.body(calm.sent)))
		if err != nil || a.Error != nil || a.ID != calm.sent {
			t.Fatalf("a publish after the overload is answered by %+v, %v", a, err)
		}
		acked = append(acked, message(flooded, a.Result.Seq, calm.body(calm.sent)))
	}
	t.Logf("overloaded: %d stored and %d refused in %v; then %d, one at a time, in %v",
		len(acked)-after, len(refused), overloaded, after, time.Since(began))

	log := stored(t, s, flooded)
	if err := errors.Join(oracle.Lost(acked, log), oracle.Order(log), oracle.Repeated(acked, log)); err != nil {
		t.Error(err)
	}
	if len(log) != len(acked) {
		t.Errorf("%d messages are stored, %d were acknowledged", len(log), len(acked))
	}
	for _, m := range log {
		if refused[m.ID] {
			t.Errorf("%s was refused and is stored", m.ID)
		}
	}
	m := scrape(t, s)
	unharmed(t, m)
	if err := unbalanced(m); err != nil {
		t.Error(err)
	}
	if m["published_messages_total"] != float64(len(acked)) || m["refused_messages_total"] != float64(len(refused)) || m["publish_queue_bytes"] != 0 {
		t.Errorf("the metrics say %v published, %v refused, %v bytes waiting; want %d, %d and 0",
			m["published_messages_total"], m["refused_messages_total"], m["publish_queue_bytes"], len(acked), len(refused))
	}
}
