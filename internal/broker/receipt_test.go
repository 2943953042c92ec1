package broker_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
)

// receipts are what a user was told of their letters.
func receipts(tb testing.TB, b *broker.Broker, name string) []string {
	tb.Helper()
	var all []string
	for _, m := range inbox(tb, b, name) {
		kind := broker.ReceiptOf(m)
		if kind == broker.NoReceipt {
			continue
		}
		_, peer := m.Topic.Inbox()
		if m.Sender.User != peer {
			tb.Errorf("a receipt of %s is by %s", peer, m.Sender.User)
		}
		all = append(all, fmt.Sprint(kind, " ", peer, " ", m.ID, " ", string(m.Body)))
	}
	return all
}

func TestDeliveredReceipts(t *testing.T) {
	b := start(t, openLog(t), broker.Config{})
	ann := signIn(t, b, "ann", "phone")
	for i := range 5 {
		l := letter(fmt.Sprint(i), "x", "bob", "ann")
		l.Receipts = i != 2
		ann.send(l)
	}
	got := inbox(t, b, "bob")
	if len(got) != 5 {
		t.Fatal(topics(got))
	}
	// Two devices acknowledge at once, and a third one later.
	var devices sync.WaitGroup
	for range 2 {
		devices.Go(func() {
			if err := b.Delivered(t.Context(), "bob", got); err != nil {
				t.Error(err)
			}
		})
	}
	devices.Wait()
	if err := b.Delivered(t.Context(), "bob", got[:2]); err != nil {
		t.Fatal(err)
	}
	// Ann acknowledges her own copies and the receipts, of which nobody is told.
	if err := b.Delivered(t.Context(), "ann", inbox(t, b, "ann")); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i, m := range got {
		if i != 2 {
			want = append(want, fmt.Sprintf(`%d bob %d {"seq":%d}`, broker.Delivered, i, m.Seq))
		}
	}
	if told := receipts(t, b, "ann"); !slices.Equal(told, want) {
		t.Errorf("ann was told %q, want %q", told, want)
	}
	if told := receipts(t, b, "bob"); told != nil {
		t.Errorf("bob was told %q", told)
	}
	balanced(t, b)
}

// A device that acknowledges when the idempotency key of the receipt is long
// forgotten does not make another one.
func TestLateDevices(t *testing.T) {
	w := newTimes(t)
	r := &broker.Send{}
	for i := range 4 {
		l := letter(fmt.Sprint(i), "x", "bob")
		l.Receipts = true
		r.Letters = append(r.Letters, l)
	}
	if err := w.broker.Send(t.Context(), user("ann", ""), r); err != nil {
		t.Fatal(err)
	}
	got := inbox(t, w.broker, "bob")
	first := slices.Clone(got[1:3])
	for _, acked := range [][]*parley.Message{first, got, got} {
		if err := w.broker.Delivered(t.Context(), "bob", acked); err != nil {
			t.Fatal(err)
		}
		w.pass(10 * 24 * time.Hour)
	}
	if told := receipts(t, w.broker, "ann"); len(told) != 4 {
		t.Errorf("ann was told %q", told)
	}
}

func TestReadMarker(t *testing.T) {
	db := openLog(t)
	b := start(t, db, broker.Config{KV: db, Limits: broker.Limits{Unread: 8}})
	ann := signIn(t, b, "ann", "phone")
	for i := range 10 {
		l := letter(fmt.Sprint(i), "x", "bob")
		l.Receipts = i%2 == 0
		ann.send(l)
	}
	// What Bob has sent, and is told, is not unread; nor is what has expired.
	signIn(t, b, "bob", "old").send(letter("", "x", "ann", "bob"))
	late := letter("", "x", "bob")
	late.Message.Expires = time.Now().Add(-time.Second)
	ann.send(late)
	got := inbox(t, b, "bob")
	_, end, err := db.Bounds(t.Context(), "$inbox/bob")
	if err != nil {
		t.Fatal(err)
	}

	phone, tablet := signIn(t, b, "bob", "phone"), signIn(t, b, "bob", "tablet")
	idle := signIn(t, b, "bob", "watch") // without an open inbox
	eve := signIn(t, b, "eve", "phone")
	for _, c := range []*client{phone, tablet} {
		c.Subscribe(t.Context(), broker.Subscribe{Topic: "/$inbox/bob"})
		expect[*broker.Subscribed](c)
		expect[*broker.Live](c)
		if m := expect[*broker.ReadMarker](c); m.Sub == nil || m.Seq != 0 || m.Unread != 8 {
			t.Errorf("at first %+v", m)
		}
	}
	mark := func(c *client, to, want parley.Seq, unread int) {
		t.Helper()
		c.MarkRead(t.Context(), broker.MarkRead{Ref: "m", Seq: to})
		m := expect[*broker.ReadMarker](c)
		if m.Ref != "m" || (m.Sub != nil) != (c != idle) || m.Seq != want || m.Unread != unread {
			t.Errorf("marked %d: %+v, want %d with %d unread", to, m, want, unread)
		}
	}
	mark(phone, got[3].Seq, got[3].Seq, 6)
	if m := expect[*broker.ReadMarker](tablet); m.Ref != "" || m.Sub == nil || m.Seq != got[3].Seq || m.Unread != 6 {
		t.Errorf("the other device is told %+v", m)
	}
	mark(tablet, got[1].Seq, got[3].Seq, 6) // never back
	mark(idle, parley.MaxSeq, end, 0)
	for _, c := range []*client{phone, tablet} {
		if m := expect[*broker.ReadMarker](c); m.Seq != end || m.Unread != 0 {
			t.Errorf("the other device is told %+v", m)
		}
	}
	ann.send(letter("", "new", "bob"))
	for _, c := range []*client{phone, tablet} {
		c.texts(1)
	}
	mark(idle, 0, end, 1) // the next message is above what was marked
	for _, c := range []*client{idle, phone, tablet, eve} {
		if !c.idle() {
			t.Errorf("unexpected %#v", c.next())
		}
	}
	var want []string
	for i := 0; i < 10; i += 2 {
		want = append(want, fmt.Sprintf(`%d bob %d {"seq":%d}`, broker.Read, i, got[i].Seq))
	}
	if told := receipts(t, b, "ann"); !slices.Equal(told, want) {
		t.Errorf("ann was told %q, want %q", told, want)
	}
	for range 2 {
		if _, err := b.Erase(t.Context(), "bob"); err != nil {
			t.Fatal(err)
		}
	}
	mark(idle, 0, 0, 0)
	for _, who := range []*account.Principal{account.Nobody(), account.Anyone(parley.Identity{})} {
		c := connect(t, b, broker.SessionConfig{Principal: who})
		c.MarkRead(t.Context(), broker.MarkRead{Ref: "m"})
		if e := expect[*broker.Failed](c); e.Ref != "m" || !errors.Is(e.Err, parley.ErrForbidden) && !errors.Is(e.Err, parley.ErrUnauthenticated) {
			t.Errorf("%+v", e)
		}
	}
	balanced(t, b)
}

// Devices that mark at once end with the highest mark, and each receipt is there
// once.
func TestDevicesMarkAtOnce(t *testing.T) {
	db := openLog(t)
	b := start(t, db, broker.Config{KV: db})
	ann := signIn(t, b, "ann", "phone")
	for i := range 50 {
		l := letter(fmt.Sprint(i), "x", "bob")
		l.Receipts = true
		ann.send(l)
	}
	got := inbox(t, b, "bob")
	var devices sync.WaitGroup
	for d := range 4 {
		c := signIn(t, b, "bob", fmt.Sprint(d))
		devices.Go(func() {
			last := parley.Seq(0)
			for i := d; i < len(got)-3+d; i += 1 + d {
				c.MarkRead(t.Context(), broker.MarkRead{Seq: got[i].Seq})
				m, ok := c.next().(*broker.ReadMarker)
				if !ok || m.Seq < max(last, got[i].Seq) {
					t.Errorf("marked %d after %d: %+v", got[i].Seq, last, m)
					return
				}
				last = m.Seq
			}
		})
	}
	devices.Wait()
	c := signIn(t, b, "bob", "last")
	c.MarkRead(t.Context(), broker.MarkRead{Seq: got[49].Seq})
	if m := expect[*broker.ReadMarker](c); m.Seq != got[49].Seq || m.Unread != 0 {
		t.Errorf("in the end %+v", m)
	}
	if told := receipts(t, b, "ann"); len(told) != 50 || len(slices.Compact(slices.Sorted(slices.Values(told)))) != 50 {
		t.Errorf("ann was told %q", told)
	}
}

// A subscription to a conversation, or one that only replays, is no open inbox.
func TestOpenInbox(t *testing.T) {
	db := openLog(t)
	b := start(t, db, broker.Config{KV: db})
	signIn(t, b, "ann", "").send(letter("", "x", "bob"))
	c := signIn(t, b, "bob", "")
	c.Subscribe(t.Context(), broker.Subscribe{Topic: "/$inbox/bob/ann"})
	expect[*broker.Subscribed](c)
	expect[*broker.Live](c)
	c.Subscribe(t.Context(), broker.Subscribe{Topic: "/$inbox/bob", ReplayOnly: true, Start: broker.Start{Kind: broker.AfterSeq}})
	expect[*broker.Subscribed](c)
	expect[*broker.ReplayStart](c)
	c.texts(1)
	expect[*broker.ReplayEnd](c)
	c.Subscribe(t.Context(), broker.Subscribe{Topic: "/$inbox/bob", Start: broker.Start{Kind: broker.AfterSeq}})
	expect[*broker.Subscribed](c)
	expect[*broker.ReplayStart](c)
	if m := expect[*broker.ReadMarker](c); m.Unread != 1 {
		t.Errorf("got %+v", m)
	}
	if span, err := b.Count(t.Context(), user("bob", ""), backend.Query{Topic: "/$inbox/bob/ann"}); err != nil || span.Count != 1 {
		t.Errorf("%+v, %v", span, err)
	}
}
