package security_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// role is somebody with a key.
type role struct {
	user   string // empty is nobody
	grants []string
}

func roles() map[string]role {
	return map[string]role{
		"nobody":              {},
		"publisher":           {"ann", []string{"publish:/a/*"}},
		"subscriber":          {"ann", []string{"subscribe:/a"}},
		"reader of the past":  {"ann", []string{"history:/a/x"}},
		"looker":              {"ann", []string{"presence:/a"}},
		"sender":              {"ann", []string{"send:/$inbox/bob"}},
		"sender to all":       {"ann", []string{"send:/$inbox/*"}},
		"operator":            {"ann", []string{"admin:/*"}},
		"all of one topic":    {"ann", []string{"all:/a"}},
		"all of any root":     {"ann", []string{"all:/*"}},
		"owner of a path":     {"ann", []string{"all:/users/{user}"}},
		"another's path":      {"bob", []string{"all:/users/{user}"}},
		"a child of any root": {"ann", []string{"publish,subscribe,history:/*/x"}},
		"the root only":       {"ann", []string{"all:/"}},
		"reader of an inbox":  {"ann", []string{"subscribe,history:/$inbox/{user}"}},
		"the server's own":    {"ann", []string{"publish,subscribe,history,presence:/$inbox/*", "publish,subscribe,history:/$dead"}},
	}
}

func topics() []string {
	return []string{"/a", "/a/x", "/a/x/y", "/ab", "/b", "/b/x", "/users/ann", "/users/bob/z", "/users", "/{user}", "/$inbox/ann", "/$inbox/ann/bob", "/$inbox/bob", "/$dead/ann", "/$other"}
}

// may is what the rules of docs/security.md say, in the words of the rules: a
// second reading of them, not the program's.
func may(r role, operation, topic string) bool {
	segments := strings.Split(strings.TrimPrefix(topic, "/"), "/")
	if r.user == "" {
		return false
	}
	if segments[0] == "$inbox" && len(segments) > 1 {
		switch operation {
		case "subscribe", "history":
			if segments[1] != r.user { // its owner's alone, and a key with grants says so
				return false
			}
		case "send":
		default:
			return false
		}
	} else if strings.HasPrefix(segments[0], "$") {
		return false
	}
	for _, g := range r.grants {
		operations, pattern, _ := strings.Cut(g, ":")
		if operations == "all" {
			operations = "publish,subscribe,history,presence,send"
		}
		if slices.Contains(strings.Split(operations, ","), operation) && covers(pattern, segments, r.user) {
			return true
		}
	}
	return false
}

func covers(pattern string, topic []string, user string) bool {
	if pattern == "/" {
		return false // none of the topics here
	}
	want := strings.Split(pattern[1:], "/")
	if len(want) > len(topic) {
		return false
	}
	for i, w := range want {
		if w == "{user}" {
			w = user
		}
		if w != "*" && w != topic[i] {
			return false
		}
	}
	return true
}

// verdict is whether something was done: yes, no, or that nobody knows who asks.
type verdict string

const (
	done     verdict = "done"
	refused  verdict = "forbidden"
	unknown  verdict = "unauthenticated"
	confused verdict = "something else"
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

// way is one way to ask for an operation.
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

// titanSend sends a letter as Titan's clients do, which do not go on without their
// inbox.
func titanSend() way {
	return way{"titan", "send", func(t *testing.T, w *world, secret string, r role, to string) verdict {
		if r.user != "" {
			secret = w.key(t, r.user, append(slices.Clone(r.grants), "subscribe,history:/$inbox/{user}"), "").Secret
		}
		conn, err := w.dial(t, "/", secret)
		if err != nil {
			t.Errorf("titan: %v", err)
			return confused
		}
		c := &rpc{t: t, conn: conn}
		defer func() { _ = conn.Close(1000, "") }()
		if err := c.say(`{"id":"s","method":"msg.send","params":[{"to":` + quote(strings.ToUpper(to)) + `,"message":"x"}]}`); err != nil {
			return confused
		}
		for {
			p, err := c.read()
			switch text := string(p); {
			case err != nil:
				t.Errorf("titan: %v", err)
				return confused
			case strings.Contains(text, `"result":"ACK"`):
				return done
			case strings.Contains(text, `"error"`) && strings.Contains(text, "no grant"):
				return refused
			case !strings.Contains(text, "msg.recv"):
				t.Logf("titan says %s", text)
				return confused
			}
		}
	}}
}

// TestMatrix (S2, S3): each role does each operation on each topic by each
// protocol, and gets what the rules say. A refusal is the same wherever the topic
// is, and whether there is anything.
func TestMatrix(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quiet)
	writer := w.key(t, "writer", []string{"all:/*"}, "")
	for _, topic := range topics() { // so that there is something to be refused
		if !strings.HasPrefix(topic, "/$") {
			if got := w.ask(t, "POST /v1/messages"+(&url.URL{Path: topic}).EscapedPath(), writer.Secret, "secret of "+topic); got.status != http.StatusCreated {
				t.Fatalf("a publish to %s is answered %d %s", topic, got.status, got.body)
			}
		}
	}
	for name, r := range roles() {
		secret := ""
		if r.user != "" {
			secret = w.key(t, r.user, r.grants, "").Secret
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, by := range ways() {
				for _, topic := range topics() {
					want := refused
					switch {
					case r.user == "":
						want = unknown
					case may(r, by.operation, topic):
						want = done
					case by.protocol == "gobbler http" && by.operation == "presence" && strings.HasPrefix(topic, "/$"):
						want = done // an empty list
					}
					if got := by.try(t, w, secret, r, topic); got != want {
						t.Errorf("%s to %s %s: %s, want %s", by.protocol, by.operation, topic, got, want)
					}
				}
			}
		})
	}
}

// TestSends (S2, S3): who may send to whom, and nobody reads another's inbox or
// learns who is there.
func TestSends(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quiet)
	for name, r := range roles() {
		if r.user == "" {
			continue
		}
		secret := w.key(t, r.user, r.grants, "").Secret
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			by := native("msg.send", "send", func(to string) string { return `{"to":` + quote(to) + `,"text":"x"}` })
			for _, to := range []string{"bob", "ann", "nobody-of-that-name"} {
				want := refused
				if may(r, "send", "/$inbox/"+to) {
					want = done
				}
				for _, by := range []way{by, titanSend()} {
					if got := by.try(t, w, secret, r, to); got != want {
						t.Errorf("%s to %s: %s, want %s", by.protocol, to, got, want)
					}
				}
			}
		})
	}
}

// TestOperators (S2, S20): what is an operator's business is for who has admin on
// /*, wherever they come from, and for nobody else but this machine.
func TestOperators(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quiet)
	operator := w.key(t, "root", []string{"admin:/*"}, "").Secret
	others := []string{
		"", w.key(t, "ann", []string{"all:/*"}, "").Secret, w.key(t, "bob", []string{"admin:/a"}, "").Secret, w.key(t, "eve", []string{"admin:/"}, "").Secret,
	}
	// A proxy has passed these on, so they are not this machine's.
	proxied := []string{"X-Forwarded-For", "127.0.0.1"}
	for _, route := range []string{
		"GET /admin/metrics", "GET /admin/metrics-old", "GET /admin/router", "GET /debug/vars", "GET /admin/debug/pprof/", "GET /v1/keys", "GET /v1/users",
		"DELETE /v1/topics/a", "POST /admin/toggles", "GET /v1/users/ann",
	} {
		method, path, _ := strings.Cut(route, " ")
		if got := w.ask(t, method+" "+path, operator, "", proxied...); got.status == 401 || got.status == 403 {
			t.Errorf("an operator's %s is answered %d %s", route, got.status, got.body)
		}
		for i, secret := range others {
			want := http.StatusForbidden
			if secret == "" {
				want = http.StatusUnauthorized
			}
			if got := w.ask(t, method+" "+path, secret, "", proxied...); got.status != want {
				t.Errorf("%s of other %d is answered %d %s, want %d", route, i, got.status, got.body, want)
			}
		}
	}
}
