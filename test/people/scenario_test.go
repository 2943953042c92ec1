package people_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
)

const (
	letters = 1000
	firstID = "letter-%04d"
)

// TestAnnAndBob is the promise of the whole: Bob writes 1,000 letters to Ann while
// her two devices come and go, the server is killed twice, and one of her tokens
// is revoked. Her other device ends with all of them, in order; what was
// confirmed never comes again; Bob is told of each that it was delivered and read;
// and Carol, who guesses, gets nothing.
func TestAnnAndBob(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	args := []string{"--auth", "--grant", "send:/$inbox/*", "--log", "warn"}
	s := newServer(t, args...)
	phone := newDevice(t, s, "phone", seed)
	laptop := newDevice(t, s, "laptop", seed+1)
	bob, carol := s.run("token", "issue", "bob"), s.run("token", "issue", "carol")

	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	pen := writer{token: bob, to: []string{"ann"}, n: letters}
	var running sync.WaitGroup
	running.Go(func() { pen.write(ctx, t, s) })
	running.Go(func() { phone.read(ctx, letters) })
	laptopCtx, leave := context.WithCancel(ctx)
	running.Go(func() { laptop.read(laptopCtx, letters) })
	guessing, enough := context.WithCancel(ctx)
	var guesser sync.WaitGroup
	guesser.Go(func() { guess(guessing, t, s, carol) })

	for _, at := range []int64{letters / 4, letters / 2} {
		await(ctx, t, &pen.sent, at)
		s.kill()
		s.start(args...)
	}
	await(ctx, t, &pen.sent, letters*3/4)
	s.run("token", "revoke", laptop.id)
	laptop.expectEnd(ctx)
	leave()
	running.Wait()
	enough()
	guesser.Wait()
	phone.check(letters)
	if len(laptop.got) == 0 {
		t.Error("the laptop had no letter before its token was revoked")
	}
	receipts(ctx, t, s, bob, phone)
}

// await waits until so many were sent.
func await(ctx context.Context, t *testing.T, sent *atomic.Int64, n int64) {
	t.Helper()
	if !poll(ctx, func() bool { return sent.Load() >= n }) {
		t.Fatalf("%d letters of %d were sent in time", sent.Load(), n)
	}
}

// poll waits until something is so; false when ctx has ended before.
func poll(ctx context.Context, condition func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// writer is Bob, who sends n letters, one after the other, over whatever breaks.
type writer struct {
	token string
	to    []string
	n     int
	sent  atomic.Int64
}

func (w *writer) write(ctx context.Context, t *testing.T, s *server) {
	c, err := s.dial(ctx, w.token, "pen")
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = c.Close() }()
	for i := range w.n {
		l := client.Letter{To: w.to, ID: fmt.Sprintf(firstID, i), Body: fmt.Appendf(nil, "letter %d", i), Receipts: true}
		if _, err := c.Send(ctx, l); err != nil {
			t.Errorf("letter %d: %v", i, err)
			return
		}
		w.sent.Add(1)
	}
}

// device is one of Ann's. It comes and goes, and judges what it gets.
type device struct {
	t         *testing.T
	s         *server
	name      string
	token, id string
	random    *rand.Rand

	got       map[string]parley.Seq // by the letters' ids
	last      parley.Seq            // the greatest so far
	confirmed map[parley.Seq]bool
	ended     chan struct{} // closed when the server ended it for good
}

func newDevice(t *testing.T, s *server, name string, seed uint64) *device {
	t.Helper()
	d := &device{
		t: t, s: s, name: name, random: rand.New(rand.NewPCG(seed, seed)),
		got: map[string]parley.Seq{}, confirmed: map[parley.Seq]bool{}, ended: make(chan struct{}),
	}
	d.token, d.id = issue(t, s, "ann", name)
	return d
}

// read reads Ann's inbox in visits of random length until the device has n
// letters, its token does not hold any more, or ctx ends.
func (d *device) read(ctx context.Context, n int) {
	defer close(d.ended)
	for ctx.Err() == nil && len(d.got) < n {
		if err := d.visit(ctx, n, 1+d.random.IntN(100)); errors.Is(err, parley.ErrUnauthenticated) {
			return
		}
	}
}

// visit connects and takes at most so many letters.
func (d *device) visit(ctx context.Context, n, most int) error {
	c, err := d.s.dial(ctx, d.token, d.name)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	for delivery, err := range c.Inbox(ctx, client.AckWait(2*time.Second)) {
		if err != nil {
			if errors.Is(err, parley.ErrUnauthenticated) {
				return err
			}
			continue
		}
		if err := d.take(ctx, delivery); err != nil {
			return err
		}
		if most--; most == 0 || len(d.got) == n {
			return nil
		}
	}
	return ctx.Err()
}

// take judges one delivery and confirms most of them.
func (d *device) take(ctx context.Context, m *client.Delivery) error {
	switch seq, again := d.got[m.ID]; {
	case again && seq != m.Seq:
		d.t.Errorf("%s: %s came as seq %d and %d", d.name, m.ID, seq, m.Seq)
	case d.confirmed[m.Seq]:
		d.t.Errorf("%s: %s came again although its acknowledgement was confirmed", d.name, m.ID)
	case !again && m.Seq < d.last:
		d.t.Errorf("%s: %s came for the first time after a later letter", d.name, m.ID)
	case m.Sender.User != "bob" || m.Receipt != client.NoReceipt:
		d.t.Errorf("%s: %v is none of Bob's letters", d.name, m.Message)
	}
	d.got[m.ID] = m.Seq
	d.last = max(d.last, m.Seq)
	switch d.random.IntN(10) {
	case 0: // it forgets, and gets it again
		return nil
	case 1:
		m.AckSoon()
		return nil
	}
	err := m.Ack(ctx)
	if err == nil {
		d.confirmed[m.Seq] = true
	}
	return err
}

// expectEnd waits until the device has noticed that its token was revoked: in
// five seconds it has.
func (d *device) expectEnd(ctx context.Context) {
	d.t.Helper()
	select {
	case <-d.ended:
		if len(d.got) == letters {
			d.t.Log("the laptop had everything before its token was revoked")
		}
	case <-time.After(5 * time.Second):
		d.t.Errorf("%s goes on although its token was revoked", d.name)
	case <-ctx.Done():
	}
}

// check compares what the device has with what Bob sent.
func (d *device) check(n int) {
	d.t.Helper()
	last := parley.Seq(0)
	for i := range n {
		seq, ok := d.got[fmt.Sprintf(firstID, i)]
		if !ok || seq <= last {
			d.t.Errorf("%s: letter %d has seq %d after %d", d.name, i, seq, last)
		}
		last = max(last, seq)
	}
	if len(d.got) != n {
		d.t.Errorf("%s has %d letters, want %d", d.name, len(d.got), n)
	}
}

// guess tries what Carol may not do, again and again while the letters come, until
// ctx ends.
func guess(ctx context.Context, t *testing.T, s *server, token string) {
	tried := 0
	for ctx.Err() == nil {
		c, err := s.dial(ctx, token, "laptop")
		if err != nil {
			continue // the server is being killed
		}
		if attempt(ctx, t, c); ctx.Err() == nil {
			tried++
		}
		_ = c.Close()
	}
	if tried < 2 {
		t.Errorf("Carol tried everything %d times only", tried)
	}
}

// attempt tries everything once. What ctx has cut off tells nothing.
func attempt(ctx context.Context, t *testing.T, c *client.Client) {
	refused := func(what string, m any, got bool, err error) {
		if ctx.Err() == nil && (got || !errors.Is(err, parley.ErrForbidden)) {
			t.Errorf("Carol %s: %v, %v", what, m, err)
		}
	}
	page, err := c.History(ctx, client.HistoryQuery{Topic: "/$inbox/ann"})
	refused("reads Ann's inbox", page, len(page.Messages) > 0, err)
	for m, err := range c.Subscribe(ctx, "/$inbox/ann", client.After(0)) {
		refused("follows Ann's inbox", m, m != nil, err)
	}
	for m, err := range c.Durable(ctx, "/$inbox/ann", "laptop", client.After(0)) {
		refused("opens Ann's inbox as a durable subscription", m, m != nil, err)
	}
	inbox, err := c.InboxHistory(ctx, client.InboxQuery{})
	if ctx.Err() == nil && (err != nil || len(inbox.Entries) > 0) {
		t.Errorf("Carol's own inbox has %d messages, %v", len(inbox.Entries), err)
	}
}

// receipts reads Ann's inbox to the end, and expects that Bob is told of each
// letter once that it was delivered, and once that it was read.
func receipts(ctx context.Context, t *testing.T, s *server, bob string, phone *device) {
	t.Helper()
	ann, err := s.dial(ctx, phone.token, phone.name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ann.Close() }()
	if marker, err := ann.MarkRead(ctx, phone.last); err != nil || marker.Unread != 0 {
		t.Fatalf("Ann has read everything: %+v, %v", marker, err)
	}
	c, err := s.dial(ctx, bob, "desk")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	// What the phone forgot to acknowledge comes again, and is acknowledged now.
	var draining sync.WaitGroup
	defer draining.Wait()
	drain, enough := context.WithCancel(ctx)
	defer enough()
	draining.Go(func() {
		for m, err := range ann.Inbox(drain) {
			if err == nil {
				m.AckSoon()
			}
		}
	})
	delivered, read := map[string]int{}, map[string]int{}
	for m, err := range c.Inbox(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		switch m.Receipt {
		case client.Delivered:
			delivered[m.ID]++
		case client.Read:
			read[m.ID]++
		case client.NoReceipt: // the copy of his own letter
		}
		if err := m.Ack(ctx); err != nil {
			t.Fatal(err)
		}
		if len(delivered) == letters && len(read) == letters {
			break
		}
	}
	for i := range letters {
		if id := fmt.Sprintf(firstID, i); delivered[id] != 1 || read[id] != 1 {
			t.Errorf("of %s Bob got %d receipts of delivery and %d of reading", id, delivered[id], read[id])
		}
	}
}
