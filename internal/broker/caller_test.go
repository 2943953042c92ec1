package broker_test

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/clock"
)

// granted is a user with those grants.
func granted(tb testing.TB, name string, grants ...string) *account.Principal {
	tb.Helper()
	p := &account.Principal{Identity: parley.Identity{User: name}}
	for _, s := range grants {
		g, err := account.ParseGrant(s)
		if err != nil {
			tb.Fatal(err)
		}
		p.Grants = append(p.Grants, g)
	}
	return p
}

// TestMatrix does every operation in every role on every kind of topic, in a
// session and without one, and finds each time what Principal.Allow says, word for
// word; and what is refused tells nothing of what is there (S2, S12).
func TestMatrix(t *testing.T) {
	db := openLog(t)
	b := start(t, db, broker.Config{KV: db})
	expired := granted(t, "ann", "all:/*")
	expired.Expires = time.Now().Add(-time.Second)
	roles := map[string]*account.Principal{
		"open": account.Anyone(parley.Identity{}), "open, named": account.Anyone(parley.Identity{User: "ann"}),
		"nobody": account.Nobody(), "without grants": granted(t, "ann"),
		"with grants": granted(t, "ann", "publish,subscribe:/orders/eu", "history:/orders/*/c", "all:/u/{user}", "send:/$inbox/*"),
		"reader":      granted(t, "ann", "history:/orders"), "listener": granted(t, "ann", "subscribe:/orders"),
		"key": {Grants: granted(t, "", "all:/orders", "all:/$inbox/*", "all:/u/{user}").Grants},
		"all": granted(t, "ann", "all:/*"), "admin": granted(t, "root", "admin:/*"), "expired": expired,
	}
	topics := []parley.Topic{
		"/", "/orders", "/orders/eu", "/orders/eu/c", "/other", "/u/ann", "/u/bob", "/$presence/ann", "/$inbox",
		"/$inbox/ann", "/$inbox/ann/bob", "/$inbox/bob", "/$inbox/bob/ann", "/$inbox/nobody-knows",
	}
	for _, topic := range []string{"/", "/orders/eu/c", "/other", "/u/ann", "/u/bob"} {
		publish(t, b, text(topic, "x"))
	}
	signIn(t, b, "bob", "").send(letter("", "x", "ann"))
	cells := 0
	for name, who := range roles {
		for _, topic := range topics {
			for what, got := range tried(t, b, who, topic) {
				cells++
				want := wanted(who, what, topic)
				if who == expired {
					want = parley.ErrUnauthenticated
				}
				if want == nil && got != nil || !errors.Is(got, want) {
					t.Errorf("%s: %s %s says %v, want %v", name, what, topic, got, want)
				}
			}
		}
	}
	t.Logf("%d cells", cells)
	balanced(t, b)
}

// wanted is what Principal.Allow says.
func wanted(who *account.Principal, what string, topic parley.Topic) error {
	needs := map[string][]account.Operation{
		"publish": {account.Publish}, "send": {account.Send}, "history": {account.History}, "count": {account.History},
		"live": {account.Subscribe}, "replay": {account.History}, "both": {account.Subscribe, account.History},
	}
	what, _, _ = strings.Cut(what, ",")
	for _, o := range needs[what] {
		if err := who.Allow(o, topic); err != nil {
			return err
		}
	}
	return nil
}

// tried is what came of each operation on topic.
func tried(t *testing.T, b *broker.Broker, who *account.Principal, topic parley.Topic) map[string]error {
	t.Helper()
	got := map[string]error{}
	q := backend.Query{Topic: topic}
	one := func() *broker.Publish {
		return &broker.Publish{Messages: []broker.Publication{{Message: text(string(topic), "x")}}}
	}
	p := one()
	if err := b.Publish(t.Context(), who, p); err != nil {
		t.Fatal(err)
	}
	got["publish, no session"] = p.Messages[0].Result.Err
	_, got["history, no session"] = b.History(t.Context(), who, q)
	_, got["count, no session"] = b.Count(t.Context(), who, q)
	to, _ := topic.Inbox()
	send := &broker.Send{Letters: []broker.Letter{letter("", "x", to)}}
	sent := func() error {
		if err := send.Letters[0].Err; err != nil {
			return err
		}
		return send.Letters[0].Results[0].Err
	}
	sends := to != "" && topic == parley.InboxTopic(to) && (who.User != "" || !who.Known())
	if sends {
		if err := b.Send(t.Context(), who, send); err != nil {
			t.Fatal(err)
		}
		got["send, no session"] = sent()
	}
	if !who.Expires.IsZero() {
		return got // a session would end before it was asked
	}
	failed := func(e broker.Event) error {
		if f, ok := e.(*broker.Failed); ok {
			return f.Err
		}
		return nil
	}
	c := connect(t, b, broker.SessionConfig{Principal: who})
	defer c.Close()
	c.Publish([]*broker.Publish{one()})
	got["publish"] = expect[*broker.Published](c).Publishes[0].Messages[0].Result.Err
	c.History(t.Context(), "", q)
	got["history"] = failed(c.next())
	c.Count(t.Context(), "", q)
	got["count"] = failed(c.next())
	if sends {
		send = &broker.Send{Letters: []broker.Letter{letter("", "x", to)}}
		c.Send(send)
		expect[*broker.Sent](c)
		got["send"] = sent()
	}
	for what, r := range map[string]broker.Subscribe{
		"live": {}, "replay": {ReplayOnly: true, Start: broker.Start{Kind: broker.AfterSeq}}, "both": {Start: broker.Start{Kind: broker.AfterSeq}},
	} {
		c := connect(t, b, broker.SessionConfig{Principal: who})
		r.Topic = topic
		c.Subscribe(t.Context(), r)
		got[what] = failed(c.next())
		c.Close()
	}
	return got
}

func subscribe(c *client, topic parley.Topic) *broker.Subscription {
	c.tb.Helper()
	c.Subscribe(c.tb.Context(), broker.Subscribe{Topic: topic})
	sub := expect[*broker.Subscribed](c).Sub
	expect[*broker.Live](c)
	return sub
}

// A refreshed credential counts at once, also for what was subscribed before.
func TestSetPrincipal(t *testing.T) {
	b := start(t, openLog(t), broker.Config{})
	c := connect(t, b, broker.SessionConfig{Principal: account.Nobody()})
	set := func(p *account.Principal, want error) {
		t.Helper()
		if err := c.SetPrincipal(p); !errors.Is(err, want) {
			t.Errorf("%+v: got %v, want %v", p.Identity, err, want)
		}
	}
	phone := granted(t, "ann", "all:/a", "all:/b", "publish:/c")
	phone.Device = "phone"
	set(phone, nil)
	a, other := subscribe(c, "/a"), subscribe(c, "/b/x")
	c.Publish([]*broker.Publish{{Messages: []broker.Publication{{Message: text("/c", "x")}}}})
	expect[*broker.Published](c)

	for _, wrong := range []*account.Principal{
		granted(t, "bob", "all:/*"), account.Nobody(), account.Anyone(parley.Identity{}), {Identity: parley.Identity{User: "ann", Device: "tablet"}},
	} {
		set(wrong, parley.ErrForbidden)
	}
	over := granted(t, "ann", "all:/*")
	over.Expires = time.Now().Add(-time.Second)
	set(over, parley.ErrUnauthenticated)

	set(granted(t, "ann", "all:/b"), nil)
	if id := c.Identity(); id != phone.Identity {
		t.Errorf("the device is forgotten: %+v", id)
	}
	if e := expect[*broker.Ended](c); e.Sub != a || !errors.Is(e.Err, parley.ErrForbidden) {
		t.Errorf("got %+v", e)
	}
	publish(t, b, text("/a", "unheard"))
	publish(t, b, text("/b/x", "heard"))
	if m := expect[*broker.Messages](c); m.Sub != other || string(m.Batch.Messages[0].Body) != "heard" {
		t.Errorf("got %+v", m)
	}
	c.Publish([]*broker.Publish{{Messages: []broker.Publication{{Message: text("/c", "x")}}}})
	if err := expect[*broker.Published](c).Publishes[0].Messages[0].Result.Err; !errors.Is(err, parley.ErrForbidden) {
		t.Errorf("what was allowed before says %v", err)
	}
	if n := b.Stats().Subscriptions; n != 1 {
		t.Errorf("%d subscriptions", n)
	}
}

// S4: a revocation in the middle of a replay, of live messages and of a queue
// that does not move ends all three.
func TestRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate{openLog(t), make(chan struct{}, 1000)}
		b := start(t, g, broker.Config{})
		for range 20 {
			g.open <- struct{}{}
		}
		for range 20 {
			publish(t, b, text("/big", strings.Repeat("x", 100_000)))
		}
		all := func() *account.Principal { return granted(t, "ann", "all:/*") }
		replaying := connect(t, b, broker.SessionConfig{Principal: all()})
		replaying.Subscribe(t.Context(), broker.Subscribe{Topic: "/big", Start: broker.Start{Kind: broker.AfterSeq}})
		expect[*broker.Subscribed](replaying)
		expect[*broker.ReplayStart](replaying)
		expect[*broker.Messages](replaying)
		replaying.due = nil
		live := connect(t, b, broker.SessionConfig{Principal: all()})
		subscribe(live, "/a")
		pages := connect(t, b, broker.SessionConfig{Principal: all()})
		pages.History(t.Context(), "", backend.Query{Topic: "/big"})
		queued := connect(t, b, broker.SessionConfig{Principal: all()})
		for i := range 5 {
			queued.Publish([]*broker.Publish{{Ref: fmt.Sprint(i), Messages: []broker.Publication{{Message: text("/a", "x")}}}})
			synctest.Wait() // the first is being stored, the others wait
		}
		letters := connect(t, b, broker.SessionConfig{Principal: user("ann", "")})
		letters.Send(&broker.Send{Letters: []broker.Letter{letter("", "x", "bob")}})
		other := connect(t, b, broker.SessionConfig{Principal: granted(t, "bob", "all:/*")})
		subscribe(other, "/a")

		began := time.Now()
		match := func(p *account.Principal) bool { return p.User == "ann" }
		if n := b.Revoke(match, "no more"); n != 5 {
			t.Errorf("%d sessions were revoked", n)
		}
		if n := b.Revoke(match, "no more"); n != 0 {
			t.Errorf("%d sessions were revoked again", n)
		}
		refused := 0
		for _, c := range []*client{replaying, live, pages, queued, letters} {
			c.Publish([]*broker.Publish{{Messages: []broker.Publication{{Message: text("/a", "late")}}}})
			c.History(t.Context(), "", backend.Query{Topic: "/big"})
			c.Subscribe(t.Context(), broker.Subscribe{Topic: "/a"})
			if err := c.SetPrincipal(all()); !errors.Is(err, parley.ErrUnauthenticated) {
				t.Errorf("a new principal for what is over: %v", err)
			}
			for over := false; !over; {
				switch e := c.next().(type) {
				case *broker.Published:
					if err := e.Publishes[0].Messages[0].Result.Err; !errors.Is(err, parley.ErrUnauthenticated) {
						t.Errorf("queued: %v", err)
					}
					refused++
				case *broker.Sent:
					if err := e.Send.Letters[0].Results[0].Err; !errors.Is(err, parley.ErrUnauthenticated) {
						t.Errorf("queued letter: %v", err)
					}
					refused++
				case *broker.Bye:
					if e.Code != broker.ByeRevoked || e.Reason != "no more" {
						t.Errorf("goodbye %+v", e)
					}
					over = true
				default:
					t.Errorf("unexpected %#v", e)
				}
			}
		}
		if refused != 5 {
			t.Errorf("%d of 5 that waited were refused", refused)
		}
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("it took %v", d)
		}
		close(g.open)
		publish(t, b, text("/a", "end"))
		if got := other.texts(2); !slices.Equal(got, []string{"x", "end"}) {
			t.Errorf("stored were %v", got)
		}
		if !other.idle() {
			t.Errorf("unexpected %#v", other.next())
		}
		balanced(t, b)
	})
}

// S4 and R16: a session ends when its principal expires, whatever the wall clock
// says meanwhile, and later when it is refreshed.
func TestExpiry(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, by := range []time.Duration{0, time.Hour, -time.Hour, year, -year} {
		for _, refresh := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v,%v", by, refresh), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var off atomic.Int64
					b := start(t, openLog(t), broker.Config{Clock: clock.New(clock.Options{
						Wall:   func() time.Time { return time.Now().Add(time.Duration(off.Load())) },
						Logger: slog.New(slog.DiscardHandler),
					})})
					lasting := func(d time.Duration) *account.Principal {
						p := granted(t, "ann", "all:/*")
						p.Expires = time.Now().Add(d)
						return p
					}
					c := connect(t, b, broker.SessionConfig{Principal: lasting(4 * time.Second)})
					subscribe(c, "/a")
					began, ends := time.Now(), 4*time.Second
					if refresh {
						ends = 6 * time.Second
						if err := c.SetPrincipal(lasting(ends)); err != nil {
							t.Fatal(err)
						}
					}
					time.Sleep(time.Second)
					off.Store(int64(by))
					time.Sleep(ends - 2*time.Second)
					publish(t, b, text("/a", "heard"))
					c.texts(1)
					c.Publish([]*broker.Publish{{Messages: []broker.Publication{{Message: text("/b", "x")}}}})
					if err := expect[*broker.Published](c).Publishes[0].Messages[0].Result.Err; err != nil {
						t.Errorf("refused after %v: %v", time.Since(began), err)
					}
					if e := expect[*broker.Bye](c); e.Code != broker.ByeExpired || time.Since(began) != ends {
						t.Errorf("goodbye %+v after %v", e, time.Since(began))
					}
					if by < 0 {
						return
					}
					// Who comes later has a credential of the time that it is now said to be.
					later := connect(t, b, broker.SessionConfig{Principal: lasting(by + time.Second)})
					began = time.Now()
					if e := expect[*broker.Bye](later); e.Code != broker.ByeExpired || time.Since(began) != time.Second {
						t.Errorf("later: goodbye %+v after %v", e, time.Since(began))
					}
				})
			})
		}
	}
}

func TestListSessions(t *testing.T) {
	b := start(t, openLog(t), broker.Config{})
	list := func(c *client) []broker.SessionInfo {
		t.Helper()
		c.ListSessions("l")
		e := expect[*broker.Sessions](c)
		if e.Ref != "l" {
			t.Errorf("the answer is to %q", e.Ref)
		}
		return e.Sessions
	}
	anyone := connect(t, b, broker.SessionConfig{})
	connect(t, b, broker.SessionConfig{})
	phone := connect(t, b, broker.SessionConfig{Principal: user("ann", "phone"), Protocol: "native", Remote: "1.2.3.4:5"})
	later := connect(t, b, broker.SessionConfig{Principal: account.Nobody(), Protocol: "titan"})
	signIn(t, b, "bob", "phone")
	gone := signIn(t, b, "ann", "gone")
	if err := later.SetPrincipal(user("ann", "tablet")); err != nil {
		t.Fatal(err)
	}
	gone.Close()
	gone.Close()
	got := list(phone)
	if len(got) != 2 || got[0].Protocol != "native" || got[0].Remote != "1.2.3.4:5" || !got[0].Current || got[0].Identity.Device != "phone" ||
		got[1].Protocol != "titan" || got[1].Current || got[1].Identity.Device != "tablet" || got[1].ID <= got[0].ID || got[0].Since.IsZero() {
		t.Errorf("ann has %+v", got)
	}
	if got := list(anyone); len(got) != 1 || !got[0].Current {
		t.Errorf("anyone has %+v", got)
	}
	phone.Close()
	if got := list(later); len(got) != 1 || !got[0].Current {
		t.Errorf("ann has %+v", got)
	}
}

// Sessions that come, say who they are, work and go while others are revoked and
// listed: all are counted out in the end, and the books balance.
func TestChurnOfSessions(t *testing.T) {
	b := start(t, openLog(t), broker.Config{})
	var coming, revoking sync.WaitGroup
	stop := make(chan struct{})
	revoking.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				name := fmt.Sprint("u", i%3)
				b.Revoke(func(p *account.Principal) bool { return p.User == name }, "churn")
				runtime.Gosched()
			}
		}
	})
	for w := range 4 {
		coming.Go(func() {
			for i := range 100 {
				c := connect(t, b, broker.SessionConfig{Principal: account.Nobody()})
				p := granted(t, fmt.Sprint("u", (w+i)%5), "all:/*")
				if i%2 == 0 {
					p.Expires = time.Now().Add(time.Duration(i%7) * time.Millisecond)
				}
				if c.SetPrincipal(p) == nil {
					c.Subscribe(t.Context(), broker.Subscribe{Topic: "/churn"})
					c.Publish([]*broker.Publish{{Messages: []broker.Publication{{Message: text("/churn", "x")}}}})
					c.Send(&broker.Send{Letters: []broker.Letter{letter("", "x", p.User, "other")}})
					c.ListSessions("")
				}
				if i%3 == 0 {
					c.Next(t.Context(), nil)
				}
				c.Close()
			}
		})
	}
	coming.Wait()
	close(stop)
	revoking.Wait()
	publish(t, b, text("/churn", "end")) // all before it has been dealt with
	balanced(t, b)
	for i := range 5 {
		c := signIn(t, b, fmt.Sprint("u", i), "")
		c.ListSessions("")
		if got := expect[*broker.Sessions](c).Sessions; len(got) != 1 {
			t.Errorf("u%d has %+v", i, got)
		}
		c.Close()
	}
	if s := b.Stats(); s.Sessions != 0 || s.Subscriptions != 0 {
		t.Errorf("%d sessions and %d subscriptions are left", s.Sessions, s.Subscriptions)
	}
}
