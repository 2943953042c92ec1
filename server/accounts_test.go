package server_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// bearing shows a credential, and with a body sends JSON.
func bearing(secret, body string) func(*http.Request) {
	return func(r *http.Request) {
		if body != "" {
			withBody("application/json", body)(r)
		}
		r.Header.Set("Authorization", "Bearer "+secret)
	}
}

// member is a member of an answer's object that is a text.
func member(t *testing.T, body, name string) string {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	text, _ := v[name].(string)
	return text
}

// TestAccounts: what an operator issues is accepted, may what it was granted, and
// is not accepted any more when it, its user or all of theirs is revoked.
func TestAccounts(t *testing.T) {
	s := servertest.Start(t, func(c *server.Config) { c.Access.Required = true })
	do := func(method, path string, edit func(*http.Request), status int) string {
		t.Helper()
		got := request(t, method, s.URL+path, edit)
		if got.status != status {
			t.Fatalf("%s %s is answered by %d %s, want %d", method, path, got.status, got.body, status)
		}
		return got.body
	}
	body := func(text string) func(*http.Request) { return withBody("application/json", text) }
	do("POST", "/v1/send", body(`{"to":"ann"}`), 401)
	do("POST", "/v1/users", body(`{"user":"ann","grants":["send:/$inbox/*"]}`), 201)

	token := member(t, do("POST", "/v1/users/ann/tokens", body(`{"ttl":"1h","device":"phone"}`), 201), "token")
	if got := do("GET", "/v1/whoami", bearing(token, ""), 200); member(t, got, "user") != "ann" || member(t, got, "device") != "phone" {
		t.Errorf("the token proves %s", got)
	}
	do("POST", "/v1/send", bearing(token, `{"to":"bob","text":"hi"}`), 201)
	do("POST", "/v1/messages/orders", bearing(token, `{}`), 403)
	if got := do("GET", "/v1/users/ann/devices", nil, 200); !strings.Contains(got, `"device":"phone"`) {
		t.Errorf("the devices are %s", got)
	}
	do("GET", "/v1/whoami", func(r *http.Request) {
		bearing(token, "")(r)
		r.Header.Set("Parley-User", "bob")
	}, 400)

	do("PATCH", "/v1/users/ann", body(`{"suspended":true}`), 200)
	do("GET", "/v1/whoami", bearing(token, ""), 401)
	do("PATCH", "/v1/users/ann", body(`{"suspended":false}`), 200)
	do("GET", "/v1/whoami", bearing(token, ""), 200)
	do("DELETE", "/v1/users/ann/tokens", nil, 200)
	do("GET", "/v1/whoami", bearing(token, ""), 401)
	made := do("POST", "/v1/users/ann/tokens", body(`{"ttl":"1h"}`), 201)
	token = member(t, made, "token")
	do("GET", "/v1/whoami", bearing(token, ""), 200)
	do("DELETE", "/v1/tokens/"+member(t, made, "id"), nil, 200)
	do("GET", "/v1/whoami", bearing(token, ""), 401)

	made = do("POST", "/v1/keys", body(`{"user":"shop","grants":["publish:/orders"]}`), 201)
	key := member(t, made, "secret")
	do("POST", "/v1/messages/orders", bearing(key, `{}`), 201)
	do("POST", "/v1/messages/other", bearing(key, `{}`), 403)
	do("DELETE", "/v1/keys/"+member(t, made, "key"), nil, 200)
	do("POST", "/v1/messages/orders", bearing(key, `{}`), 401)
}

// TestOperatorsCredential: from elsewhere, what is for operators is for who was
// granted admin of everything, and nobody else.
func TestOperatorsCredential(t *testing.T) {
	s := servertest.Start(t, func(c *server.Config) { c.Access.Required = true })
	key := func(grant string) string {
		got := request(t, "POST", s.URL+"/v1/keys", withBody("application/json", `{"user":"ops","grants":["`+grant+`"]}`))
		return member(t, got.body, "secret")
	}
	for grant, status := range map[string]int{"admin:/*": 200, "admin:/orders": 403, "all:/*": 403} {
		secret := key(grant)
		got := request(t, "GET", s.URL+"/v1/users", func(r *http.Request) {
			bearing(secret, "")(r)
			r.Header.Set("X-Forwarded-For", "192.0.2.1")
		})
		if got.status != status {
			t.Errorf("with %s an operator's route is %d %s, want %d", grant, got.status, got.body, status)
		}
	}
}

// TestEverythingOfAUser: the export has the marker, the place of the device, the
// inbox and the dead letters; a dead letter can be replayed; deleting leaves
// nothing of them.
func TestEverythingOfAUser(t *testing.T) {
	s := servertest.Start(t)
	c := dial(t, s.RPC)
	// told says one thing and reads until the server says another.
	told := func(command, want string) {
		t.Helper()
		if command != "" {
			if err := c.Write(c.AppendFrame(nil, true, []byte(command))); err != nil {
				t.Fatal(err)
			}
		}
		for {
			for _, line := range hear(t, c) {
				if strings.Contains(line, want) {
					return
				}
			}
		}
	}
	told(`{"jsonrpc":"2.0","id":1,"method":"auth","params":{"user":"ann","device":"phone"}}`, `"id":1,"result"`)
	told(`{"jsonrpc":"2.0","id":2,"method":"inbox.open"}`, `"id":2,"result"`)
	for _, text := range []string{"one", "two"} {
		if got := request(t, "POST", s.URL+"/v1/send", as("bob", `{"to":"ann","text":"`+text+`"}`)); got.status != 201 {
			t.Fatalf("sending is answered by %d %s", got.status, got.body)
		}
	}
	seqs := regexp.MustCompile(`"seq":(\d+)`)
	told("", `"text":"two"`)
	page := request(t, "GET", s.URL+"/v1/inbox", as("ann", "")).body
	first := seqs.FindStringSubmatch(page)[1]
	told(`{"jsonrpc":"2.0","id":3,"method":"nak","params":{"sub":1,"seqs":[`+first+`],"dead":true,"reason":"no good"}}`, `"id":3,"result"`)
	told(`{"jsonrpc":"2.0","id":4,"method":"ack","params":{"sub":1,"ranges":[[1,9007199254740991]]}}`, `"id":4,"result"`)
	if got := request(t, "POST", s.URL+"/v1/inbox/read", as("ann", `{"seq":`+first+`}`)); got.status != 200 || !strings.Contains(got.body, `"unread":1`) {
		t.Errorf("marking is answered by %d %s", got.status, got.body)
	}

	var letters string
	eventually(t, "a dead letter", func() bool {
		letters = request(t, "GET", s.URL+"/v1/dead-letters?owner=ann", nil).body
		return strings.Contains(letters, `"reason":"no good"`)
	})
	if got := request(t, "GET", s.URL+"/v1/subscriptions?owner=ann", nil).body; !strings.Contains(got, `"name":"phone","topic":"/$inbox/ann"`) {
		t.Errorf("the subscriptions are %s", got)
	}
	export := request(t, "GET", s.URL+"/v1/users/ann/export", nil)
	for _, want := range []string{
		`{"kind":"read_marker","seq":` + first, `{"kind":"cursor","owner":"ann","name":"phone"`,
		`{"kind":"message","topic":"/$inbox/ann/bob"`, `"text":"one"`, `"text":"two"`, `{"kind":"dead_letter"`,
	} {
		if export.status != 200 || !strings.Contains(export.body, want) {
			t.Errorf("the export %d lacks %s: %s", export.status, want, export.body)
		}
	}
	dead := seqs.FindStringSubmatch(letters)[1]
	if got := request(t, "POST", s.URL+"/v1/dead-letters/"+dead+"/replay?owner=ann", nil); got.status != 200 {
		t.Errorf("replaying is answered by %d %s", got.status, got.body)
	}
	told("", `"text":"one"`)

	got := request(t, "DELETE", s.URL+"/v1/users/ann", nil)
	if got.status != 200 || !strings.Contains(got.body, `"messages":2,`) || !strings.Contains(got.body, `"cursors":1,`) {
		t.Errorf("deleting is answered by %d %s", got.status, got.body)
	}
	if got := request(t, "GET", s.URL+"/v1/users/ann/export", nil); got.status != 404 {
		t.Errorf("afterwards the export is %d %s", got.status, got.body)
	}
}
