package broker_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
)

// user is who may send to anybody, besides reading their own inbox.
func user(name, device string) *account.Principal {
	return &account.Principal{
		Identity: parley.Identity{User: name, Device: device},
		Grants:   []account.Grant{{Operations: account.Send, Pattern: "/$inbox/*"}},
	}
}

func signIn(tb testing.TB, b *broker.Broker, name, device string) *client {
	tb.Helper()
	return connect(tb, b, broker.SessionConfig{Principal: user(name, device)})
}

func letter(id, body string, to ...string) broker.Letter {
	return broker.Letter{To: to, Message: parley.Message{ID: id, Body: []byte(body)}}
}

// send sends letters and waits for their results.
func (c *client) send(letters ...broker.Letter) []broker.Letter {
	c.tb.Helper()
	c.Send(&broker.Send{Ref: "s", Letters: letters})
	e := expect[*broker.Sent](c)
	if e.Send.Ref != "s" {
		c.tb.Fatalf("the answer is to %q", e.Send.Ref)
	}
	return e.Send.Letters
}

// inbox is everything that a user's inbox has below a topic.
func inbox(tb testing.TB, b *broker.Broker, name string) []*parley.Message {
	tb.Helper()
	page, err := b.History(tb.Context(), user(name, ""), backend.Query{Topic: parley.InboxTopic(name)})
	if err != nil {
		tb.Fatal(err)
	}
	return page.Messages
}

// topics are where the messages of an inbox are, with their bodies.
func topics(messages []*parley.Message) []string {
	var all []string
	for _, m := range messages {
		all = append(all, string(m.Topic)+" "+string(m.Body))
	}
	return all
}

func TestSend(t *testing.T) {
	b := start(t, openLog(t), broker.Config{})
	ann := signIn(t, b, "ann", "phone")
	bob := signIn(t, b, "bob", "laptop")
	bob.Subscribe(t.Context(), broker.Subscribe{Topic: "/$inbox/bob/ann"})
	expect[*broker.Subscribed](bob)
	expect[*broker.Live](bob)

	asks := letter("", "hello", "bob", "carol", "ann")
	asks.Receipts = true
	sent := ann.send(asks, letter("", "again", "bob"))
	for _, l := range sent {
		if id := l.Message.ID; l.Err != nil || len(id) != 22 {
			t.Errorf("letter %q: %v", id, l.Err)
		}
	}
	if sent[0].Message.ID == sent[1].Message.ID {
		t.Error("two letters have one id")
	}
	for name, want := range map[string][]string{
		"ann":   {"/$inbox/ann/bob hello", "/$inbox/ann/carol hello", "/$inbox/ann/ann hello", "/$inbox/ann/bob again"},
		"bob":   {"/$inbox/bob/ann/$asks hello", "/$inbox/bob/ann again"},
		"carol": {"/$inbox/carol/ann/$asks hello"},
	} {
		got := inbox(t, b, name)
		if !slices.Equal(topics(got), want) {
			t.Errorf("%s has %v, want %v", name, topics(got), want)
		}
		if m := got[0]; m.ID != sent[0].Message.ID || m.Sender != (parley.Identity{User: "ann", Device: "phone"}) {
			t.Errorf("%s has %+v", name, m)
		}
	}
	if m := inbox(t, b, "carol")[0]; sent[0].Results[1] != (broker.SendResult{Seq: m.Seq}) {
		t.Errorf("told %+v, it is %d", sent[0].Results[1], m.Seq)
	}
	if got := bob.texts(2); !slices.Equal(got, []string{"hello", "again"}) {
		t.Errorf("bob got %v live", got)
	}
	if s := b.Stats(); s.Received != 7 || s.Published != 7 {
		t.Errorf("%d received, %d published", s.Received, s.Published)
	}
}

// R5: a letter that is sent again is stored once, for each recipient and as a
// copy; and nobody's ids are in another's way.
func TestSendAgain(t *testing.T) {
	b := start(t, openLog(t), broker.Config{})
	ann := signIn(t, b, "ann", "phone")
	first := ann.send(letter("1", "x", "bob", "carol"))[0]
	again := ann.send(letter("1", "x", "carol", "bob", "dora"))[0]
	for i, want := range []broker.SendResult{
		{Seq: first.Results[1].Seq, Duplicate: true}, {Seq: first.Results[0].Seq, Duplicate: true}, {Seq: inbox(t, b, "dora")[0].Seq},
	} {
		if again.Results[i] != want {
			t.Errorf("to %s: %+v, want %+v", again.To[i], again.Results[i], want)
		}
	}
	if other := ann.send(letter("1", "y", "bob"))[0]; !errors.Is(other.Results[0].Err, parley.ErrConflict) {
		t.Errorf("another message with that id: %+v", other.Results[0])
	}
	for _, other := range []*client{signIn(t, b, "ann", "laptop"), signIn(t, b, "eve", "phone")} {
		if l := other.send(letter("1", "z", "bob"))[0]; l.Results[0].Err != nil || l.Results[0].Duplicate {
			t.Errorf("the id of another: %+v", l.Results[0])
		}
	}
	mine := letter("1", "p", "bob")
	mine.Producer = "p"
	once := ann.send(mine)[0].Results[0]
	eve := signIn(t, b, "eve", "other")
	theirs := letter("1", "q", "bob")
	theirs.Producer = "p"
	if l := eve.send(theirs)[0]; l.Results[0].Err != nil || l.Results[0].Duplicate {
		t.Errorf("the producer of another: %+v", l.Results[0])
	}
	if l := signIn(t, b, "ann", "laptop").send(mine)[0]; l.Results[0] != (broker.SendResult{Seq: once.Seq, Duplicate: true}) {
		t.Errorf("from another device with the same producer: %+v, want %d", l.Results[0], once.Seq)
	}
	if got, want := topics(inbox(t, b, "ann")), []string{"/$inbox/ann/bob x", "/$inbox/ann/carol x", "/$inbox/ann/dora x", "/$inbox/ann/bob z", "/$inbox/ann/bob p"}; !slices.Equal(got, want) {
		t.Errorf("ann has %v, want %v", got, want)
	}
}

func TestLetterRules(t *testing.T) {
	b := start(t, openLog(t), broker.Config{Limits: broker.Limits{MessageBytes: 10, Recipients: 2, BatchMessages: 20}})
	ann := signIn(t, b, "ann", "")
	late := letter("late", "x", "bob")
	late.Message.Expires = time.Now().Add(time.Hour)
	for _, test := range []struct {
		l    broker.Letter
		want error
	}{
		{letter("", "x"), parley.ErrInvalid},
		{letter("", "x", "bob", "carol", "dora"), parley.ErrInvalid},
		{letter("", "x", "bob", "bob"), parley.ErrInvalid},
		{letter("", "x", "Bob"), parley.ErrInvalid},
		{letter("", "x", "b/ob"), parley.ErrInvalid},
		{letter("", "x", "$bob"), parley.ErrInvalid},
		{letter("", "x", strings.Repeat("b", parley.MaxNameBytes+1)), parley.ErrInvalid},
		{letter("", "12345678901", "bob"), parley.ErrInvalid},
		{letter(strings.Repeat("i", parley.MaxIDBytes+1), "x", "bob"), parley.ErrInvalid},
		{broker.Letter{To: []string{"bob"}, Message: parley.Message{Header: strings.Repeat("h", parley.MaxHeaderBytes+1)}}, parley.ErrInvalid},
		{letter("", "x", "bob", strings.Repeat("b", parley.MaxNameBytes)), nil},
		{late, nil},
	} {
		if got := ann.send(test.l)[0]; !errors.Is(got.Err, test.want) || (got.Err == nil) != (got.Results != nil) {
			t.Errorf("to %.40v: %+v, want %v", test.l.To, got.Err, test.want)
		}
	}
	if m := inbox(t, b, "bob"); len(m) != 2 || !m[1].Expires.Equal(late.Message.Expires.Truncate(time.Microsecond)) {
		t.Errorf("bob has %v", topics(m))
	}
	small := start(t, openLog(t), broker.Config{QueueBytes: 20_000})
	large := &broker.Send{Letters: []broker.Letter{letter("", "x", "bob"), letter("", strings.Repeat("x", 6000), "bob"), letter("", "x", "bob")}}
	if err := small.Send(t.Context(), user("ann", ""), large); err != nil || large.Letters[0].Err != nil || !errors.Is(large.Letters[1].Err, parley.ErrInvalid) || large.Letters[2].Err != nil {
		t.Errorf("%v, %+v", err, large.Letters)
	}
	for _, test := range []struct {
		who  *account.Principal
		want error
	}{
		{account.Nobody(), parley.ErrUnauthenticated},
		{account.Anyone(parley.Identity{}), parley.ErrForbidden},
		{account.Anyone(parley.Identity{User: "A B"}), parley.ErrForbidden},
		{&account.Principal{Grants: []account.Grant{{Operations: account.All, Pattern: "/*"}}}, parley.ErrForbidden},
	} {
		r := &broker.Send{Letters: []broker.Letter{letter("", "x", "bob")}}
		if err := b.Send(t.Context(), test.who, r); err != nil || !errors.Is(r.Letters[0].Err, test.want) {
			t.Errorf("%+v: %v, %v; want %v", test.who, err, r.Letters[0].Err, test.want)
		}
	}
	// Who may send to some is told about the others, without a word on who exists.
	some := &account.Principal{Identity: parley.Identity{User: "ann"}, Grants: []account.Grant{{Operations: account.Send, Pattern: "/$inbox/bob"}}}
	r := &broker.Send{Letters: []broker.Letter{letter("", "x", "carol", "bob")}}
	if err := b.Send(t.Context(), some, r); err != nil || !errors.Is(r.Letters[0].Results[0].Err, parley.ErrForbidden) || r.Letters[0].Results[1].Err != nil {
		t.Errorf("%v, %+v", err, r.Letters[0])
	}
	balanced(t, b)
}

// balanced checks that everything that was to be published is counted as what
// became of it (R21).
func balanced(tb testing.TB, b *broker.Broker) {
	tb.Helper()
	s := b.Stats()
	if sum := s.Invalid + s.Published + s.Duplicates + s.Conflicts + s.Refused + s.NoRoom + s.OverQuota + s.Failed; s.Waiting != 0 || s.Received != sum {
		tb.Errorf("received %d, accounted for %d: %+v", s.Received, sum, s)
	}
}
