package security_test

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley/internal/wire"
)

// verdict is whether something was done: yes, no, or that nobody knows who asks.
type verdict string

const (
	done      verdict = "done"
	refused   verdict = "forbidden"
	unknown   verdict = "unauthenticated"
	pointless verdict = "invalid" // what they may do, but not so
	confused  verdict = "something else"
)

func ofStatus(status int) verdict {
	switch {
	case status < 300 || status == http.StatusNotFound: // may look, and there is nothing
		return done
	case status == http.StatusForbidden:
		return refused
	case status == http.StatusUnauthorized:
		return unknown
	}
	return confused
}

// way is one way to ask for an operation, or for what needs several, which stand
// with commas between them.
type way struct {
	protocol, operation string
	try                 func(t *testing.T, w *world, secret string, r role, topic string) verdict
}

func ofKind(kind string) verdict {
	switch kind {
	case "":
		return done
	case "forbidden":
		return refused
	case "unauthenticated":
		return unknown
	case "invalid":
		return pointless
	}
	return confused
}

func native(method, operation string, params func(topic string) string) way {
	return way{"native", operation, func(t *testing.T, w *world, secret string, _ role, topic string) verdict {
		c := w.rpc(t, secret)
		defer func() { _ = c.conn.Close(1000, "") }()
		m, err := c.call(method, params(topic))
		if err != nil {
			t.Errorf("native %s: %v", method, err)
			return confused
		}
		if strings.Contains(string(m.Result), `"error"`) { // of one recipient
			if strings.Contains(string(m.Result), `"forbidden"`) {
				return refused
			}
			return confused
		}
		return ofKind(m.kind())
	}}
}

// durable subscribes under a name.
func durable(params func(topic string) string) way {
	w := native("subscribe", "subscribe,history", params)
	w.protocol = durably
	return w
}

// durably is the native protocol, for a place that is kept.
const durably = "native, durable"

func rest(method, operation, path string) way {
	return way{"rest", operation, func(t *testing.T, w *world, secret string, _ role, topic string) verdict {
		return ofStatus(w.ask(t, method+" "+path+(&url.URL{Path: topic}).EscapedPath(), secret, "").status)
	}}
}

func quote(s string) string {
	p, _ := json.Marshal(s)
	return string(p)
}

func ways() []way {
	topic := func(more string) func(string) string {
		return func(topic string) string { return `{"topic":` + quote(topic) + more + `}` }
	}
	all := []way{
		native("publish", "publish", topic(`,"text":"x"`)),
		native("subscribe", "subscribe", topic("")),
		native("history", "history", topic("")),
		native("count", "history", topic("")),
		rest("POST", "publish", "/v1/messages"),
		rest("GET", "history", "/v1/messages"),
		rest("GET", "history", "/v1/count"),
		rest("GET", "history", "/v1/body"),
		rest("GET", "history", "/v1/topics"),
		rest("HEAD", "subscribe", "/v1/subscribe"),
		{"rest", "publish", func(t *testing.T, w *world, secret string, _ role, topic string) verdict {
			return ofStatus(w.ask(t, "POST /v1/messages", secret, `{"messages":[{"topic":`+quote(topic)+`}]}`).status)
		}},
		{"gobbler http", "publish", func(t *testing.T, w *world, secret string, r role, topic string) verdict {
			return ofStatus(w.ask(t, "POST /api/message"+(&url.URL{Path: topic}).EscapedPath()+"?userId="+r.user, secret, "x").status)
		}},
		{"gobbler http", "presence", func(t *testing.T, w *world, secret string, _ role, topic string) verdict {
			return ofStatus(w.ask(t, "GET /api/subscribers"+(&url.URL{Path: topic}).EscapedPath(), secret, "").status)
		}},
		native("subscribe", "subscribe,history", topic(`,"after":0`)),
		native("subscribe", "history", topic(`,"after":0,"replay_only":true`)),
		durable(topic(`,"durable":"d"`)), // its place is in what is stored
		durable(topic(`,"durable":"d","last":1,"max_deliver":1`)),
		events("subscribe", ""),
		events("subscribe,history", "?after=0"),
		events("history", "?last=1&replay_only=true"),
		gobbler("publish", "> %", "#send"),
		gobbler("subscribe", "+ %", "#subscribed-to "),
		gobbler("history", "+ % 0 1", "#fetch-start "),
	}
	return all
}

// gobbler says a command, in which % stands for the topic.
func gobbler(operation, command, well string) way {
	return way{"gobbler", operation, func(t *testing.T, w *world, secret string, r role, topic string) verdict {
		conn, err := w.dial(t, "/stream/user/"+strings.ToUpper(r.user), secret)
		if err != nil {
			if strings.Contains(err.Error(), "401") {
				return unknown
			}
			t.Errorf("gobbler: %v", err)
			return confused
		}
		c := &rpc{t: t, conn: conn}
		defer func() { _ = conn.Close(1000, "") }()
		if err := c.say(strings.Replace(command, "%", topic, 1)); err != nil {
			return confused
		}
		for {
			p, err := c.read()
			switch {
			case err != nil:
				t.Errorf("gobbler %s: %v", command, err)
				return confused
			case strings.HasPrefix(string(p), "#connected"):
			case strings.HasPrefix(string(p), well):
				return done
			case strings.HasPrefix(string(p), "!"):
				return refused
			default:
				t.Logf("gobbler %s %s says %q", command, topic, p)
				return confused
			}
		}
	}}
}

// events asks for an event stream.
func events(operation, query string) way {
	return way{"events", operation, func(t *testing.T, w *world, secret string, _ role, topic string) verdict {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.URL+"/v1/subscribe"+(&url.URL{Path: topic}).EscapedPath()+query, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if secret != "" {
			r.Header.Set("Authorization", "Bearer "+secret)
		}
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}).Do(r)
		if err != nil {
			t.Errorf("events: %v", err)
			return confused
		}
		_ = resp.Body.Close() // it has no end
		return ofStatus(resp.StatusCode)
	}}
}

// sends are the ways to send a letter; their topic is the name of who gets it.
func sends() []way {
	return []way{
		native("msg.send", "send", func(to string) string { return `{"to":` + quote(to) + `,"text":"x"}` }),
		native("msg.send", "send", func(to string) string { return `{"messages":[{"to":[` + quote(to) + `],"text":"x"}]}` }),
		{"rest", "send", func(t *testing.T, w *world, secret string, _ role, to string) verdict {
			return ofStatus(w.ask(t, "POST /v1/send", secret, `{"to":`+quote(to)+`,"text":"x"}`).status)
		}},
		titanSend(),
	}
}

// titanSend sends a letter as Titan's clients do, which do not go on without their
// inbox.
func titanSend() way {
	return way{"titan", "send", func(t *testing.T, w *world, secret string, r role, to string) verdict {
		if r.user != "" && !r.record {
			secret = w.key(t, r.user, append(slices.Clone(r.grants), "subscribe,history:/$inbox/{user}"), "").Secret
		}
		return ofTitan(t, w.titan(t, secret), `{"id":"s","method":"msg.send","params":[{"to":`+quote(strings.ToUpper(to))+`,"message":"x"}]}`)
	}}
}

// titan connects to where Titan's protocol is spoken beside others.
func (w *world) titan(t *testing.T, secret string) *rpc {
	t.Helper()
	conn, err := w.dial(t, "/", secret)
	if err != nil {
		t.Fatalf("titan: %v", err)
	}
	return &rpc{t: t, conn: conn}
}

// ofTitan is what a request of Titan or Devastator with the id "s" comes to.
// Letters that come meanwhile are passed over.
func ofTitan(t *testing.T, c *rpc, request string) verdict {
	t.Helper()
	defer func() { _ = c.conn.Close(1000, "") }()
	return ofTitanStay(t, c, request)
}

// ofTitanStay is ofTitan, and the connection stays.
func ofTitanStay(t *testing.T, c *rpc, request string) verdict {
	t.Helper()
	if err := c.say(request); err != nil {
		t.Errorf("titan: %v", err)
		return confused
	}
	for {
		p, err := c.read()
		switch text := string(p); {
		case err != nil:
			t.Errorf("titan: %v", err)
			return confused
		case strings.HasPrefix(text, `{"id":"s","result":"ACK"`):
			return done
		case strings.HasPrefix(text, `{"id":"s","error":{"code":-32002,`):
			return refused
		case strings.HasPrefix(text, `{"id":"s","error":{"code":-32001,`):
			return unknown
		case !strings.Contains(text, "msg.recv"):
			t.Errorf("titan says %s", text)
			return confused
		}
	}
}

// devastator connects to its listener.
func (w *world) devastator(t testing.TB, config *tls.Config) *rpc {
	t.Helper()
	d := tls.Dialer{Config: config}
	conn, err := d.DialContext(t.Context(), "tcp", w.Devastator)
	if err != nil {
		t.Fatalf("devastator: %v", err)
	}
	l := wire.NewLength(conn, &wire.LengthConfig{Keeper: &wire.Keeper{}, MaxFrame: 16 << 20})
	t.Cleanup(func() { _ = l.Close(0, "") })
	stop := time.AfterFunc(9*patience, func() { _ = l.Close(0, "") })
	t.Cleanup(func() { stop.Stop() })
	return &rpc{t: t, conn: l}
}

// inboxes are the ways to read one's inbox; the topic is the inbox.
func inboxes() []way {
	nothing := func(string) string { return `{}` }
	get := func(what, body string) way {
		return way{"rest", "history", func(t *testing.T, w *world, secret string, _ role, _ string) verdict {
			return ofStatus(w.ask(t, what, secret, body).status)
		}}
	}
	settle := func(method string) way {
		return way{"native " + method, "subscribe,history", func(t *testing.T, w *world, secret string, _ role, _ string) verdict {
			c := w.rpc(t, secret)
			defer func() { _ = c.conn.Close(1000, "") }()
			opened, err := c.call("inbox.open", `{}`)
			if err != nil || opened.Error != nil {
				return ofKind(opened.kind())
			}
			m, err := c.call(method, `{"sub":1,"ranges":[[1,9007199254740992]]}`)
			if err != nil {
				t.Errorf("%s: %v", method, err)
			}
			return ofKind(m.kind())
		}}
	}
	return []way{
		native("inbox.open", "subscribe,history", nothing),
		native("inbox.history", "history", nothing),
		native("inbox.history", "history", func(string) string { return `{"peer":"bob"}` }),
		native("inbox.read", "history", func(string) string { return `{"seq":0}` }),
		settle("ack"), settle("nak"),
		get("GET /v1/inbox", ""), get("GET /v1/inbox?peer=bob", ""), get("GET /v1/inbox/unread", ""), get("POST /v1/inbox/read", `{"seq":0}`),
		{"titan", "subscribe,history", titanInbox},
	}
}

// titanInbox lets Titan's protocol open an inbox, in which there is a letter. Its
// clients are not asked whether they want that: who may not is sent away.
func titanInbox(t *testing.T, w *world, secret string, r role, _ string) verdict {
	if r.user != "" {
		writer := w.key(t, "writer", []string{"send:/$inbox/*"}, "").Secret
		if got := w.ask(t, "POST /v1/send", writer, `{"to":"`+r.user+`","text":"for you"}`); got.status != http.StatusCreated {
			t.Errorf("a letter is answered %d %s", got.status, got.body)
		}
	}
	c := w.titan(t, secret)
	if got := ofTitanStay(t, c, `{"id":"s","method":"ping"}`); got != done {
		return got
	}
	defer func() { _ = c.conn.Close(1000, "") }()
	for {
		p, err := c.read()
		if err != nil {
			return refused
		}
		if strings.Contains(string(p), "for you") {
			return done
		}
	}
}
