package security_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/server/servertest"
	"github.com/parley-im/parley/test/eventsource"
)

// inTime is how soon a credential's end ends what was begun with it.
const inTime = 5 * time.Second

// ear is somebody who listens to /a until the server ends that.
type ear struct {
	name string
	// next returns what was heard, and an error when it is over.
	next func() (string, error)
}

// ears begin to listen by each protocol, with the same credential.
func ears(t *testing.T, w *world, secret string) []ear {
	t.Helper()
	hear := func(c *rpc) func() (string, error) {
		return func() (string, error) { p, err := c.read(); return string(p), err }
	}
	inBand := w.rpc(t, "")
	if m, err := inBand.call("auth", `{"api_key":"`+secret+`"}`); err != nil || m.Error != nil {
		t.Fatalf("auth: %+v, %v", m.Error, err)
	}
	atHandshake := w.rpc(t, secret)
	for _, c := range []*rpc{inBand, atHandshake} {
		if m, err := c.call("subscribe", `{"topic":"/a"}`); err != nil || m.Error != nil {
			t.Fatalf("subscribe: %+v, %v", m.Error, err)
		}
	}
	inQuery, err := w.dial(t, "/v1/rpc?access_token="+secret, "")
	if err != nil {
		t.Fatal(err)
	}
	byQuery := &rpc{t: t, conn: inQuery}
	if m, err := byQuery.call("subscribe", `{"topic":"/a"}`); err != nil || m.Error != nil {
		t.Fatalf("subscribe: %+v, %v", m.Error, err)
	}
	old, err := w.dial(t, "/stream/user/ann", secret)
	if err != nil {
		t.Fatal(err)
	}
	gobbler := &rpc{t: t, conn: old}
	if err := gobbler.say("+ /a"); err != nil {
		t.Fatal(err)
	}
	for {
		if p, err := gobbler.read(); err != nil || strings.HasPrefix(string(p), "#subscribed-to") {
			break
		}
	}
	letters := w.rpc(t, secret)
	if m, err := letters.call("inbox.open", `{}`); err != nil || m.Error != nil {
		t.Fatalf("inbox: %+v, %v", m.Error, err)
	}
	member := func(ask string) *rpc {
		c := w.rpc(t, secret)
		if m, err := c.call("subscribe", ask); err != nil || m.Error != nil {
			t.Fatalf("subscribe: %+v, %v", m.Error, err)
		}
		return c
	}
	// Two members take turns; the third, alone, acknowledges nothing and gets the
	// same again and again.
	const once, again = `{"topic":"/a","durable":"turns"}`, `{"topic":"/a","durable":"again","after":0,"ack_wait_ms":100,"max_in_flight":1}`
	first, second, stubborn := member(once), member(once), member(again)
	titan := w.titan(t, secret)
	if err := titan.say(`{"id":"1","method":"echo","params":{"message":"here I am"}}`); err != nil { // by which old clients register
		t.Fatal(err)
	}
	if p, err := titan.read(); err != nil || !strings.Contains(string(p), "here I am") {
		t.Fatalf("titan: %s, %v", p, err)
	}
	return []ear{
		{"an inbox", hear(letters)},
		{"a durable subscription", hear(first)},
		{"another member", hear(second)},
		{"redelivery", hear(stubborn)},
		{"titan", hear(titan)},
		{"native, in band", hear(inBand)},
		{"native, at the handshake", hear(atHandshake)},
		{"native, by the query", hear(byQuery)},
		{"gobbler", hear(gobbler)},
		{"events", w.events(t, "/v1/subscribe/a", secret)},
	}
}

// events follows an event stream.
func (w *world) events(t *testing.T, path, secret string) func() (string, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.URL+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+secret)
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(r)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("events: %v, %v", resp, err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	stream := eventsource.NewReader(resp.Body)
	return func() (string, error) { e, err := stream.Next(); return e.Data, err }
}

// TestEnds (S4): when a credential expires or is revoked, or its user suspended
// or deleted, every live delivery by every protocol ends within 5 seconds, and so
// does what it could do by HTTP.
func TestEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]struct {
		more string // of the key
		do   func(t *testing.T, w *world, k key)
	}{
		"expired": {`,"ttl":"3s"`, func(*testing.T, *world, key) {}},
		"revoked": {"", func(t *testing.T, w *world, k key) { operate(t, w, "DELETE", "/v1/keys/"+k.ID, "") }},
		"all of the user's revoked": {"", func(t *testing.T, w *world, _ key) {
			operate(t, w, "DELETE", "/v1/users/ann/tokens", "")
		}},
		"suspended": {"", func(t *testing.T, w *world, _ key) {
			operate(t, w, "PATCH", "/v1/users/ann", `{"suspended":true}`)
		}},
		"deleted": {"", func(t *testing.T, w *world, _ key) { operate(t, w, "DELETE", "/v1/users/ann", "") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, quiet)
			voice := w.key(t, "voice", []string{"publish:/a", "send:/$inbox/*"}, "").Secret
			made := time.Now()
			k := w.key(t, "ann", []string{"subscribe,history,publish:/a", "subscribe,history:/$inbox/{user}"}, end.more)
			listening := ears(t, w, k.Secret)
			stop := speak(t, w, voice)
			defer stop()
			for _, e := range listening {
				if _, err := e.next(); err != nil {
					t.Fatalf("%s hears nothing: %v", e.name, err)
				}
			}
			ended := made.Add(3 * time.Second) // when it expires
			if end.more == "" {
				ended = time.Now()
			}
			end.do(t, w, k)
			var over sync.WaitGroup
			defer over.Wait()
			for _, e := range listening {
				over.Go(func() {
					for {
						_, err := e.next()
						late := time.Since(ended)
						if late > inTime {
							t.Errorf("%s has not ended after %v", e.name, late)
						}
						if err != nil || late > inTime {
							return
						}
					}
				})
			}
			over.Wait()
			for _, ask := range []string{"GET /v1/messages/a", "POST /v1/messages/a", "HEAD /v1/subscribe/a", "POST /api/message/a", "GET /stream/user/ann", "GET /v1/inbox", "POST /v1/send", "GET /v1/whoami"} {
				method, path, _ := strings.Cut(ask, " ")
				got := w.ask(t, method+" "+path, k.Secret, "", "Upgrade", "websocket", "Connection", "Upgrade", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
				if got.status != http.StatusUnauthorized || got.header.Get("WWW-Authenticate") == "" {
					t.Errorf("%s is answered %d %s", ask, got.status, got.body)
				}
			}
		})
	}
}

// operate does an operator's deed.
func operate(t *testing.T, w *world, method, path, body string) {
	t.Helper()
	if got := w.ask(t, method+" "+path, "", body); got.status >= 300 {
		t.Errorf("%s %s is answered %d %s", method, path, got.status, got.body)
	}
}

// speak publishes to /a again and again until stop is called.
func speak(t *testing.T, w *world, secret string) (stop func()) {
	t.Helper()
	c := w.rpc(t, secret)
	ended := make(chan struct{})
	var speaking sync.WaitGroup
	speaking.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				if m, err := c.call("publish", `{"topic":"/a","text":"hear"}`); err != nil || m.Error != nil {
					t.Errorf("the voice fails: %+v, %v", m.Error, err)
					return
				}
				if m, err := c.call("msg.send", `{"to":"ann","text":"read"}`); err != nil || m.Error != nil {
					t.Errorf("the pen fails: %+v, %v", m.Error, err)
					return
				}
			}
		}
	})
	return sync.OnceFunc(func() {
		close(ended)
		speaking.Wait()
	})
}

// TestEndOfReplay (S4): a replay that is under way ends too. What waits to be
// stored is for broker's TestRevoke, which can hold the disk.
func TestEndOfReplay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quiet, servertest.Dir(t.TempDir()))
	voice := w.rpc(t, w.key(t, "voice", []string{"publish:/a"}, "").Secret)
	const messages, size = 1_000, 16 << 10 // more than sockets hold
	body := strings.Repeat("x", size)
	for i := range messages / 50 {
		var batch []string
		for j := range 50 {
			batch = append(batch, fmt.Sprintf(`{"topic":"/a","id":"%d","text":"%s"}`, 50*i+j, body))
		}
		if m, err := voice.call("publish", `{"messages":[`+strings.Join(batch, ",")+`]}`); err != nil || m.Error != nil {
			t.Fatalf("publish: %+v, %v", m.Error, err)
		}
	}
	k := w.key(t, "ann", []string{"subscribe,history,publish:/a"}, "")
	c := w.rpc(t, k.Secret)
	if m, err := c.call("subscribe", `{"topic":"/a","after":0}`); err != nil || m.Error != nil {
		t.Fatalf("subscribe: %+v, %v", m.Error, err)
	}
	if _, err := c.read(); err != nil {
		t.Fatal(err)
	}
	operate(t, w, "DELETE", "/v1/keys/"+k.ID, "")
	began, heard := time.Now(), 0
	for {
		p, err := c.read()
		if err != nil {
			if closed, ok := errors.AsType[*wire.CloseError](err); ok && closed.Code != wire.ClosePolicy {
				t.Errorf("closed with %v", err)
			}
			break
		}
		heard += strings.Count(string(p), `"seq"`)
	}
	if took := time.Since(began); took > inTime || heard > messages*9/10 {
		t.Errorf("%d of %d messages were heard, within %v", heard, messages, took)
	}
}
