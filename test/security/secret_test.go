package security_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// TestNoCredentialIsShown (S14): a key that is good, and one that is not, in a
// header and in the URL of every kind of route, is in no log, metric, list,
// profile or answer, and the store has no more of it than a hash (S19).
func TestNoCredentialIsShown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWorld(t, servertest.Dir(dir), func(c *server.Config) { c.Access.Rates = nil })
	good := w.key(t, "ann", []string{"all:/a", "admin:/*"}, `,"note":"mine"`).Secret
	const bad = "parley_S3cr3tHunter2"
	token := strings.Join([]string{"eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiJhbm4ifQ", "S3cr3tSignature"}, ".")
	secrets := []string{good, bad, token}
	paths := []string{
		"/", "/v1/rpc", "/v1/messages/a", "/v1/messages", "/v1/subscribe/b", "/v1/topics", "/v1/topics/a", "/v1/keys", "/v1/users/ann", "/v1/none", "/v1//x",
		"/stream", "/stream/user/ann", "/stream/user/bob", "/api/message/a", "/api/message/", "/api/subscribers/a", "/admin/healthcheck", "/admin/metrics", "/debug/vars",
		"/admin/router", "/anything",
	}
	upgrade := []string{"Upgrade", "websocket", "Connection", "Upgrade", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}
	check := func(where, text string) {
		for _, s := range secrets {
			if strings.Contains(text, s) || strings.Contains(text, s[7:]) {
				t.Errorf("%s shows a secret: %.300s", where, text)
			}
		}
	}
	for _, path := range paths {
		for _, secret := range secrets {
			for _, query := range []string{"?access_token=" + secret, "?a=b&%61ccess_token=" + secret + "&access_token=" + secret, "?access_token=" + secret + "%zz"} {
				for _, headers := range [][]string{nil, upgrade} {
					got := w.ask(t, "GET "+path+query, "", "", headers...)
					head := new(strings.Builder)
					_ = got.header.Write(head)
					check("the answer to "+path, got.body+head.String())
				}
			}
			got := w.ask(t, "POST "+path, secret, "x")
			check("the answer to POST "+path, got.body)
		}
	}
	for _, path := range []string{"/admin/metrics", "/admin/metrics-old", "/admin/router", "/debug/vars", "/admin/debug/pprof/goroutine?debug=2", "/admin/debug/pprof/heap?debug=1", "/v1/keys", "/v1/users/ann"} {
		got := w.ask(t, "GET "+path, "", "")
		if got.status != http.StatusOK {
			t.Errorf("%s is answered %d", path, got.status)
		}
		check(path, got.body)
	}
	w.Stop()
	check("the log", w.log.String())
	if !strings.Contains(w.log.String(), `"kind":"failure"`) {
		t.Error("the log does not have the failures")
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		p, err := os.ReadFile(path)
		for _, s := range secrets {
			if bytes.Contains(p, []byte(s)) || bytes.Contains(p, []byte(s[7:])) {
				t.Errorf("%s has a secret", path)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestKeysAreRandom (S19): secrets have 128 bits or more, share nothing, and one
// with a letter changed is nobody's.
func TestKeysAreRandom(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quiet)
	var all []string
	for range 50 {
		all = append(all, w.key(t, "ann", nil, "").Secret)
	}
	slices.Sort(all)
	for i, s := range all {
		const id, secret = 16, 32 // hexadecimal digits: a name, and 128 bits
		if random := strings.TrimPrefix(s, "parley_"); len(random) < id+secret {
			t.Errorf("a secret of %d characters", len(random))
		}
		if i > 0 && sharedPrefix(s, all[i-1]) > len("parley_")+12 {
			t.Errorf("two secrets begin alike")
		}
	}
	s := []byte(all[0])
	for i := len("parley_"); i < len(s); i++ {
		changed := bytes.Clone(s)
		if changed[i]++; changed[i] == 'z'+1 || changed[i] == 'Z'+1 || changed[i] == '9'+1 {
			changed[i] -= 2
		}
		// Any route tells: a good key gets 403, or 200.
		if got := w.ask(t, "GET /v1/messages/a", string(changed), ""); got.status != http.StatusUnauthorized {
			t.Errorf("a key with its character %d changed is answered %d", i, got.status)
		}
	}
	if got := w.ask(t, "GET /v1/messages/a", all[0], ""); got.status != http.StatusForbidden {
		t.Errorf("the key itself is answered %d", got.status)
	}
}

func sharedPrefix(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// TestLogLines (S16, S28): what strangers say makes no line of the log that they
// chose.
func TestLogLines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := w.key(t, "ann", []string{"publish:/a"}, "").Secret
	c := w.rpc(t, key)
	for _, text := range []string{"\r\n{\"level\":\"INFO\",\"msg\":\"forged\"}", "\u2028forged", "\x1b[31mforged", "\x00forged"} {
		_, _ = c.call("publish", `{"topic":`+quote("/b/"+text)+`,"text":"x"}`)
		_, _ = c.call("msg.send", `{"to":`+quote("bob"+text)+`,"text":"x"}`)
		w.ask(t, "POST /api/message/a?userId=bob%0d%0aforged%0a", key, "x")
		w.ask(t, "GET /v1/messages/b%0d%0aforged", key, "")
		w.ask(t, "GET /stream/user/bob%0aforged", key, "")
	}
	w.Stop()
	for line := range strings.Lines(w.log.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry["msg"] == "forged" || strings.ContainsAny(strings.TrimSuffix(line, "\n"), "\x00\x1b\r\u2028") {
			t.Errorf("a line of the log is %q", line)
		}
	}
}

// TestFloodOfFailures (S28): every failure is counted, and the log has a few of
// them and says how many it left out.
func TestFloodOfFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) { c.Access.Rates = nil })
	const flood = 300
	for range flood {
		if got := w.ask(t, "GET /v1/messages/a", "parley_wrong", ""); got.status != http.StatusUnauthorized {
			t.Fatalf("answered %d", got.status)
		}
	}
	denied := w.rpc(t, w.key(t, "ann", nil, "").Secret)
	for range flood {
		if m, err := denied.call("publish", `{"topic":"/a","text":"x"}`); err != nil || m.kind() != "forbidden" {
			t.Fatalf("%+v, %v", m.Error, err)
		}
	}
	metrics := w.ask(t, "GET /admin/metrics", "", "").body
	for _, want := range []string{`parley_audit_events_total{kind="failure"} 300`, `parley_audit_events_total{kind="denial"} 300`, `parley_audit_events_total{kind="admin"} 1`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	w.Stop()
	for _, kind := range []string{"failure", "denial"} {
		if n := strings.Count(w.log.String(), `"kind":"`+kind+`"`); n == 0 || n > 20 {
			t.Errorf("%d lines for %d of the kind %s", n, flood, kind)
		}
	}
	if !strings.Contains(w.log.String(), `"kind":"admin"`) {
		t.Error("the log lacks an operator's deed")
	}
}

// TestRateOfFailures (S11): who fails too often is told to wait, with a good
// credential too, by every protocol; others are not.
func TestRateOfFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quiet, func(c *server.Config) {
		r, err := server.ParseRateLimit("auth/address=1/h:3")
		if err != nil {
			t.Fatal(err)
		}
		c.Access.Rates = []server.RateLimit{r}
	})
	good := w.key(t, "ann", []string{"all:/a"}, "").Secret
	for i := range 3 {
		if got := w.ask(t, "GET /v1/messages/a", good, ""); got.status != http.StatusOK {
			t.Fatalf("a good key is answered %d", got.status)
		}
		if got := w.ask(t, "GET /v1/messages/a", "parley_wrong", ""); got.status != http.StatusUnauthorized {
			t.Fatalf("wrong key %d is answered %d", i, got.status)
		}
	}
	for _, path := range []string{"/v1/messages/a", "/v1/subscribe/a", "/api/subscribers/a"} {
		if got := w.ask(t, "GET "+path, good, ""); got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") == "" {
			t.Errorf("%s is answered %d %v", path, got.status, got.header)
		}
	}
	c := w.rpc(t, "")
	m, err := c.call("auth", `{"api_key":"`+good+`"}`)
	if err != nil || m.Error == nil || m.Error.Data.Code != "rate_limited" || m.Error.Data.RetryMS < 1000 {
		t.Errorf("auth is answered %+v, %v", m.Error, err)
	}
}
