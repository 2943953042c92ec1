package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/internal/wire"
)

func TestPublishCarriesEveryPart(t *testing.T) {
	p := newPeer(t)
	c := p.connect(t)
	for _, m := range []parley.Message{
		{Topic: "/a", Body: []byte("text \u2028 <&> \x00")},
		{Topic: "/a", Body: []byte{0xff, 0, 0xfe}},
		{Topic: "/a"},
		{
			Topic: "/a/b", ID: "mine", Body: []byte("x"), Header: `{"k":"v 1"}`,
			Expires: time.Date(2100, 1, 2, 3, 4, 5, 6000, time.UTC), Filters: map[string]string{"f": "g"},
		},
	} {
		receipt, err := c.Publish(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		if receipt.ID == "" || m.ID != "" && receipt.ID != m.ID {
			t.Errorf("receipt has id %q, want %q or a new one", receipt.ID, m.ID)
		}
		page, err := c.History(t.Context(), client.HistoryQuery{Topic: "/a", After: receipt.Seq - 1})
		if err != nil || len(page.Messages) != 1 {
			t.Fatalf("History = %d messages, %v; want the one just published", len(page.Messages), err)
		}
		got := page.Messages[0]
		if got.Seq != receipt.Seq || got.ID != receipt.ID || got.Topic != m.Topic || got.Header != m.Header ||
			string(got.Body) != string(m.Body) || !got.Expires.Equal(m.Expires) || got.Filters["f"] != m.Filters["f"] {
			t.Errorf("stored %+v, want %+v", got, m)
		}
	}
}

func TestPublishRefusesWhatCannotBeSent(t *testing.T) {
	p := newPeer(t)
	p.limits = map[string]int{"frame_bytes": 1000}
	c := p.connect(t)
	for name, m := range map[string]parley.Message{
		"topic":         {Topic: "a"},
		"id":            {Topic: "/a", ID: "\xff"},
		"filter":        {Topic: "/a", Filters: map[string]string{"a": "\xff"}},
		"header":        {Topic: "/a", Header: "k: v"},
		"header null":   {Topic: "/a", Header: "null"},
		"header number": {Topic: "/a", Header: `{"a":1}`},
		"header UTF-8":  {Topic: "/a", Header: "{\"a\":\"\xff\"}"},
		"too long":      {Topic: "/a", Body: make([]byte, 1000)},
	} {
		if _, err := c.Publish(t.Context(), m); !errors.Is(err, parley.ErrInvalid) {
			t.Errorf("%s: Publish = %v, want %v", name, err, parley.ErrInvalid)
		}
		if _, err := c.PublishAll(t.Context(), []parley.Message{{Topic: "/a"}, m}); !errors.Is(err, parley.ErrInvalid) {
			t.Errorf("%s: PublishAll = %v, want %v", name, err, parley.ErrInvalid)
		}
	}
	if tally, err := c.Count(t.Context(), client.HistoryQuery{Topic: "/a"}); err != nil || tally.Count != 0 {
		t.Errorf("Count = %+v, %v; want nothing stored", tally, err)
	}
}

func TestPublishAll(t *testing.T) {
	p := newPeer(t)
	p.limits = map[string]int{"batch_messages": 7, "frame_bytes": 700}
	c := p.connect(t)
	var batch []parley.Message
	for i := range 50 {
		batch = append(batch, parley.Message{Topic: "/a", ID: fmt.Sprint(i), Body: []byte(strings.Repeat("x", i*10))})
	}
	receipts, err := c.PublishAll(t.Context(), batch)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range receipts {
		if r.ID != fmt.Sprint(i) || r.Seq != parley.Seq(i+1) || r.Duplicate {
			t.Errorf("receipt %d = %+v", i, r)
		}
	}
	batch[3].ID, batch[3].Body = "bad", []byte("bad")
	receipts, err = c.PublishAll(t.Context(), batch)
	if !errors.Is(err, parley.ErrConflict) || !strings.Contains(err.Error(), "1 of 50") {
		t.Errorf("PublishAll = %v, want one conflict", err)
	}
	for i, r := range receipts {
		if ok := r.Seq == parley.Seq(i+1) && r.Duplicate; ok == (i == 3) {
			t.Errorf("repeated receipt %d = %+v", i, r)
		}
	}
	if receipts, err := c.PublishAll(t.Context(), nil); err != nil || len(receipts) != 0 {
		t.Errorf("PublishAll of nothing = %v, %v", receipts, err)
	}
}

func TestErrorsHaveTheirKind(t *testing.T) {
	p := newPeer(t)
	c := p.connect(t)
	for code, want := range map[int]error{
		-32602: parley.ErrInvalid,
		-32001: parley.ErrUnauthenticated,
		-32002: parley.ErrForbidden,
		-32003: parley.ErrNotFound,
		-32004: parley.ErrConflict,
		-32603: nil,
	} {
		p.set(func() { p.refuse = func(string) map[string]any { return wireError(code, "kind", "because") } })
		_, err := c.Publish(t.Context(), parley.Message{Topic: "/a"})
		if want != nil && !errors.Is(err, want) {
			t.Errorf("%d: Publish = %v, want %v", code, err, want)
		}
		var e *client.Error
		if !errors.As(err, &e) || e.Code != code || e.Kind != "kind" || e.Message != "because" {
			t.Errorf("%d: Publish = %#v, want a *client.Error with its parts", code, err)
		}
	}
}

// A busy server is asked again, later and later, as long as the context lasts,
// and whoever waits is told once.
func TestBusyServerIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		var log strings.Builder
		p.logger = slog.New(slog.NewTextHandler(&log, nil))
		c := p.connect(t)
		left := 10
		p.set(func() {
			p.refuse = func(string) map[string]any {
				if left--; left < 0 {
					return nil
				}
				return wireError(-32005, "unavailable", "too much to do")
			}
		})
		if _, err := c.Publish(t.Context(), parley.Message{Topic: "/a"}); err != nil || left != -1 {
			t.Errorf("Publish = %v with %d refusals left", err, left)
		}
		if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "too much to do") {
			t.Errorf("the log says %q, want one line with the reason", log.String())
		}
		p.set(func() { left = 1 << 30 })
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := c.Publish(ctx, parley.Message{Topic: "/a"})
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, parley.ErrUnavailable) || !strings.Contains(err.Error(), "too much to do") {
			t.Errorf("Publish = %v, want the deadline and the reason", err)
		}
		if asked := 1<<30 - left; asked < 300 || asked > 2000 {
			t.Errorf("asked %d times in an hour, want about 720", asked)
		}
	})
}

// A publish that is lost, or whose answer is, is repeated, in the order of
// asking, and stored once.
func TestPublishAcrossACutIsStoredOnce(t *testing.T) {
	for _, stored := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			p := newPeer(t)
			c := p.connect(t)
			p.set(func() {
				p.mute = stored
				p.deaf = func(string) bool { return !stored }
			})
			receipts := make(chan client.Receipt)
			const n = 5
			for i := range n {
				go func() {
					r, err := c.Publish(t.Context(), parley.Message{Topic: "/a", ID: fmt.Sprint(i)})
					if err != nil {
						t.Error(err)
					}
					receipts <- r
				}()
				synctest.Wait() // the request is on its way before the next is made
			}
			p.set(func() { p.mute, p.deaf = false, nil })
			p.cut()
			for range n {
				if r := <-receipts; fmt.Sprint(r.Seq-1) != r.ID || r.Duplicate != stored {
					t.Errorf("stored before %t: receipt %+v", stored, r)
				}
			}
			if len(p.log) != n {
				t.Errorf("%d messages stored, want %d", len(p.log), n)
			}
			if len(p.hellos) != 2 || p.hellos[0] != p.hellos[1] || len(p.hellos[0]) != 32 {
				t.Errorf("producers %q, want the same one twice", p.hellos)
			}
		})
	}
}

func TestPublishSaysWhyThereIsNoConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeer(t)
		c := p.connect(t)
		p.set(func() { p.down = true })
		p.cut()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := c.Publish(ctx, parley.Message{Topic: "/a"})
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, parley.ErrUnavailable) || !strings.Contains(err.Error(), "refused") {
			t.Errorf("Publish = %v, want the deadline and the reason", err)
		}
	})
}

// What made the server end the session is not sent to it again.
func TestPublishThatEndsTheSessionIsNotRepeated(t *testing.T) {
	for name, end := range map[string]func(c *peerConn){
		"bye":    func(c *peerConn) { c.say("bye", map[string]any{"code": "too_big", "reason": "the reason"}) },
		"error":  func(c *peerConn) { c.fail(json.RawMessage("null"), wireError(-32700, "invalid", "the reason")) },
		"closed": func(c *peerConn) { _ = c.conn.Close(wire.CloseTooBig, "the reason") },
	} {
		synctest.Test(t, func(t *testing.T) {
			p := newPeer(t)
			c := p.connect(t)
			published := 0
			p.set(func() {
				p.deaf = func(method string) bool {
					if method == "publish" {
						published++
					}
					return method == "publish"
				}
			})
			go func() {
				synctest.Wait()
				p.set(func() {
					for c := range p.conns {
						end(c)
					}
				})
				synctest.Wait()
				p.cut()
			}()
			_, err := c.Publish(t.Context(), parley.Message{Topic: "/a"})
			if !errors.Is(err, parley.ErrInvalid) || !strings.Contains(err.Error(), "the reason") {
				t.Errorf("%s: Publish = %v, want an invalid request with the server's reason", name, err)
			}
			if _, err := c.Count(t.Context(), client.HistoryQuery{Topic: "/a"}); err != nil || published != 1 {
				t.Errorf("%s: Count after it = %v; published %d times", name, err, published)
			}
		})
	}
}

func TestHistoryAndCount(t *testing.T) {
	p := newPeer(t)
	c := p.connect(t)
	p.store("/a", "1", "2", "3", "4", "5")
	page, err := c.History(t.Context(), client.HistoryQuery{Topic: "/a", After: 1, Before: 5, Limit: 2, Reverse: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(page.Messages) != 2 || page.Messages[0].Seq != 4 || page.Next != 3 || !page.More {
		t.Errorf("History = %+v, want 4 and 3 and more", page)
	}
	tally, err := c.Count(t.Context(), client.HistoryQuery{Topic: "/a", After: 1, Limit: 1})
	if want := (client.Tally{Count: 4, First: 2, Last: 5}); err != nil || tally != want {
		t.Errorf("Count = %+v, %v; want %+v", tally, err, want)
	}
	if _, err := c.History(t.Context(), client.HistoryQuery{Topic: "a"}); !errors.Is(err, parley.ErrInvalid) {
		t.Errorf("History of a bad topic = %v", err)
	}
	if _, err := c.Count(t.Context(), client.HistoryQuery{}); !errors.Is(err, parley.ErrInvalid) {
		t.Errorf("Count of no topic = %v", err)
	}
}
