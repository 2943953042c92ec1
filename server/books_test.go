package server_test

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// figures are a server's metrics without labels, by name without parley_ and
// _total.
func figures(t *testing.T, s *servertest.Server) map[string]int {
	t.Helper()
	m := map[string]int{}
	for _, line := range regexp.MustCompile(`(?m)^parley_(\w+?)(?:_total)? (\S+)$`).FindAllStringSubmatch(body(t, s.Admin+"/admin/metrics"), -1) {
		f, err := strconv.ParseFloat(line[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		m[line[1]] = int(f)
	}
	return m
}

// tokenFor is a token of a user's device.
func tokenFor(t *testing.T, s *servertest.Server, user, device string) string {
	t.Helper()
	return member(t, request(t, "POST", s.URL+"/v1/users/"+user+"/tokens", withBody("application/json", `{"device":"`+device+`"}`)).body, "token")
}

// person connects a user's device with a token.
func person(t *testing.T, s *servertest.Server, user, device string) *client.Client {
	t.Helper()
	token := tokenFor(t, s, user, device)
	c, err := client.Dial(t.Context(), s.URL, client.Options{Device: device, Token: func(context.Context) (string, error) { return token, nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestBooksOfLetters (R21): when all is quiet, what an operator sees of letters
// agrees with what was sent, acknowledged, refused and given up by each protocol.
func TestBooksOfLetters(t *testing.T) {
	dir, ca := authority(t)
	s := servertest.Start(t, titanTest, devastator(t, dir, ca), func(c *server.Config) {
		c.Titan.AckWait = time.Hour
		c.Texto.Anonymous = true
		c.Access.Grants = append(c.Access.Grants, account.Grant{Operations: account.Send, Pattern: "/$inbox/*"})
	})
	const n = 12 // letters by each protocol, and as many that are none
	bearer := "Bearer " + tokenFor(t, s, "bob", "pencil")
	pen, err := wire.Dial(t.Context(), s.RPC, http.Header{"Authorization": {bearer}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pen.Close(wire.CloseNormal, "") }()
	bob, ann := person(t, s, "bob", "pen"), person(t, s, "ann", "phone")

	// User 2 is not there, user 1 is and has nothing to read, ann is somewhere else.
	one := titanAs(t, s.TitanTest, tokenOf1)
	three := dialLength(t, s.Devastator, holding(t, ca, "3"))
	for i := range n {
		one.send(fmt.Sprint("titan ", i))
		say(t, three, true, fmt.Sprintf(`{"id":"s","method":"msg.send","params":{"to":"2","message":"devastator %d"}}`, i))
		l := client.Letter{To: []string{"2", "ann"}, ID: fmt.Sprint(i), Body: fmt.Appendf(nil, "native %d", i)}
		for range 2 { // the second is a duplicate
			if _, err := bob.Send(t.Context(), l); err != nil {
				t.Fatal(err)
			}
		}
		l.Body = []byte("another")
		if sent, err := bob.Send(t.Context(), l); err == nil && sent.Recipients[0].Err == nil {
			t.Errorf("a conflict is answered %+v", sent)
		}
		for what, got := range map[string]string{
			"Titan's": one.refused(`[{"to":"no/body","message":"x"}]`),
			"native":  say(t, pen, true, `{"jsonrpc":"2.0","id":1,"method":"msg.send","params":{"to":"no/body","text":"x"}}`)[0],
			"HTTP's": request(t, "POST", s.URL+"/v1/send", func(r *http.Request) {
				withBody("application/json", `{"to":"no/body","text":"x"}`)(r)
				r.Header.Set("Authorization", bearer)
			}).body,
		} {
			if !strings.Contains(got, "-32602") && !strings.Contains(got, `"invalid"`) {
				t.Errorf("%s invalid letter is answered %s", what, got)
			}
		}
	}
	brief := client.Letter{To: []string{"2", "ann"}, Body: []byte("brief"), Expires: time.Now().Add(300 * time.Millisecond)}
	if _, err := bob.Send(t.Context(), brief); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the time of one has passed", func() bool {
		page, err := bob.InboxHistory(t.Context(), client.InboxQuery{Reverse: true, Limit: 1})
		return err == nil && len(page.Entries) == 1 && string(page.Entries[0].Body) != "brief"
	})

	// User 2 by Titan: a third each is acknowledged, refused, and left. By
	// Devastator: all is acknowledged.
	two := titanAs(t, s.TitanTest, tokenOf2)
	for i := range 3 * n {
		got := two.next()
		id := regexp.MustCompile(`^\{"id":"([\w-]{22})"`).FindStringSubmatch(got)
		if id == nil {
			t.Fatalf("got %s", got)
		}
		switch i % 3 {
		case 0:
			two.answer(id[1], "ACK")
		case 1:
			two.answer(id[1], "NACK")
		}
	}
	two.silence()
	device := dialLength(t, s.Devastator, holding(t, ca, "2"))
	got := say(t, device, true, `{"id":"r","method":"msg.recv"}`)
	for len(got) < 3*n+1 {
		got = append(got, hear(t, device)...)
	}
	for _, text := range got[1:] {
		if err := device.Write(framed(`{"id":"` + text[7:29] + `","result":"ACK"}`)); err != nil {
			t.Fatal(err)
		}
	}
	// Ann refuses two for good, one for a while, and acknowledges the rest.
	seen, again := 0, 0
	for m, err := range ann.Inbox(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		seen++
		switch {
		case seen <= 2:
			err = m.Reject(t.Context(), "no use")
		case seen == 3:
			m.Nak(0)
		default:
			err = m.Ack(t.Context())
		}
		if m.Attempt > 1 {
			again++
		}
		if err != nil {
			t.Fatal(err)
		}
		if seen == n+1 { // with the one that came again
			break
		}
	}
	letters := body(t, s.URL+"/v1/dead-letters?owner=ann")
	seq := regexp.MustCompile(`"letters":\[\{"seq":(\d+),`).FindStringSubmatch(letters)
	if seq == nil || strings.Count(letters, `"reason":"no use"`) != 2 {
		t.Fatalf("the dead letters are %s", letters)
	}
	if got := request(t, "POST", s.URL+"/v1/dead-letters/"+seq[1]+"/replay?owner=ann", nil); got.status != 200 {
		t.Fatalf("the replay is answered %d %s", got.status, got.body)
	}

	textoLetters(t, s, n)

	var m map[string]int
	eventually(t, "all is quiet", func() bool {
		m = figures(t, s)
		return m["publish_queue_bytes"] == 0 && m["consumer_acked_messages"] == n+3*n+n-2 && m["consumer_members"] == 4
	})
	const (
		sent   = n + n + 2*n + 2 // letters, counting each recipient
		copies = sent            // in their senders' inboxes
	)
	for name, want := range map[string]int{
		"published_messages":   sent + copies + 2, // with the dead letters
		"duplicate_messages":   2 * 2 * n,
		"conflicting_messages": 2 * 2 * n,
		"invalid_messages":     3 * n,
		"refused_messages":     0,
		"received_messages":    sent + copies + 2 + 2*2*n + 2*2*n + 3*n,

		"consumer_taken_messages":       3*n + 3*n + n,
		"consumer_missed_messages":      3, // the brief one, by each
		"consumer_refused_messages":     n + 1,
		"consumer_redelivered_messages": again,
		"consumer_dead_messages":        2,
		"consumer_expired_messages":     0,
		"consumer_dropped_messages":     0,
		"delivered_messages":            3*n + 3*n + n + again,

		"texto_sent_messages":      2 * n,
		"texto_delivered_messages": n,
		"texto_astray_messages":    n,
	} {
		if m[name] != want {
			t.Errorf("%s is %d, want %d", name, m[name], want)
		}
	}
	// What a consumer was given became something, or is pending.
	became := m["consumer_acked_messages"] + m["consumer_dead_messages"] + m["consumer_expired_messages"] + m["consumer_dropped_messages"] +
		m["consumer_suspended_messages"] + m["consumer_pending_messages"]
	if given := m["consumer_taken_messages"] + m["consumer_resumed_messages"]; given != became {
		t.Errorf("%d were given, and it is known of %d what became of them", given, became)
	}
	if want := 2*n + 1; m["consumer_pending_messages"]+m["consumer_suspended_messages"]-(m["consumer_resumed_messages"]-1) != want {
		t.Errorf("%d are pending, %d put away and %d resumed, want %d", m["consumer_pending_messages"], m["consumer_suspended_messages"], m["consumer_resumed_messages"], want)
	}
}

// refused is the answer to a message that is not sent.
func (c *titanClient) refused(params string) string {
	c.t.Helper()
	c.ask(`{"id":"s","method":"msg.send","params":` + params + `}`)
	return c.next()
}

// textoLetters sends n texts by Texto to somebody, and n to nobody.
func textoLetters(t *testing.T, s *servertest.Server, n int) {
	t.Helper()
	from, _, _ := upgraded(t, s.URL, "/v1/texto", "HTTP/1.1")
	to, _, _ := upgraded(t, s.URL, "/v1/texto", "HTTP/1.1")
	_, greeting := from.next()
	me := greeting[14:50]
	_, greeting = to.next()
	for range n {
		for _, receiver := range []string{greeting[14:50], "00000000-0000-4000-8000-000000000000"} {
			from.send(0x81, fmt.Sprintf(`{"client_id":%q,"kind":"send","data":{"receiver_id":%q,"text":"hi"}}`, me, receiver))
			if _, got := from.next(); !strings.Contains(got, `"kind":"ack"`) {
				t.Fatalf("a text is answered %s", got)
			}
		}
		if _, got := to.next(); !strings.Contains(got, `"hi"`) {
			t.Fatalf("got %s", got)
		}
	}
}
