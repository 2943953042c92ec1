package people_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
)

// view is what one of a user's devices shows of the inbox.
type view struct {
	entries []string
	marker  client.ReadMarker
}

func (v view) equal(w view) bool { return slices.Equal(v.entries, w.entries) && v.marker == w.marker }

// equalDevices (R7): the history of an inbox, how much of it is unread and up to
// where it is read are the same on each of a user's devices and over HTTP, in
// whatever pages they are read, whoever reads and marks; devices that are connected
// are told when one marks; and a kill -9 changes nothing of it.
func equalDevices(t *testing.T) {
	lives := 3
	if os.Getenv("PARLEY_SOAK") == "1" {
		lives = 50
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 3))
	args := []string{"--auth", "--grant", "send:/$inbox/*", "--log", "error"}
	s := newServer(t, args...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(lives)*patience)
	defer cancel()
	tokens := map[string]string{}
	for user, devices := range map[string][]string{"ann": {"phone", "laptop", "tablet", "browser"}, "bob": {"pen"}, "carol": {"pen"}} {
		for _, d := range devices {
			tokens[user+" "+d], _ = issue(t, s, user, d)
		}
	}
	dial := func(who string) *client.Client {
		t.Helper()
		_, device, _ := strings.Cut(who, " ")
		c, err := s.dial(ctx, tokens[who], device)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	browser := &page{s, tokens["ann browser"]}
	var before view
	for life := range lives {
		phone, laptop, tablet := dial("ann phone"), dial("ann laptop"), dial("ann tablet")
		bob, carol := dial("bob pen"), dial("carol pen")
		told := make(chan client.ReadMarker, 1000)
		watching, enough := context.WithCancel(ctx)
		watched := make(chan struct{})
		go func() {
			defer close(watched)
			for m, err := range tablet.Inbox(watching, client.OnRead(func(m client.ReadMarker) { told <- m })) {
				if err == nil {
					m.AckSoon()
				}
			}
		}()
		same := func(when string) view {
			t.Helper()
			views := map[string]view{
				"the phone": viewOf(ctx, t, phone, rnd), "the laptop": viewOf(ctx, t, laptop, rnd), "HTTP": browser.view(ctx, rnd),
			}
			for name, v := range views {
				if !v.equal(views["the phone"]) {
					t.Errorf("life %d, %s: %s shows %v\nthe phone %v", life, when, name, v, views["the phone"])
				}
			}
			return views["the phone"]
		}
		if now := same("at first"); life > 0 && !now.equal(before) {
			t.Errorf("after the crash there is %v\nbefore it was %v", now, before)
		}
		for range 10 {
			from := []*client.Client{bob, carol}[rnd.IntN(2)]
			l := client.Letter{To: []string{"ann"}, Body: fmt.Appendf(nil, "letter %d", rnd.Int())}
			if rnd.IntN(4) == 0 {
				from, l.To = phone, []string{"bob"}
			}
			if _, err := from.Send(ctx, l); err != nil {
				t.Fatal(err)
			}
		}
		now := same("before it is read")
		var marker client.ReadMarker
		for range 3 {
			// It may lie below the marker, which then stays.
			seq := seqOf(t, now.entries[rnd.IntN(len(now.entries))])
			var err error
			switch rnd.IntN(3) {
			case 0:
				marker, err = phone.MarkRead(ctx, seq)
			case 1:
				marker, err = laptop.MarkRead(ctx, seq)
			default:
				marker = browser.mark(ctx, seq)
			}
			if err != nil {
				t.Fatal(err)
			}
			if v := same("when it is read"); v.marker != marker || marker.Unread != unreadIn(v, marker.Seq) {
				t.Errorf("marked up to %+v, the devices show %v, of which %d are unread", marker, v, unreadIn(v, marker.Seq))
			}
		}
		for heard := (client.ReadMarker{}); marker.Seq > now.marker.Seq && heard != marker; {
			select {
			case heard = <-told:
			case <-time.After(patience):
				t.Fatalf("the tablet was told %+v last, not %+v", heard, marker)
			}
		}
		before = same("before the crash")
		s.kill()
		enough()
		for _, c := range []*client.Client{phone, laptop, tablet, bob, carol} {
			_ = c.Close()
		}
		<-watched
		s.start(args...)
	}
	t.Logf("%d entries, %d unread", len(before.entries), before.marker.Unread)
}

// page is a page in a user's browser, which uses HTTP.
type page struct {
	*server

	token string
}

// mark marks the inbox as read.
func (p *page) mark(ctx context.Context, seq parley.Seq) (m client.ReadMarker) {
	p.ask(ctx, "POST /v1/inbox/read", fmt.Sprintf(`{"seq":%d}`, seq), &m)
	return m
}

// entryOf is what a device shows of an entry.
func entryOf(seq parley.Seq, id, user string, receipt client.ReceiptKind, body string) string {
	return fmt.Sprintf("%d %s %s %s %q", seq, id, user, receipt, body)
}

func seqOf(t *testing.T, entry string) (seq parley.Seq) {
	t.Helper()
	if _, err := fmt.Sscan(entry, &seq); err != nil {
		t.Fatal(err)
	}
	return seq
}

// unreadIn counts what others have sent beyond a seq.
func unreadIn(v view, seq parley.Seq) (n int) {
	for _, e := range v.entries {
		var at parley.Seq
		var id, user string
		if _, err := fmt.Sscan(e, &at, &id, &user); err == nil && at > seq && user != "ann" {
			n++
		}
	}
	return n
}

// viewOf is what a device of the Go client shows, read in pages of any size from
// either end.
func viewOf(ctx context.Context, t *testing.T, c *client.Client, rnd *rand.Rand) (v view) {
	t.Helper()
	q := client.InboxQuery{Limit: 1 + rnd.IntN(9), Reverse: rnd.IntN(2) == 0}
	for more := true; more; {
		page, err := c.InboxHistory(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			v.entries = append(v.entries, entryOf(e.Seq, e.ID, e.Sender.User, e.Receipt, string(e.Body)))
		}
		if more = page.More; q.Reverse {
			q.Before = page.Next
		} else {
			q.After = page.Next
		}
	}
	if q.Reverse {
		slices.Reverse(v.entries)
	}
	var err error
	if v.marker, err = c.MarkRead(ctx, 0); err != nil {
		t.Fatal(err)
	}
	return v
}

// view is what the page shows.
func (p *page) view(ctx context.Context, rnd *rand.Rand) (v view) {
	p.t.Helper()
	limit := 1 + rnd.IntN(9)
	for after, more := parley.Seq(0), true; more; {
		var part struct {
			Messages []struct {
				Seq      parley.Seq
				ID, User string
				Receipt  client.ReceiptKind
				Text     string
			}
			Next parley.Seq
			More bool
		}
		p.ask(ctx, fmt.Sprintf("GET /v1/inbox?limit=%d&after=%d", limit, after), "", &part)
		for _, m := range part.Messages {
			v.entries = append(v.entries, entryOf(m.Seq, m.ID, m.User, m.Receipt, m.Text))
		}
		after, more = part.Next, part.More
	}
	p.ask(ctx, "GET /v1/inbox/unread", "", &v.marker)
	return v
}

// ask makes a request, a method and a path, and reads the answer.
func (p *page) ask(ctx context.Context, what, body string, answer any) {
	t := p.t
	t.Helper()
	method, path, _ := strings.Cut(what, " ")
	r, err := http.NewRequestWithContext(ctx, method, "http://"+p.address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+p.token)
	r.Header.Set("Content-Type", "application/json")
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(text, answer)
	}
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s is answered %s %s, %v", what, resp.Status, text, err)
	}
}
