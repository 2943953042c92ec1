package browser_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// people is a server that asks for credentials, and the back end of a site whose
// pages may connect.
type people struct {
	*servertest.Server
	t      *testing.T
	url    string // where the server is, when it is
	config []servertest.Option
	key    string       // the back end's
	ttl    string       // of the tokens for pages
	tokens atomic.Int64 // that pages have fetched
}

// newPeople is not started yet: first its address must be known to the pages of the
// site, and then their origin to it.
func newPeople(t *testing.T) (p *people, b *browser) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	send, err := account.ParseGrant("send:/$inbox/*")
	if err != nil {
		t.Fatal(err)
	}
	p = &people{t: t, url: "http://" + at, ttl: "1h"}
	b = open(t, "notify-people.md", func(string) string { return "'" + p.url + "'" }, map[string]http.Handler{"/token": http.HandlerFunc(p.serveToken)})
	p.config = []servertest.Option{servertest.Dir(t.TempDir()), func(c *server.Config) {
		c.HTTP.Listen, c.HTTP.Origins = at, []string{b.origin}
		c.Access.Required = true
		c.Access.Grants = []account.Grant{send}
	}}
	return p, b
}

func (p *people) start() { p.Server = servertest.Start(p.t, p.config...) }

// post asks the server, and returns one member of the answer.
func (p *people) post(ctx context.Context, path, credential, body, member string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	if credential != "" {
		request.Header.Set("Authorization", "Bearer "+credential)
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode >= http.StatusBadRequest {
		return "", errors.New(string(text))
	}
	var answer map[string]any
	if err := json.Unmarshal(text, &answer); err != nil {
		return "", err
	}
	value, _ := answer[member].(string)
	return value, nil
}

// token is one for a user.
func (p *people) token(ctx context.Context, user, ttl string) (string, error) {
	return p.post(ctx, "/v1/users/"+user+"/tokens", "", `{"ttl":"`+ttl+`"}`, "token")
}

// send has the back end send texts to Ann.
func (p *people) send(texts ...string) {
	p.t.Helper()
	var err error
	if p.key == "" {
		p.key, err = p.post(p.t.Context(), "/v1/keys", "", `{"user":"shop"}`, "secret")
	}
	for _, text := range texts {
		if err == nil {
			_, err = p.post(p.t.Context(), "/v1/send", p.key, `{"to":"ann","text":"`+text+`"}`, "id")
		}
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// as is a client of a user.
func (p *people) as(user string) *client.Client {
	p.t.Helper()
	token, err := p.token(p.t.Context(), user, "1h")
	if err != nil {
		p.t.Fatal(err)
	}
	c, err := client.Dial(p.t.Context(), p.url, client.Options{Token: func(context.Context) (string, error) { return token, nil }})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	return c
}

// serveToken answers a page with a token for Ann, as a back end does that knows who is
// signed in.
func (p *people) serveToken(w http.ResponseWriter, r *http.Request) {
	token, err := p.token(r.Context(), "ann", p.ttl)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	p.tokens.Add(1)
	_, _ = io.WriteString(w, token)
}

// from is what the page shows of the texts of the back end.
func from(first, last int) (shown []string) {
	for i := first; i <= last; i++ {
		shown = append(shown, "shop: "+strconv.Itoa(i))
	}
	return shown
}

func texts(first, last int) (texts []string) {
	for i := first; i <= last; i++ {
		texts = append(texts, strconv.Itoa(i))
	}
	return texts
}

// TestInboxPage: the page of an inbox shows every message once and in order through
// everything that happens to it, and what it sends arrives once.
func TestInboxPage(t *testing.T) {
	p, b := newPeople(t)
	p.start()
	p.send(texts(1, 2)...)
	b.start()
	b.is("live")
	b.shows(from(1, 2)...)
	b.say("bob", "hello")
	b.shows(append(from(1, 2), "to bob: hello")...)

	// While the server is away the page keeps what is said.
	p.Stop()
	b.is("offline")
	b.say("Bob", "again")
	p.start()
	p.send(texts(3, 3)...)
	b.is("live")
	want := append(from(1, 2), "to bob: hello")
	b.until("the page shows all", func(s seen) bool {
		got := slices.Clone(s.Messages)
		slices.Sort(got)
		all := append(from(1, 3), "to bob: again", "to bob: hello")
		return slices.Equal(got, all) && slices.Equal(s.Messages[:3], want)
	})
	var bob []string
	for d, err := range p.as("bob").Inbox(t.Context(), client.Max(2)) {
		if err != nil {
			t.Fatal(err)
		}
		bob = append(bob, d.Peer()+": "+string(d.Body))
		d.AckSoon()
	}
	if !slices.Equal(bob, []string{"ann: hello", "ann: again"}) {
		t.Errorf("bob has got %q", bob)
	}

	// The page is left, and shown again when there is more than it shows at first.
	b.visit("/nothing")
	p.send(texts(4, 30)...)
	b.visit("/page")
	b.shows(from(4, 30)...)
}

// TestInboxPageRenews: a page whose tokens are short shows new ones, and its
// connection goes on.
func TestInboxPageRenews(t *testing.T) {
	p, b := newPeople(t)
	p.ttl = "2s"
	p.start()
	b.start()
	b.is("live")
	ann := p.as("ann")
	since := func() time.Time {
		t.Helper()
		sessions, err := ann.Sessions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range sessions {
			if !s.Current {
				return s.Since
			}
		}
		return time.Time{}
	}
	first, fetched := since(), p.tokens.Load()
	b.until("the page has fetched three more", func(seen) bool { return p.tokens.Load() >= fetched+3 })
	p.send("5")
	b.shows("shop: 5")
	if now := since(); !now.Equal(first) || first.IsZero() {
		t.Errorf("the page's session began at %v, and now at %v", first, now)
	}
}
