package security_test

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

func upgradeHeaders() []string {
	return []string{"Upgrade", "websocket", "Connection", "Upgrade", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}
}

// TestOrigins (S6): a page of another origin may use no credential here, unless
// its origin is admitted, to the letter; programs have none and may.
func TestOrigins(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quiet, func(c *server.Config) {
		c.HTTP.Origins = []string{"https://chat.example"}
		c.Texto.Anonymous = true
	})
	secret := w.key(t, "ann", []string{"all:/a"}, "").Secret
	host := strings.TrimPrefix(w.URL, "http://")
	for origin, admitted := range map[string]bool{
		"":                              true,
		"http://" + host:                true,
		"https://chat.example":          true,
		"http://chat.example":           false,
		"https://chat.example:444":      false,
		"https://chat.example.evil.com": false,
		"https://evil.example":          false,
		"http://localhost:3000":         false, // only in open mode
		"https://localhost":             false,
		"http://localhost.evil.example": false,
		"http://x@" + host:              false,
		"null":                          false,
		"https://CHAT.example":          true, // hosts have no case
	} {
		var headers []string
		if origin != "" {
			headers = []string{"Origin", origin}
		}
		// At / and wherever nothing else is, Titan is spoken.
		for _, path := range []string{"/v1/rpc", "/stream/user/ann", "/", "/titan/of/old", "/v1/texto", "/v1/texto?nogreet=1"} {
			got := w.ask(t, "GET "+path, secret, "", append(slices.Clone(headers), upgradeHeaders()...)...)
			if want := map[bool]int{true: 101, false: 403}[admitted]; got.status != want {
				t.Errorf("%s of %q is answered %d %s, want %d", path, origin, got.status, got.body, want)
			}
		}
		for _, ask := range []string{"GET /v1/messages/a", "HEAD /v1/subscribe/a", "POST /v1/messages/a", "POST /api/message/a", "GET /v1/whoami", "GET /v1/topics"} {
			method, path, _ := strings.Cut(ask, " ")
			got := w.ask(t, method+" "+path, secret, "", headers...)
			if admitted != (got.status < 300) || !admitted && got.status != http.StatusForbidden {
				t.Errorf("%s of %q is answered %d %s", ask, origin, got.status, got.body)
			}
			if allowed := got.header.Get("Access-Control-Allow-Origin"); !admitted && allowed != "" || allowed == "*" {
				t.Errorf("%s of %q may be read by %q", ask, origin, allowed)
			}
		}
		got := w.ask(t, "OPTIONS /v1/messages/a", "", "", append(slices.Clone(headers), "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization")...)
		if lets := got.header.Get("Access-Control-Allow-Headers") != ""; lets != (admitted && origin != "") {
			t.Errorf("a preflight of %q is answered %d %v", origin, got.status, got.header)
		}
		if got.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Error("credentials that a browser keeps may be used")
		}
	}
}

// TestOriginsOfOldClients (S6): the protocols of old clients, which never looked at
// an origin, admit the same pages as others, wherever they are spoken and whatever
// is shown; but for the one that Titan's programs in Go claim to be.
func TestOriginsOfOldClients(t *testing.T) {
	t.Parallel()
	for _, open := range []bool{false, true} {
		w := newWorld(t, quiet, func(c *server.Config) {
			c.HTTP.Origins = []string{"https://chat.example", "https://other.example:8443"}
			c.Access.Required, c.Texto.Anonymous = !open, !open
			c.Titan.Test, c.Titan.TestListen = true, "127.0.0.1:0"
		})
		secrets := []string{""}
		if !open {
			secrets = append(secrets, w.key(t, "ann", []string{"all:/*", "subscribe,history:/$inbox/{user}"}, "").Secret)
		}
		test := &world{Server: &servertest.Server{URL: "http://" + w.TitanTest}}
		for _, at := range []struct {
			*world

			path, host string
			titan      bool
		}{
			{w, "/", w.URL, true},
			{w, "/no/such/path", w.URL, true},
			{test, "/", test.URL, true},
			{w, "/v1/texto", w.URL, false},
			{w, "/v1/texto?nogreet=1", w.URL, false},
		} {
			for origin, admitted := range map[string]bool{
				"":                                    true,
				at.host:                               true,
				"https://chat.example":                true,
				"https://chat.example:443":            true,
				"https://other.example:8443":          true,
				"https://other.example":               false,
				"http://chat.example":                 false,
				"https://www.chat.example":            false,
				"https://chat.example.evil.com":       false,
				"https://chat.example@evil.com":       false,
				"https://evil.example":                false,
				"null":                                false,
				"file://":                             false,
				"chrome-extension://abcdefghijklmnop": false,
				"http://localhost":                    open || at.titan,
				"http://localhost:3000":               open,
				"https://localhost":                   open,
				"http://127.0.0.1:1":                  open,
				"http://localhost.evil.com":           false,
				"http://127.0.0.1.evil.com":           false,
			} {
				headers := upgradeHeaders()
				if origin != "" {
					headers = append(headers, "Origin", origin)
				}
				for _, secret := range secrets {
					want := map[bool]int{true: http.StatusSwitchingProtocols, false: http.StatusForbidden}[admitted]
					if got := at.ask(t, "GET "+at.path, secret, "", headers...); got.status != want {
						t.Errorf("%s, open %t: %q is answered %d %s, want %d", at.path, open, origin, got.status, got.body, want)
					}
				}
			}
			if got := at.ask(t, "GET "+at.path, "", "", append(upgradeHeaders(), "Origin", "https://chat.example", "Origin", "https://evil.example")...); got.status != http.StatusForbidden {
				t.Errorf("%s, open %t: two origins are answered %d", at.path, open, got.status)
			}
		}
	}
}

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// TestBasicIsNotForPages (S6): what a browser remembers, it sends along for any
// page; so it counts for no page at all.
func TestBasicIsNotForPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quiet)
	secret := w.key(t, "ann", []string{"all:/a"}, "").Secret
	basic := func(user string) string { return "Basic " + base64Of(user+":"+secret) }
	for _, tt := range []struct {
		user    string
		headers []string
		status  int
	}{
		{"ann", nil, 200},
		{"ANN", nil, 200},
		{"", nil, 200},
		{"bob", nil, 401},
		{"ann", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"ann", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"ann", []string{"Sec-Fetch-Site", "none"}, 200},
		{"ann", []string{"Origin", w.URL}, 403},
	} {
		got := w.ask(t, "GET /v1/messages/a", "", "", append([]string{"Authorization", basic(tt.user)}, tt.headers...)...)
		if got.status != tt.status {
			t.Errorf("%s, %v: answered %d %s, want %d", tt.user, tt.headers, got.status, got.body, tt.status)
		}
		if got.status == http.StatusUnauthorized && got.header.Get("WWW-Authenticate") != `Bearer realm="parley"` {
			t.Errorf("a browser is asked by %q", got.header.Values("WWW-Authenticate"))
		}
	}
}

// TestHTTP (S24): answers say how they are to be taken, bodies must be what they
// say they are, and no header turns one method into another.
func TestHTTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quiet)
	secret := w.key(t, "ann", []string{"all:/a"}, "").Secret
	w.ask(t, "POST /v1/messages/a", secret, "<script>alert(1)</script>", "Content-Type", "text/html")
	for _, path := range []string{"/v1/messages/a", "/v1/body/a", "/v1/count/a", "/v1/none", "/v1/topics", "/api/subscribers/a", "/v1/subscribe/b", "/v1/inbox", "/v1/inbox/unread", "/v1/whoami", "/v1/users", "/v1/keys", "/v1/dead-letters", "/v1/send", "/texto/", "/v1/docs"} {
		for _, credential := range []string{secret, "", "parley_wrong"} {
			got := w.ask(t, "HEAD "+path, credential, "")
			if got.header.Get("X-Content-Type-Options") != "nosniff" || got.header.Get("Cache-Control") == "" && strings.HasPrefix(path, "/v1/") {
				t.Errorf("%s, %d: %v", path, got.status, got.header)
			}
		}
	}
	for _, name := range []string{"X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"} {
		if got := w.ask(t, "GET /v1/messages/a", secret, "", name, "POST"); got.status != http.StatusOK || !strings.Contains(got.body, `"messages"`) {
			t.Errorf("with %s: %d %s", name, got.status, got.body)
		}
	}
	for _, contentType := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json; charset=utf-16"} {
		for ask, body := range map[string]string{"POST /v1/messages": ` {"topic":"/a"}`, "POST /v1/send": ` {"to":"ann"}`, "POST /v1/inbox/read": ` {"seq":1}`} {
			if got := w.ask(t, ask, secret, body, "Content-Type", contentType); got.status != http.StatusUnsupportedMediaType {
				t.Errorf("%s of %q is answered %d", ask, contentType, got.status)
			}
		}
		if got := w.ask(t, "POST /v1/users", "", ` {"user":"mallory"}`, "Content-Type", contentType); got.status != http.StatusUnsupportedMediaType {
			t.Errorf("POST /v1/users of %q is answered %d", contentType, got.status)
		}
	}
}

// TestNothingIsLearnt (S12): a refusal is the same, to the byte and in time,
// whether there is such a topic, or such a user, or not.
func TestNothingIsLearnt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quiet)
	writer := w.key(t, "writer", []string{"all:/*"}, "").Secret
	for range 20 {
		w.ask(t, "POST /v1/messages/known", writer, strings.Repeat("x", 1000))
	}
	w.key(t, "bob", nil, "")
	eve := w.key(t, "eve", []string{"all:/eve"}, "").Secret
	revoked := w.key(t, "eve", []string{"all:/eve"}, "")
	operate(t, w, "DELETE", "/v1/keys/"+revoked.ID, "")

	sameHTTP := func(a, b, secretA, secretB string) {
		t.Helper()
		first, second := w.ask(t, a, secretA, "x"), w.ask(t, b, secretB, "x")
		if first.status < 400 || first.status != second.status || first.body != second.body || len(first.header) != len(second.header) {
			t.Errorf("%s and %s are answered\n%d %s\n%d %s", a, b, first.status, first.body, second.status, second.body)
		}
	}
	for _, path := range []string{"GET /v1/messages/", "GET /v1/count/", "GET /v1/body/", "GET /v1/topics/", "POST /v1/messages/", "GET /v1/subscribe/", "POST /api/message/", "GET /api/subscribers/", "GET /v1/retention/"} {
		sameHTTP(path+"known", path+"unkno", eve, eve)
		sameHTTP(path+"known", path+"known", "parley_wrong", revoked.Secret)
	}
	sameHTTP("GET /v1/messages/$inbox/bob", "GET /v1/messages/$inbox/bbb", eve, eve)
	if got := w.ask(t, "GET /v1/topics", eve, ""); got.status != 200 || strings.Contains(got.body, "known") {
		t.Errorf("the list of topics is answered %d %s", got.status, got.body)
	}

	c := w.rpc(t, eve)
	same := func(method, a, b string) {
		t.Helper()
		first, err := c.call(method, a)
		second, err2 := c.call(method, b)
		if err != nil || err2 != nil || first.kind() != "forbidden" && !strings.Contains(string(first.Result), "forbidden") ||
			first.Error != nil && *first.Error != *second.Error || string(first.Result) != string(second.Result) {
			t.Errorf("%s of %s and %s: %+v %s, %+v %s", method, a, b, first.Error, first.Result, second.Error, second.Result)
		}
	}
	for _, method := range []string{"subscribe", "history", "count", "publish"} {
		same(method, `{"topic":"/known"}`, `{"topic":"/unkno"}`)
		same(method, `{"topic":"/$inbox/bob"}`, `{"topic":"/$inbox/bbb"}`)
	}
	same("msg.send", `{"to":"bob","text":"x"}`, `{"to":"bbb","text":"x"}`)

	known, unknown := quickest(t, c, "/known"), quickest(t, c, "/unkno")
	if ratio := float64(known) / float64(unknown); ratio > 2 || ratio < 0.5 {
		t.Errorf("a topic that is there is refused in %v, another in %v", known, unknown)
	}
}

// quickest is the time that a tenth of many refusals stays below: noise makes
// them slower only.
func quickest(t *testing.T, c *rpc, topic string) time.Duration {
	t.Helper()
	const tries = 300
	all := make([]time.Duration, tries)
	for i := range all {
		began := time.Now()
		if _, err := c.call("history", `{"topic":"`+topic+`"}`); err != nil {
			t.Fatal(err)
		}
		all[i] = time.Since(began)
	}
	slices.Sort(all)
	return all[tries/10]
}
