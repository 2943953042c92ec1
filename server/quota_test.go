package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// quotas is a server that asks everybody who they are, and its operator.
type quotas struct {
	*servertest.Server

	t *testing.T
}

// allowed lets all users publish and send.
func allowed(t *testing.T) servertest.Option {
	t.Helper()
	return func(c *server.Config) {
		c.Access.Required = true
		for _, text := range []string{"all:/*", "send:/$inbox/*"} {
			g, err := account.ParseGrant(text)
			if err != nil {
				t.Fatal(err)
			}
			c.Access.Grants = append(c.Access.Grants, g)
		}
	}
}

// do makes a request as who has the token, or as an operator.
func (q *quotas) do(what, token string, status int) answer {
	q.t.Helper()
	method, rest, _ := strings.Cut(what, " ")
	path, body, _ := strings.Cut(rest, " ")
	got := request(q.t, method, q.URL+path, func(r *http.Request) {
		switch {
		case strings.HasPrefix(body, "{"):
			withBody("application/json", body)(r)
		case body != "":
			withBody("text/plain", body)(r)
		}
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
	})
	if got.status != status {
		q.t.Fatalf("%s is answered %d %s, want %d", what, got.status, got.body, status)
	}
	return got
}

func (q *quotas) token(user string) string {
	q.t.Helper()
	return member(q.t, q.do("POST /v1/users/"+user+"/tokens {}", "", http.StatusCreated).body, "token")
}

func (q *quotas) dial(token string) *client.Client {
	q.t.Helper()
	c, err := client.Dial(q.t.Context(), q.URL, client.Options{Token: func(context.Context) (string, error) { return token, nil }})
	if err != nil {
		q.t.Fatal(err)
	}
	q.t.Cleanup(func() { _ = c.Close() })
	return c
}

// used is what is stored of a user; -1 while nothing is counted.
func (q *quotas) used(user string) int64 {
	q.t.Helper()
	var shown struct {
		Used *int64 `json:"used_bytes"`
	}
	got := q.do("GET /v1/users/"+user, "", http.StatusOK)
	if err := json.Unmarshal([]byte(got.body), &shown); err != nil {
		q.t.Fatal(err)
	}
	if shown.Used == nil {
		return -1
	}
	return *shown.Used
}

// over reports what is wrong with a refusal in the native protocol.
func over(t *testing.T, what string, err error) {
	t.Helper()
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Reason != client.ReasonQuota || e.After != time.Minute || !errors.Is(err, parley.ErrUnavailable) || !strings.Contains(e.Message, " of 2048 are stored and this needs ") {
		t.Errorf("%s: %v", what, err)
	}
}

// TestQuotaEverywhere (S11): a quota that is set while the user is connected counts
// at once, in each protocol; what was stored before is counted and answered as it
// was; nobody else is held back, and what is removed makes room.
func TestQuotaEverywhere(t *testing.T) {
	dir, ca := authority(t)
	q := &quotas{servertest.Start(t, devastator(t, dir, ca), allowed(t)), t}
	ann, bob := q.token("ann"), q.token("bob")
	conn := q.dial(ann)
	body := []byte(strings.Repeat("x", 500))
	first := parley.Message{Topic: "/a", ID: "first", Body: body}
	stored, err := conn.Publish(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	if n := q.used("ann"); n != -1 {
		t.Errorf("%d bytes are counted though nobody has a quota", n)
	}
	changed := q.do(`PATCH /v1/users/ann {"quota":"2KiB"}`, "", http.StatusOK)
	if !strings.Contains(changed.body, `"quota":"2KiB","quota_bytes":2048,"used_bytes":`) {
		t.Errorf("after the change: %s", changed.body)
	}
	before := q.used("ann")
	if before < 500 || before > 1000 {
		t.Errorf("%d bytes are counted of one message of 500", before)
	}

	big := strings.Repeat("y", 2000)
	_, err = conn.Publish(t.Context(), parley.Message{Topic: "/a", Body: []byte(big)})
	over(t, "publish", err)
	_, err = conn.PublishAll(t.Context(), []parley.Message{{Topic: "/a", Body: []byte(big)}})
	over(t, "publish a batch", err)
	for range 2 { // a letter with its copy, and once more
		_, err = conn.Send(t.Context(), client.Letter{To: []string{"bob"}, Body: body, ID: "letter"})
		over(t, "send", err)
	}
	if again, err := conn.Publish(t.Context(), first); err != nil || !again.Duplicate || again.Seq != stored.Seq {
		t.Errorf("what was stored before is answered %+v %v", again, err)
	}
	if n := q.used("ann"); n != before {
		t.Errorf("%d bytes are counted after the refusals, %d before", n, before)
	}

	for _, what := range []string{"POST /v1/messages/a " + big, `POST /v1/messages {"messages":[{"topic":"/a","text":"` + big + `"}]}`, `POST /v1/send {"to":"bob","text":"` + big + `"}`} {
		got := q.do(what, ann, http.StatusInsufficientStorage)
		if !strings.Contains(got.body, `"code":"quota_exceeded"`) || !strings.Contains(got.body, `"retry_ms":60000`) || got.header.Get("Retry-After") != "60" {
			t.Errorf("%.20s is answered %s %v", what, got.body, got.header)
		}
	}
	old := q.do("POST /api/message/a "+big, ann, http.StatusInsufficientStorage)
	if !strings.HasPrefix(old.body, "quota_exceeded: ") || old.header.Get("Retry-After") != "60" {
		t.Errorf("Gobbler's API answers %s %v", old.body, old.header)
	}
	titan := titanAt(t, q.Server)
	titan.ask(`{"id":"j","method":"auth.jwt","params":{"token":"` + ann + `"}}`)
	titan.want(`{"id":"j","result":"ACK"}`)
	titan.ask(`{"id":"s","method":"msg.send","params":[{"to":"bob","message":"` + big + `"}]}`)
	if got := titan.next(); !strings.HasPrefix(got, `{"id":"s","error":{"code":-32005,"message":"the quota of stored bytes is used up`) {
		t.Errorf("Titan's dialect answers %s", got)
	}
	length := dialLength(t, q.Devastator, holding(t, ca, "ann"))
	if got := say(t, length, true, `{"id":"s","method":"msg.send","params":{"to":"bob","message":"`+big+`"}}`); !strings.Contains(got[0], `"error":{"code":-32005,"message":"the quota of stored bytes is used up`) {
		t.Errorf("Devastator's dialect answers %q", got)
	}
	gobbler, err := wire.Dial(t.Context(), q.Gobbler+"user/ann?access_token="+ann, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = gobbler.Close(wire.CloseNormal, "") }()
	if err := gobbler.Write(gobbler.AppendFrame(nil, true, []byte("> /a 1\n\n"+big))); err != nil {
		t.Fatal(err)
	}
	for got := ""; !strings.HasPrefix(got, "!error-send"); {
		got = strings.Join(hear(t, gobbler), "\n")
		if i := strings.Index(got, "!error-send"); i >= 0 {
			if got = got[i:]; !strings.Contains(got, "quota of stored bytes") {
				t.Errorf("Gobbler's protocol answers %s", got)
			}
		}
	}

	q.do(`POST /v1/send {"to":"ann","text":"`+big+`"}`, bob, http.StatusCreated) // Ann's own quota is nobody else's
	// Of eleven messages; the copies of letters are messages too.
	metrics := request(t, "GET", q.Admin+"/admin/metrics", nil).body
	if !strings.Contains(metrics, "parley_quota_exceeded_messages_total 16\n") || !strings.Contains(metrics, `parley_audit_events_total{kind="exceeded"} 11`) ||
		!strings.Contains(metrics, "parley_quota_counting 0\n") {
		t.Errorf("the metrics have\n%s%s", grepped(metrics, "quota"), grepped(metrics, "audit"))
	}

	q.do("DELETE /v1/topics/a", "", http.StatusOK)
	if n := q.used("ann"); n != 0 {
		t.Errorf("%d bytes are counted after the purge", n)
	}
	if _, err := conn.Send(t.Context(), client.Letter{To: []string{"bob"}, Body: body, ID: "letter"}); err != nil {
		t.Errorf("with room again: %v", err)
	}
	q.do(`PATCH /v1/users/ann {"quota":"none"}`, "", http.StatusOK)
	if _, err := conn.Publish(t.Context(), parley.Message{Topic: "/a", Body: []byte(big)}); err != nil {
		t.Errorf("without a quota: %v", err)
	}
}

// TestQuotaAndDeletion: what others have sent to a user who is deleted counts to
// them no more; who gets the name later begins with nothing, though what the user
// had sent to others is still there.
func TestQuotaAndDeletion(t *testing.T) {
	t.Parallel()
	q := &quotas{servertest.Start(t, allowed(t), func(c *server.Config) { c.Access.Quota = 1 << 20 }), t}
	ann, bob := q.token("ann"), q.token("bob")
	q.do(`POST /v1/send {"to":"bob","text":"hi"}`, ann, http.StatusCreated)
	q.do(`POST /v1/send {"to":"ann","text":"hi"}`, bob, http.StatusCreated)
	size := q.used("ann") // of two: Bob's, and the copy
	if size == 0 || size != q.used("bob") {
		t.Errorf("Ann uses %d and Bob %d", size, q.used("bob"))
	}
	q.do("DELETE /v1/users/bob", "", http.StatusOK)
	if n := q.used("ann"); n != size/2 {
		t.Errorf("Ann uses %d when the letter to Bob is gone, want %d", n, size/2)
	}
	q.do(`POST /v1/users {"user":"bob","quota":"1GiB"}`, "", http.StatusCreated)
	if n := q.used("bob"); n != 0 {
		t.Errorf("another Bob begins with %d", n)
	}
	q.do(`POST /v1/send {"to":"bob","text":"hi"}`, q.token("bob"), http.StatusCreated)
	own := q.used("bob")
	q.do("DELETE /v1/users/ann", "", http.StatusOK) // with the first Bob's letter
	if n := q.used("bob"); n != own || n == 0 {
		t.Errorf("Bob uses %d, want %d", n, own)
	}
}

// TestQuotaGarbage: what is no quota changes nothing.
func TestQuotaGarbage(t *testing.T) {
	t.Parallel()
	q := &quotas{servertest.Start(t, allowed(t)), t}
	q.do(`POST /v1/users {"user":"ann","quota":"1MiB"}`, "", http.StatusCreated)
	for _, value := range []string{`""`, `"0"`, `"-1"`, `"1e3"`, `"1 MB"`, `"2000TiB"`, `"99999999999999999999"`, `"NONE"`, `"unlimited"`, `7`, `["1MiB"]`, `{}`, `true`, `"` + strings.Repeat("1", 300) + `"`, `"1MiB\u0000"`} {
		q.do(`PATCH /v1/users/ann {"quota":`+value+`}`, "", http.StatusBadRequest)
		q.do(`POST /v1/users {"user":"bob","quota":`+value+`}`, "", http.StatusBadRequest)
	}
	if got := q.do("GET /v1/users/ann", "", http.StatusOK); !strings.Contains(got.body, `"quota":"1MiB","quota_bytes":`+strconv.Itoa(1<<20)) {
		t.Errorf("afterwards: %s", got.body)
	}
	q.do("GET /v1/users/bob", "", http.StatusNotFound)
}

// TestQuotaReload: a quota for all that is reloaded counts at once, for what was
// stored before too, and survives a restart; a user's own wins.
func TestQuotaReload(t *testing.T) {
	t.Parallel()
	r := startReloading(t, "auth: true\ngrant: ['all:/*']\n")
	q := &quotas{r.Server, t}
	ann, bob := q.token("ann"), q.token("bob")
	q.do(`POST /v1/users {"user":"bob","quota":"none"}`, "", http.StatusCreated)
	conn := q.dial(ann)
	body := []byte(strings.Repeat("x", 2000))
	if _, err := conn.Publish(t.Context(), parley.Message{Topic: "/a", Body: body}); err != nil {
		t.Fatal(err)
	}
	if got := r.reload(t, "auth: true\ngrant: ['all:/*']\nuser-quota: 2KiB\n"); !strings.Contains(got, "user-quota: 2KiB") {
		t.Errorf("the reload says %s", got)
	}
	_, err := conn.Publish(t.Context(), parley.Message{Topic: "/a", Body: []byte("x")})
	over(t, "after the reload", err)
	q.do("POST /v1/messages/a "+string(body), bob, http.StatusCreated)
	r.reload(t, "auth: true\ngrant: ['all:/*']\n")
	if _, err := conn.Publish(t.Context(), parley.Message{Topic: "/a", Body: []byte("x")}); err != nil {
		t.Errorf("without a quota: %v", err)
	}
}
