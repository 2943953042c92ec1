package security_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// role is somebody with a credential.
type role struct {
	user   string // empty is nobody
	grants []string
	// record says that the grants are in the user's record, and the credential,
	// a token or a certificate, has none of its own; else it is a key that has.
	record bool
}

func roles() map[string]role {
	return map[string]role{
		"nobody":              {},
		"publisher":           {user: "ann", grants: []string{"publish:/a/*"}},
		"subscriber":          {user: "ann", grants: []string{"subscribe:/a"}},
		"reader of the past":  {user: "ann", grants: []string{"history:/a/x"}},
		"looker":              {user: "ann", grants: []string{"presence:/a"}},
		"sender":              {user: "ann", grants: []string{"send:/$inbox/bob"}},
		"sender to all":       {user: "ann", grants: []string{"send:/$inbox/*"}},
		"operator":            {user: "ann", grants: []string{"admin:/*"}},
		"all of one topic":    {user: "ann", grants: []string{"all:/a"}},
		"all of any root":     {user: "ann", grants: []string{"all:/*"}},
		"owner of a path":     {user: "ann", grants: []string{"all:/users/{user}"}},
		"another's path":      {user: "bob", grants: []string{"all:/users/{user}"}},
		"a child of any root": {user: "ann", grants: []string{"publish,subscribe,history:/*/x"}},
		"the root only":       {user: "ann", grants: []string{"all:/"}},
		"reader of an inbox":  {user: "ann", grants: []string{"subscribe,history:/$inbox/{user}"}},
		"the server's own":    {user: "ann", grants: []string{"publish,subscribe,history,presence:/$inbox/*", "publish,subscribe,history:/$dead"}},
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
			if segments[1] != r.user { // its owner's alone
				return false
			}
			if r.record { // only a key with grants of its own needs to say so
				return true
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

// mayAll is whether all of several operations are allowed, and nobody's verdict.
func mayAll(r role, operations, topic string) verdict {
	if r.user == "" {
		return unknown
	}
	for o := range strings.SplitSeq(operations, ",") {
		if !may(r, o, topic) {
			return refused
		}
	}
	return done
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

// TestMatrix (S2, S3): each role does each operation on each topic by each
// protocol, and gets what the rules say. A refusal is the same wherever the topic
// is, and whether there is anything.
func TestMatrix(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quiet)
	w.fill(t)
	for name, r := range roles() {
		secret := ""
		if r.user != "" {
			secret = w.key(t, r.user, r.grants, "").Secret
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tryAll(t, w, secret, r, ways())
		})
	}
}

// fill publishes to every topic, so that there is something to be refused.
func (w *world) fill(t *testing.T) {
	t.Helper()
	writer := w.key(t, "writer", []string{"all:/*"}, "")
	for _, topic := range topics() {
		if !strings.HasPrefix(topic, "/$") {
			if got := w.ask(t, "POST /v1/messages"+(&url.URL{Path: topic}).EscapedPath(), writer.Secret, "secret of "+topic); got.status != http.StatusCreated {
				t.Fatalf("a publish to %s is answered %d %s", topic, got.status, got.body)
			}
		}
	}
}

// tryAll tries every way on every topic.
func tryAll(t *testing.T, w *world, secret string, r role, ways []way) {
	t.Helper()
	for _, by := range ways {
		for _, topic := range topics() {
			want := mayAll(r, by.operation, topic)
			switch {
			case want == refused && by.protocol == "gobbler http" && by.operation == "presence" && strings.HasPrefix(topic, "/$"):
				want = done // an empty list
			case want == done && by.protocol == durably && strings.HasPrefix(topic, "/$inbox/"):
				want = pointless // the places in an inbox are those of devices
			}
			if got := by.try(t, w, secret, r, topic); got != want {
				t.Errorf("%s to %s %s: %s, want %s", by.protocol, by.operation, topic, got, want)
			}
		}
	}
}

// trySends tries to send to everybody, and to read one's own inbox.
func trySends(t *testing.T, w *world, secret string, r role, ways []way) {
	t.Helper()
	for _, by := range ways {
		for _, to := range []string{"bob", "ann", "nobody-of-that-name"} {
			if got, want := by.try(t, w, secret, r, to), mayAll(r, by.operation, "/$inbox/"+to); got != want {
				t.Errorf("%s to %s: %s, want %s", by.protocol, to, got, want)
			}
		}
	}
	for _, by := range inboxes() {
		if got, want := by.try(t, w, secret, r, ""), mayAll(r, by.operation, "/$inbox/"+r.user); got != want {
			t.Errorf("their inbox by %s (%s): %s, want %s", by.protocol, by.operation, got, want)
		}
	}
}

// TestSends (S2, S3): who may send to whom, and nobody reads another's inbox or
// learns who is there.
func TestSends(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quiet)
	for name, r := range roles() {
		secret := ""
		if r.user != "" {
			secret = w.key(t, r.user, r.grants, "").Secret
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			trySends(t, w, secret, r, sends())
		})
	}
}

// TestMatrixOfRecords (S2, S3): the same where the grants are in the user's record,
// and the credential is a token or, for Devastator, a certificate.
func TestMatrixOfRecords(t *testing.T) {
	t.Parallel()
	dir, ca := servertest.NewAuthority(t)
	for name, r := range roles() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, quiet, servertest.WithDevastator(t, dir, ca))
			w.fill(t)
			secret := ""
			if r.record = true; r.user != "" {
				grants, err := json.Marshal(r.grants)
				if err != nil {
					t.Fatal(err)
				}
				operate(t, w, "POST", "/v1/users", `{"user":"`+r.user+`","grants":`+string(grants)+`}`)
				secret = w.token(t, r.user)
			}
			tryAll(t, w, secret, r, ways())
			known := servertest.Holding(t, ca, r.user)
			trySends(t, w, secret, r, append(sends(), way{"devastator", "send", func(t *testing.T, w *world, _ string, _ role, to string) verdict {
				return ofTitan(t, w.devastator(t, known), `{"id":"s","method":"msg.send","params":{"to":`+quote(to)+`,"message":"x"}}`)
			}}, way{"titan in band", "send", func(t *testing.T, w *world, secret string, _ role, to string) verdict {
				c := w.titan(t, "")
				if got := ofTitanStay(t, c, `{"id":"s","method":"auth.jwt","params":{"token":`+quote(secret)+`}}`); got != done {
					return got
				}
				return ofTitan(t, c, `{"id":"s","method":"msg.send","params":[{"to":`+quote(to)+`,"message":"x"}]}`)
			}}))
		})
	}
}

// TestAcksAreOnesOwn (S2, S3): nobody takes a letter, or a message of a durable
// subscription, from somebody else, whatever they may do otherwise and whatever
// number they guess.
func TestAcksAreOnesOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quiet)
	victim := w.rpc(t, w.key(t, "victim", []string{"all:/a", "all:/$inbox/*"}, "").Secret)
	for _, ask := range [][2]string{
		{"inbox.open", `{}`}, {"subscribe", `{"topic":"/a","durable":"d"}`}, {"msg.send", `{"to":"victim","text":"x"}`}, {"publish", `{"topic":"/a","text":"x"}`},
	} {
		if m, err := victim.call(ask[0], ask[1]); err != nil || m.Error != nil {
			t.Fatalf("%s: %+v, %v", ask[0], m.Error, err)
		}
	}
	inFlight := func() string {
		got := w.ask(t, "GET /v1/subscriptions?owner=victim", "", "").body
		return fmt.Sprint(strings.Count(got, `"in_flight":1,`), " ", strings.Count(got, `"lag":1,`))
	}
	eventually(t, "both are in flight", func() bool { return inFlight() == "2 2" })
	for name, r := range roles() {
		for _, record := range []bool{false, true} {
			if r.user == "" {
				continue
			}
			c := w.rpc(t, w.key(t, r.user, append([]string{"subscribe,history:/$inbox/{user}", "all:/a"}, r.grants...), "").Secret)
			if record { // with subscriptions of their own under the same numbers and names
				_, _ = c.call("inbox.open", `{}`)
				_, _ = c.call("subscribe", `{"topic":"/a","durable":"d"}`)
			}
			for sub := range 4 {
				for _, method := range []string{"ack", "nak"} {
					m, err := c.call(method, fmt.Sprintf(`{"sub":%d,"ranges":[[1,9007199254740992]]}`, sub))
					if err != nil || m.Error == nil && (!record || sub == 0) {
						t.Errorf("%s: %s of %d is answered %s, %v", name, method, sub, m.Result, err)
					}
				}
			}
			_, _ = c.call("inbox.read", `{"seq":9007199254740992}`)
			_ = c.conn.Close(1000, "")
		}
	}
	if got := inFlight(); got != "2 2" {
		t.Errorf("of the victim's two messages are left %s", got)
	}
	if m, err := victim.call("inbox.read", `{"seq":0}`); err != nil || !strings.Contains(string(m.Result), `"unread":0`) && !strings.Contains(string(m.Result), `"unread":1`) {
		t.Errorf("the marker is %s, %v", m.Result, err)
	}
}

// TestTexto (S2): Texto, which has no login, is nobody's way in: it is refused where
// others are asked, whatever is shown; and where a setting opens it, what is sent
// reaches its sessions and no inbox or topic.
func TestTexto(t *testing.T) {
	t.Parallel()
	for _, anonymous := range []bool{false, true} {
		w := newWorld(t, quiet, func(c *server.Config) { c.Texto.Anonymous = anonymous })
		for name, r := range roles() {
			secret := ""
			if r.user != "" {
				secret = w.key(t, r.user, r.grants, "").Secret
			}
			want := refused
			if anonymous {
				want = done
			}
			if got := textoSend(t, w, secret); got != want {
				t.Errorf("%s, anonymous %t: %s, want %s", name, anonymous, got, want)
			}
		}
		for _, at := range []string{"GET /v1/topics", "GET /v1/subscriptions?owner=*", "GET /v1/dead-letters"} {
			if got := w.ask(t, at, w.key(t, "root", []string{"all:/*", "admin:/*"}, "").Secret, ""); got.status != http.StatusOK || !strings.Contains(got.body, `[]`) {
				t.Errorf("%s is answered %d %s", at, got.status, got.body)
			}
		}
	}
}

// textoSend sends a text to oneself.
func textoSend(t *testing.T, w *world, secret string) verdict {
	t.Helper()
	conn, err := w.dial(t, "/v1/texto", secret)
	if err != nil {
		if strings.Contains(err.Error(), "403") {
			return refused
		}
		t.Errorf("texto: %v", err)
		return confused
	}
	c := &rpc{t: t, conn: conn}
	defer func() { _ = conn.Close(1000, "") }()
	var hello struct {
		ClientID string `json:"client_id"`
	}
	p, err := c.read()
	if err != nil || json.Unmarshal(p, &hello) != nil {
		t.Errorf("texto: %s, %v", p, err)
		return confused
	}
	if err := c.say(`{"client_id":"` + hello.ClientID + `","kind":"send","data":{"receiver_id":"` + hello.ClientID + `","text":"x"}}`); err != nil {
		t.Error(err)
	}
	var got string
	for range 2 {
		p, err := c.read()
		if err != nil {
			t.Error(err)
		}
		got += string(p)
	}
	if strings.Contains(got, `"kind":"ack"`) && strings.Contains(got, `"kind":"receive"`) {
		return done
	}
	return confused
}
