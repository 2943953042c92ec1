package security_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// received are the texts of a delivery; none of another frame.
func received(t *testing.T, frame []byte) []string {
	t.Helper()
	var v struct {
		Method string
		Params struct{ Messages []struct{ Text string } }
	}
	if err := json.Unmarshal(frame, &v); err != nil {
		t.Fatalf("not JSON: %q", frame)
	}
	var texts []string
	for _, m := range v.Params.Messages {
		texts = append(texts, m.Text)
	}
	return texts
}

// TestEndOfAMember (S4, R5): when the credential of a member of a durable
// subscription ends, the member gets nothing any more, and what it had not
// acknowledged goes to another member, with a credential of its own, within 5
// seconds and not after the hour that there was for it.
func TestEndOfAMember(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]struct {
		after time.Duration // the key ends by itself, unless it is 0
		do    func(t *testing.T, w *world, k key)
	}{
		"expired": {3 * time.Second, func(*testing.T, *world, key) {}},
		"revoked": {0, func(t *testing.T, w *world, k key) { operate(t, w, "DELETE", "/v1/keys/"+k.ID, "") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, quiet)
			voice := w.rpc(t, w.key(t, "voice", []string{"publish:/a"}, "").Secret)
			operate(t, w, "POST", "/v1/users", `{"user":"ann","grants":["subscribe,history:/a"]}`)
			other := w.rpc(t, w.token(t, "ann"))
			const messages = 20
			texts := make([]string, messages)
			for i := range texts {
				texts[i] = fmt.Sprintf(`{"topic":"/a","text":"%d"}`, i)
			}
			began := time.Now()
			more := ""
			if end.after > 0 {
				more = `,"ttl":"` + end.after.String() + `"`
			}
			k := w.key(t, "ann", nil, more)
			subscribe := func(c *rpc) *rpc {
				if m, err := c.call("subscribe", `{"topic":"/a","durable":"turns","ack_wait_ms":3600000}`); err != nil || m.Error != nil {
					t.Fatalf("subscribe: %+v, %v", m.Error, err)
				}
				return c
			}
			first := subscribe(w.rpc(t, k.Secret))
			if m, err := voice.call("publish", `{"messages":[`+strings.Join(texts, ",")+`]}`); err != nil || m.Error != nil {
				t.Fatalf("publish: %+v, %v", m.Error, err)
			}
			for got := 0; got < messages; {
				p, err := first.read()
				if err != nil {
					t.Fatalf("the first member has %d messages: %v", got, err)
				}
				got += len(received(t, p))
			}
			second := subscribe(other)
			if began = began.Add(end.after); end.after == 0 {
				began = time.Now()
			}
			end.do(t, w, k)
			var over sync.WaitGroup
			defer over.Wait()
			over.Go(func() {
				for {
					p, err := first.read()
					if err != nil {
						break
					}
					if texts := received(t, p); len(texts) > 0 {
						t.Errorf("the first member gets %q", texts)
					}
				}
				if late := time.Since(began); late > inTime {
					t.Errorf("it ends after %v", late)
				}
			})
			var got []string
			for len(got) < messages {
				p, err := second.read()
				if err != nil {
					t.Fatalf("the second member has %q: %v", got, err)
				}
				got = append(got, received(t, p)...)
			}
			if late := time.Since(began); late > inTime {
				t.Errorf("the second member has all after %v", late)
			}
			for i, text := range got {
				if text != fmt.Sprint(i) {
					t.Errorf("the second member gets %q", got)
					break
				}
			}
			if m, err := second.call("ack", `{"sub":1,"ranges":[[1,9007199254740991]]}`); err != nil || !strings.Contains(string(m.Result), fmt.Sprintf(`"count":%d`, messages)) {
				t.Errorf("its acknowledgement is answered %s, %v", m.Result, err)
			}
			over.Wait()
			shown := w.ask(t, "GET /v1/subscriptions/a?owner=ann&name=turns", "", "").body
			if !strings.Contains(shown, `"members":1,`) || !strings.Contains(shown, `"in_flight":0,`) || !strings.Contains(shown, `"lag":0,`) {
				t.Errorf("the subscription is %s", shown)
			}
		})
	}
}

// TestGrantsTakenAway (S4, S2): when an operator takes a grant from a user, all
// that was begun with it ends within 5 seconds by every protocol, what is left can
// be done, and what was taken is refused.
func TestGrantsTakenAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quiet)
	voice := w.key(t, "voice", []string{"publish:/a", "send:/$inbox/*"}, "").Secret
	operate(t, w, "POST", "/v1/users", `{"user":"ann","grants":["subscribe,history,publish:/a","history:/b"]}`)
	k := w.key(t, "ann", nil, "") // what its user may
	listening := ears(t, w, k.Secret)
	stop := speak(t, w, voice)
	defer stop()
	for _, e := range listening {
		if _, err := e.next(); err != nil {
			t.Fatalf("%s hears nothing: %v", e.name, err)
		}
	}
	began := time.Now()
	operate(t, w, "PATCH", "/v1/users/ann", `{"grants":["history:/b"]}`)
	var over sync.WaitGroup
	for _, e := range listening {
		over.Go(func() {
			for time.Since(began) < inTime {
				if _, err := e.next(); err != nil {
					break
				}
			}
			if late := time.Since(began); late > inTime {
				t.Errorf("%s goes on after %v", e.name, late)
			}
		})
	}
	over.Wait()
	for ask, want := range map[string]int{
		"GET /v1/messages/a": http.StatusForbidden, "POST /v1/messages/a": http.StatusForbidden, "HEAD /v1/subscribe/a": http.StatusForbidden,
		"POST /api/message/a": http.StatusForbidden, "GET /v1/messages/b": http.StatusOK, "GET /v1/inbox": http.StatusOK,
	} {
		if got := w.ask(t, ask, k.Secret, "x"); got.status != want {
			t.Errorf("%s is answered %d %s, want %d", ask, got.status, got.body, want)
		}
	}
	c := w.rpc(t, k.Secret)
	for _, params := range []string{`{"topic":"/a"}`, `{"topic":"/a","durable":"turns"}`, `{"topic":"/a","durable":"new"}`} {
		if m, err := c.call("subscribe", params); err != nil || m.kind() != "forbidden" {
			t.Errorf("subscribing to %s is answered %+v, %v", params, m.Error, err)
		}
	}
	if m, err := c.call("inbox.open", `{}`); err != nil || m.Error != nil {
		t.Errorf("their own inbox: %+v, %v", m.Error, err)
	}
}
