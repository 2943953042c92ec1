package client_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// dialAs connects to a real server in open mode as a user.
func dialAs(t *testing.T, url, user, device string) *client.Client {
	t.Helper()
	return dialOver(t, client.DialWebSocket, url, client.Options{User: user, Device: device})
}

func dialOver(t *testing.T, open opener, url string, o client.Options) *client.Client {
	t.Helper()
	o.Backoff = quick()
	c, err := client.DialWith(t.Context(), url, o, open)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// letter is a letter with a text.
func letter(text string, to ...string) client.Letter {
	return client.Letter{To: to, Body: []byte(text)}
}

// acked reads n deliveries, acknowledges each and returns their texts.
func acked(t *testing.T, loop iter.Seq2[*client.Delivery, error], n int) []string {
	t.Helper()
	var got []string
	for d, err := range loop {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(d.Body))
		if err := d.Ack(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(got) == n {
			break
		}
	}
	return got
}

func TestServerSends(t *testing.T) {
	s := servertest.Start(t)
	bob := dialAs(t, s.URL, "Bob", "laptop")
	me, err := bob.WhoAmI(t.Context())
	if err != nil || me.User != "bob" || me.Device != "laptop" || !me.Expires.IsZero() {
		t.Fatalf("WhoAmI = %+v, %v", me, err)
	}
	l := client.Letter{To: []string{"ann", "CAROL"}, Body: []byte{0xff}, ID: "m-1", Header: `{"k":"v"}`, Expires: time.Now().Add(time.Hour)}
	sent, err := bob.Send(t.Context(), l)
	if err != nil || sent.ID != "m-1" || len(sent.Recipients) != 2 || sent.Recipients[1].User != "carol" || sent.Recipients[0].Seq == 0 {
		t.Fatalf("Send = %+v, %v", sent, err)
	}
	again, err := bob.Send(t.Context(), l)
	if err != nil || again.Recipients[0].Seq != sent.Recipients[0].Seq || !again.Recipients[1].Duplicate {
		t.Errorf("sending again = %+v, %v; want %+v", again, err, sent)
	}
	l.Body = nil
	if _, err := bob.Send(t.Context(), l); !errors.Is(err, parley.ErrConflict) {
		t.Errorf("another letter of the same id: %v", err)
	}
	ann := dialAs(t, s.URL, "ann", "")
	page, err := ann.InboxHistory(t.Context(), client.InboxQuery{Peer: "Bob"})
	if err != nil || len(page.Entries) != 1 {
		t.Fatalf("InboxHistory = %+v, %v", page, err)
	}
	e := page.Entries[0]
	if e.ID != "m-1" || e.Sender.User != "bob" || e.Header != `{"k":"v"}` || string(e.Body) != "\xff" || e.Peer() != "bob" || e.Expires.IsZero() {
		t.Errorf("got %+v", e.Message)
	}
	if page, err := ann.InboxHistory(t.Context(), client.InboxQuery{Peer: "carol"}); err != nil || len(page.Entries) != 0 {
		t.Errorf("with Carol: %+v, %v", page, err)
	}
	if page, err := bob.InboxHistory(t.Context(), client.InboxQuery{}); err != nil || len(page.Entries) != 2 {
		t.Errorf("Bob has %d, %v; want a copy for each recipient", len(page.Entries), err)
	}
	all, err := bob.Sessions(t.Context())
	if err != nil || len(all) != 1 || all[0].Device != "laptop" || !all[0].Current || all[0].Protocol != "native" {
		t.Errorf("Sessions = %+v, %v", all, err)
	}
}

func TestSendAllInOrder(t *testing.T) {
	s := servertest.Start(t)
	bob := dialAs(t, s.URL, "bob", "")
	var letters []client.Letter
	for _, n := range numbers(1, 2500) {
		letters = append(letters, letter(n, "ann"))
	}
	sent, err := bob.SendAll(t.Context(), letters)
	if err != nil || len(sent) != len(letters) {
		t.Fatalf("SendAll = %d, %v", len(sent), err)
	}
	last := parley.Seq(0)
	for i, s := range sent {
		if s.ID == "" || len(s.Recipients) != 1 || s.Recipients[0].Seq <= last {
			t.Fatalf("letter %d: %+v after %d", i, s, last)
		}
		last = s.Recipients[0].Seq
	}
}

func TestSendRefusesWhatCannotBeSent(t *testing.T) {
	s := servertest.Start(t)
	nobody, bob := dialServer(t, s.URL), dialAs(t, s.URL, "bob", "")
	if sent, err := nobody.Send(t.Context(), letter("hi", "ann")); err == nil || sent.ID == "" {
		t.Errorf("nobody sends: %+v, %v", sent, err)
	}
	for name, l := range map[string]client.Letter{
		"nobody":        letter("hi"),
		"a bad name":    letter("hi", "a/b"),
		"twice the one": letter("hi", "ann", "Ann"),
		"header":        {To: []string{"ann"}, Header: "k: v"},
		"id":            {To: []string{"ann"}, ID: "\xff"},
		"expired":       {To: []string{"ann"}, Expires: time.Now().Add(-time.Hour)},
		"too long":      {To: []string{"ann"}, Body: make([]byte, 2<<20)},
	} {
		if _, err := bob.Send(t.Context(), l); !errors.Is(err, parley.ErrInvalid) {
			t.Errorf("%s: Send = %v, want %v", name, err, parley.ErrInvalid)
		}
		if _, err := bob.SendAll(t.Context(), []client.Letter{letter("hi", "ann"), l}); !errors.Is(err, parley.ErrInvalid) {
			t.Errorf("%s: SendAll = %v, want %v", name, err, parley.ErrInvalid)
		}
	}
}

func TestInbox(t *testing.T) {
	s := servertest.Start(t)
	bob, ann := dialAs(t, s.URL, "bob", ""), dialAs(t, s.URL, "ann", "phone")
	for _, n := range numbers(1, 5) {
		if _, err := bob.Send(t.Context(), letter(n, "ann")); err != nil {
			t.Fatal(err)
		}
	}
	if got := acked(t, ann.Inbox(t.Context()), 3); !slices.Equal(got, numbers(1, 3)) {
		t.Errorf("got %q", got)
	}
	// The next loop goes on where the one before was, and one of another device
	// begins at the beginning. ReplayOnly ends both.
	if got := acked(t, ann.Inbox(t.Context(), client.ReplayOnly()), 0); !slices.Equal(got, numbers(4, 5)) {
		t.Errorf("the second loop got %q", got)
	}
	if got := acked(t, ann.Inbox(t.Context(), client.ReplayOnly()), 0); len(got) != 0 {
		t.Errorf("the third loop got %q", got)
	}
	laptop := dialAs(t, s.URL, "ann", "laptop")
	if got := acked(t, laptop.Inbox(t.Context(), client.ReplayOnly()), 0); !slices.Equal(got, numbers(1, 5)) {
		t.Errorf("the other device got %q", got)
	}
	late := dialAs(t, s.URL, "ann", "late")
	if got := acked(t, late.Inbox(t.Context(), client.ReplayOnly(), client.Last(2)), 0); !slices.Equal(got, numbers(4, 5)) {
		t.Errorf("the late device got %q", got)
	}
}

// What is not acknowledged comes again: after a nak, when AckWait is over, and
// when another loop takes over.
func TestInboxComesAgain(t *testing.T) {
	s := servertest.Start(t)
	bob, ann := dialAs(t, s.URL, "bob", ""), dialAs(t, s.URL, "ann", "phone")
	if _, err := bob.Send(t.Context(), letter("hi", "ann")); err != nil {
		t.Fatal(err)
	}
	var attempts []int
	for d, err := range ann.Inbox(t.Context(), client.AckWait(200*time.Millisecond)) {
		if err != nil {
			t.Fatal(err)
		}
		attempts = append(attempts, d.Attempt)
		if len(attempts) == 1 {
			d.Nak(10 * time.Millisecond)
		}
		if len(attempts) == 3 {
			break
		}
	}
	if !slices.Equal(attempts, []int{1, 2, 3}) {
		t.Errorf("attempts %v", attempts)
	}
	for d, err := range ann.Inbox(t.Context()) {
		if err != nil || d.Attempt != 4 {
			t.Fatalf("attempt %d, %v; want the fourth", d.Attempt, err)
		}
		if err := d.Reject(t.Context(), "no such order"); err != nil {
			t.Error(err)
		}
		break
	}
	if got := acked(t, ann.Inbox(t.Context(), client.ReplayOnly()), 0); len(got) != 0 {
		t.Errorf("what was rejected comes again: %q", got)
	}
}

func TestReceipts(t *testing.T) {
	s := servertest.Start(t)
	bob, ann := dialAs(t, s.URL, "bob", "pc"), dialAs(t, s.URL, "ann", "phone")
	l := letter("hi", "ann")
	l.Receipts = true
	sent, err := bob.Send(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	markers := make(chan client.ReadMarker, 10)
	acked(t, ann.Inbox(t.Context(), client.OnRead(func(m client.ReadMarker) { markers <- m })), 1)
	marker, err := ann.MarkRead(t.Context(), sent.Recipients[0].Seq)
	if err != nil || marker.Seq != sent.Recipients[0].Seq || marker.Unread != 0 {
		t.Errorf("MarkRead = %+v, %v", marker, err)
	}
	var kinds []client.ReceiptKind
	for d, err := range bob.Inbox(t.Context(), client.Max(2)) {
		if err != nil {
			t.Fatal(err)
		}
		if d.ID != sent.ID || d.Peer() != "ann" {
			t.Errorf("got %+v", d.Message)
		}
		kinds = append(kinds, d.Receipt)
		if err := d.Ack(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(kinds, []client.ReceiptKind{client.Delivered, client.Read}) {
		t.Errorf("got %q", kinds)
	}
	for m := range bob.Subscribe(t.Context(), parley.InboxTopic("bob"), client.After(0), client.ReplayOnly()) {
		if e := client.EntryOf(m); (e.Receipt == client.NoReceipt) != (string(m.Body) == "hi") {
			t.Errorf("%s is %q", m.Topic, e.Receipt)
		}
	}
}

// A newer client of the same device takes the place of the older, which does not
// fight for it.
func TestReplaced(t *testing.T) {
	s := servertest.Start(t)
	first, second := dialAs(t, s.URL, "ann", "phone"), dialAs(t, s.URL, "ann", "phone")
	bob := dialAs(t, s.URL, "bob", "")
	ends := make(chan error)
	var reading sync.WaitGroup
	reading.Go(func() {
		for d, err := range first.Inbox(t.Context()) {
			switch {
			case err != nil:
				ends <- err
			case string(d.Body) == "one":
				ends <- d.Ack(t.Context())
			}
		}
	})
	defer reading.Wait()
	if _, err := bob.Send(t.Context(), letter("one", "ann")); err != nil {
		t.Fatal(err)
	}
	if err := <-ends; err != nil {
		t.Fatal(err)
	}
	if _, err := bob.Send(t.Context(), letter("two", "ann")); err != nil {
		t.Fatal(err)
	}
	if got := acked(t, second.Inbox(t.Context()), 1); !slices.Equal(got, []string{"two"}) {
		t.Errorf("the second got %q", got)
	}
	if err := <-ends; !errors.Is(err, parley.ErrConflict) {
		t.Errorf("the first ends with %v", err)
	}
}

// Several loops of one name take turns.
func TestDurable(t *testing.T) {
	s := servertest.Start(t)
	pub, one, two := dialServer(t, s.URL), dialAs(t, s.URL, "billing", ""), dialAs(t, s.URL, "billing", "")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const n = 200
	var mu sync.Mutex
	got := map[string]int{}
	var loops sync.WaitGroup
	shares := make([]int, 2)
	for i, c := range []*client.Client{one, two} {
		loops.Go(func() {
			for d, err := range c.Durable(ctx, "/orders", "billing", client.After(0), client.MaxInFlight(5)) {
				if err != nil {
					t.Error(err)
					return
				}
				if err := d.Ack(ctx); err != nil {
					t.Error(err)
				}
				mu.Lock()
				shares[i]++
				got[string(d.Body)]++
				if len(got) == n {
					cancel()
				}
				mu.Unlock()
			}
		})
	}
	for _, text := range numbers(1, n) {
		if _, err := pub.Publish(t.Context(), parley.Message{Topic: "/orders/eu", Body: []byte(text)}); err != nil {
			t.Fatal(err)
		}
	}
	loops.Wait()
	for _, text := range numbers(1, n) {
		if got[text] != 1 {
			t.Errorf("%s came %d times", text, got[text])
		}
	}
	if shares[0] == 0 || shares[1] == 0 {
		t.Errorf("shares %v", shares)
	}
}

func TestDeliveriesRefuseNonsense(t *testing.T) {
	c := dialAs(t, servertest.Start(t).URL, "ann", "phone")
	for name, loop := range map[string]iter.Seq2[*client.Delivery, error]{
		"topic":            c.Durable(t.Context(), "orders", "x"),
		"name":             c.Durable(t.Context(), "/orders", "a/b"),
		"replay":           c.Durable(t.Context(), "/orders", "x", client.After(0), client.ReplayOnly()),
		"flight":           c.Inbox(t.Context(), client.MaxInFlight(-1)),
		"too much flight":  c.Inbox(t.Context(), client.MaxInFlight(1<<30)),
		"wait":             c.Inbox(t.Context(), client.AckWait(-1)),
		"inbox to no end":  c.Inbox(t.Context(), client.MaxDeliver(3)),
		"wait of a moment": c.Inbox(t.Context(), client.AckWait(time.Millisecond)),
	} {
		rounds := 0
		for _, err := range loop {
			if rounds++; !errors.Is(err, parley.ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if rounds != 1 {
			t.Errorf("%s: %d rounds", name, rounds)
		}
	}
	for _, err := range c.Subscribe(t.Context(), "/a", client.AckWait(time.Second)) {
		if !errors.Is(err, parley.ErrInvalid) {
			t.Errorf("AckWait without acks: %v", err)
		}
	}
}

// correspond has Bob send numbers to Ann, who acknowledges them in various ways,
// over connections that open makes, and checks that her loop shows each once and
// in order.
func correspond(t *testing.T, open opener, url, prefix string, n int) {
	t.Helper()
	bob := dialOver(t, open, url, client.Options{User: prefix + "bob", Device: "pc"})
	ann := dialOver(t, open, url, client.Options{User: prefix + "ann", Device: "phone"})
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() {
		for _, text := range numbers(1, n) {
			if _, err := bob.Send(t.Context(), letter(text, prefix+"ann")); err != nil {
				t.Errorf("%s: %v", text, err)
			}
		}
	})
	var got []string
	for d, err := range ann.Inbox(t.Context(), client.Max(n)) {
		if err != nil {
			t.Errorf("after %d: %v", len(got), err)
			continue
		}
		got = append(got, string(d.Body))
		if len(got)%2 == 0 {
			d.AckSoon()
		} else if err := d.Ack(t.Context()); err != nil {
			t.Errorf("ack of %s: %v", d.Body, err)
		}
	}
	if !slices.Equal(got, numbers(1, n)) {
		t.Errorf("%s: got %q", prefix, got)
	}
	if t.Failed() {
		return
	}
	// Nothing that was confirmed comes again.
	for d, err := range ann.Inbox(t.Context(), client.ReplayOnly()) {
		if err != nil {
			t.Error(err)
		} else if i := slices.Index(got, string(d.Body)); i%2 == 0 {
			t.Errorf("%s comes again though its ack was confirmed", d.Body)
		}
	}
	page, err := bob.InboxHistory(t.Context(), client.InboxQuery{})
	if err != nil || len(page.Entries) != n {
		t.Errorf("Bob sent %d, %v; want %d", len(page.Entries), err, n)
	}
}

func TestInboxIsShownOnceWhereverItIsCut(t *testing.T) {
	s := servertest.Start(t)
	for _, lose := range []bool{false, true} {
		for at := 7; at <= 45 && !t.Failed(); at++ {
			once := at
			cut := cutAfter(func() int {
				defer func() { once = 0 }()
				return once
			})
			correspond(t, cut.under(client.DialWebSocket, lose), s.RPC, fmt.Sprintf("%v%d-", lose, at), 5)
		}
	}
}

func TestInboxIsShownOnceHoweverOftenItIsCut(t *testing.T) {
	s := servertest.Start(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range 6 {
		cut := cutAfter(func() int { return 7 + r.IntN(30) })
		correspond(t, cut.under(client.DialWebSocket, i%2 == 0), s.RPC, fmt.Sprintf("r%d-", i), 30)
	}
}

// Restarts of the server, clean ones and crashes of the store's file aside, are
// pauses: every letter is shown once.
func TestInboxAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	s := servertest.Start(t, servertest.Dir(dir))
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	again := func(c *server.Config) { c.HTTP.Listen = u.Host }
	var tasks sync.WaitGroup
	done := make(chan struct{})
	tasks.Go(func() {
		defer close(done)
		correspond(t, client.DialWebSocket, s.RPC, "", 300)
	})
	for restarts := 0; ; restarts++ {
		select {
		case <-done:
			if restarts < 2 {
				t.Logf("only %d restarts", restarts)
			}
			tasks.Wait()
			return
		case <-time.After(150 * time.Millisecond):
			if restarts < 5 {
				s.Stop()
				s = servertest.Start(t, servertest.Dir(dir), again)
			}
		}
	}
}

// A letter with an id and a device of the program's own is stored once, even by
// another process.
func TestSendAgainAfterARestart(t *testing.T) {
	s := servertest.Start(t)
	l := client.Letter{To: []string{"ann"}, ID: "invoice-7", Body: []byte("7")}
	first, err := dialAs(t, s.URL, "billing", "host-1").Send(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	second, err := dialAs(t, s.URL, "billing", "host-1").Send(t.Context(), l)
	if err != nil || !second.Recipients[0].Duplicate || second.Recipients[0].Seq != first.Recipients[0].Seq {
		t.Errorf("got %+v, %v; want a duplicate of %+v", second, err, first)
	}
}

// A loop that never settles what it is shown, which others of its name then get,
// does not remember that for ever.
func TestUnsettledIsForgotten(t *testing.T) {
	const inFlight, most = 100, 10_000 + 2*100 + 1
	if n := client.Hold(t, 30_000, inFlight); n > most || n < inFlight {
		t.Errorf("it holds %d messages", n)
	}
}
