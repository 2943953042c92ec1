package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
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

func TestParseRateLimit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]server.RateLimit{
		"publish/user=100/s":                {What: "publish", Of: "user", Count: 100, Per: time.Second, Burst: 100},
		"publish/topic=5/m:50":              {What: "publish", Of: "topic", Count: 5, Per: time.Minute, Burst: 50},
		"send-bytes/device=1GiB/d":          {What: "send-bytes", Of: "device", Count: 1 << 30, Per: 24 * time.Hour, Burst: 1 << 30},
		"publish-bytes/address=1KiB/h:2KiB": {What: "publish-bytes", Of: "address", Count: 1024, Per: time.Hour, Burst: 2048},
		"connect/address=1/s":               {What: "connect", Of: "address", Count: 1, Per: time.Second, Burst: 1},
		"auth/address=10/s:100":             {What: "auth", Of: "address", Count: 10, Per: time.Second, Burst: 100},
	} {
		got, err := server.ParseRateLimit(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s is %+v (%s), %v", text, got, got, err)
		}
	}
	for _, text := range []string{
		"", "publish", "publish=1/s", "publish/user", "publish/user=1", "publish/user=0/s", "publish/user=-1/s", "publish/user=1/w", "publish/user=1/s:0",
		"publish/user=1.5/s", "publish/user=1KiB/s", "publish/everybody=1/s", "talk/user=1/s", "auth/user=1/s", "connect/topic=1/s", "publish/user=1/s:", "publish/user=9999999999999999999/s",
	} {
		if got, err := server.ParseRateLimit(text); err == nil {
			t.Errorf("%q is %+v", text, got)
		}
	}
}

// TestRatesOverHTTP (S11): past a rate a publish is refused with when to come
// again, by the API and by Gobbler's, a batch as well, and what is not past it is
// not; a reload changes the rate.
func TestRatesOverHTTP(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, func(c *server.Config) {
		c.Access.Rates = []server.RateLimit{
			{What: "publish", Of: "topic", Count: 2, Per: time.Hour, Burst: 2},
			{What: "publish-bytes", Of: "topic", Count: 10, Per: time.Hour, Burst: 10},
		}
	})
	post := func(topic, body string) answer {
		return request(t, "POST", s.URL+"/v1/messages"+topic, withBody("text/plain", body))
	}
	for i := range 2 {
		if got := post("/a", "hi"); got.status != http.StatusCreated {
			t.Fatalf("publish %d is answered %d %s", i+1, got.status, got.body)
		}
	}
	got := post("/a", "hi")
	if got.status != http.StatusTooManyRequests || !strings.Contains(got.body, `"code":"rate_limited"`) || !strings.Contains(got.body, `"retry_ms":1`) ||
		got.header.Get("Retry-After") != "1800" {
		t.Errorf("the third is answered %d %s %v", got.status, got.body, got.header)
	}
	if got := post("/b", "hi"); got.status != http.StatusCreated {
		t.Errorf("another topic is answered %d %s", got.status, got.body)
	}
	if got := post("/c", "0123456789"); got.status != http.StatusCreated {
		t.Errorf("ten bytes are answered %d %s", got.status, got.body)
	}
	if got := post("/c", "x"); got.status != http.StatusTooManyRequests || !strings.Contains(got.body, "bytes published to this topic") {
		t.Errorf("the eleventh is answered %d %s", got.status, got.body)
	}
	old := request(t, "POST", s.URL+"/api/message/a", withBody("text/plain", "hi"))
	if old.status != http.StatusTooManyRequests || !strings.HasPrefix(old.body, "rate_limited: ") || old.header.Get("Retry-After") == "" {
		t.Errorf("by Gobbler's API: %d %s", old.status, old.body)
	}
	batch := request(t, "POST", s.URL+"/v1/messages", withBody("application/json", `{"messages":[{"topic":"/a"},{"topic":"/d"}]}`))
	if batch.status != http.StatusTooManyRequests || !strings.Contains(batch.body, `{"topic":"/d","seq":`) {
		t.Errorf("a batch is answered %d %s", batch.status, batch.body)
	}
	if metrics := request(t, "GET", s.Admin+"/admin/metrics", nil).body; !strings.Contains(metrics, `parley_audit_events_total{kind="exceeded"} 4`) {
		t.Errorf("the metrics have\n%s", grepped(metrics, "audit"))
	}
}

// TestSendRateOverHTTP (S11): what is sent by a request counts as sent, for each
// recipient; and the bytes of what is published by Gobbler's API count too.
func TestSendRateOverHTTP(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, func(c *server.Config) {
		c.Access.Rates = []server.RateLimit{
			{What: "send", Of: "topic", Count: 1, Per: time.Hour, Burst: 1},
			{What: "publish-bytes", Of: "topic", Count: 2, Per: time.Hour, Burst: 2},
		}
	})
	send := func(to string) answer {
		return request(t, "POST", s.URL+"/v1/send", func(r *http.Request) {
			withBody("application/json", `{"to":`+to+`,"text":"hi there"}`)(r)
			r.Header.Set("Parley-User", "bob")
		})
	}
	for _, tt := range []struct {
		to   string
		want int
	}{{`"ann"`, http.StatusCreated}, {`"ann"`, http.StatusTooManyRequests}, {`["ann","carol"]`, http.StatusTooManyRequests}, {`"carol"`, http.StatusTooManyRequests}, {`"dave"`, http.StatusCreated}} {
		if got := send(tt.to); got.status != tt.want {
			t.Errorf("to %s it is answered %d %s", tt.to, got.status, got.body)
		}
	}
	for i, want := range []int{http.StatusOK, http.StatusTooManyRequests} {
		if got := request(t, "POST", s.URL+"/api/message/a", withBody("text/plain", "hi")); got.status != want {
			t.Errorf("publish %d is answered %d %s", i+1, got.status, got.body)
		}
	}
}

// TestConnectRateOfAUser (S11): a user's connections count, and neither requests nor
// a credential that is shown again on one of them do.
func TestConnectRateOfAUser(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, func(c *server.Config) {
		c.Access.Required = true
		c.Access.Rates = []server.RateLimit{{What: "connect", Of: "user", Count: 1, Per: time.Hour, Burst: 1}}
	})
	var made struct{ Token string }
	if got := request(t, "POST", s.URL+"/v1/users/ann/tokens", withBody("application/json", `{}`)); json.Unmarshal([]byte(got.body), &made) != nil || made.Token == "" {
		t.Fatalf("a token is answered %d %s", got.status, got.body)
	}
	bearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+made.Token) }
	o := client.Options{Token: func(context.Context) (string, error) { return made.Token, nil }}
	conn, err := client.Dial(t.Context(), s.URL, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for range 3 {
		if got := request(t, "GET", s.URL+"/v1/whoami", bearer); got.status != http.StatusOK {
			t.Errorf("a request is answered %d %s", got.status, got.body)
		}
	}
	if _, err := client.Dial(t.Context(), s.URL, o); !errors.Is(err, parley.ErrUnavailable) {
		t.Errorf("a second connection: %v", err)
	}
	if metrics := request(t, "GET", s.Admin+"/admin/metrics", nil).body; !strings.Contains(metrics, `parley_audit_events_total{kind="exceeded"} `) ||
		strings.Contains(metrics, `parley_audit_events_total{kind="exceeded"} 0`) {
		t.Errorf("the metrics have\n%s", grepped(metrics, "audit"))
	}
}

// TestConnectRate (S11): past the rate of connections an address is told when to
// come again.
func TestConnectRate(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, func(c *server.Config) {
		c.Access.Rates = []server.RateLimit{{What: "connect", Of: "address", Count: 1, Per: time.Hour, Burst: 1}}
	})
	first := request(t, "GET", s.URL+"/v1/rpc", nil) // not an upgrade, but it knocked
	if first.status != http.StatusBadRequest {
		t.Errorf("the first is answered %d %s", first.status, first.body)
	}
	if got := request(t, "GET", s.URL+"/v1/rpc", nil); got.status != http.StatusTooManyRequests || got.header.Get("Retry-After") != "3600" {
		t.Errorf("the second is answered %d %s %v", got.status, got.body, got.header)
	}
}

// grepped are the lines of text that contain word.
func grepped(text, word string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// TestRateOfADevice (S11): what one device of a user has used up, by whichever
// protocol, the user's other device still has; and reconnecting brings nothing back.
func TestRateOfADevice(t *testing.T) {
	t.Parallel()
	rate, err := server.ParseRateLimit("send/device=2/h")
	if err != nil {
		t.Fatal(err)
	}
	s := servertest.Start(t, func(c *server.Config) {
		c.Access.Required = true
		c.Access.Grants = append(c.Access.Grants, account.Grant{Operations: account.Send, Pattern: "/$inbox/*"})
		c.Access.Rates = []server.RateLimit{rate}
	})
	bearer := map[string]string{"phone": tokenFor(t, s, "ann", "phone"), "laptop": tokenFor(t, s, "ann", "laptop")}
	byHTTP := func(device string) string {
		t.Helper()
		got := request(t, "POST", s.URL+"/v1/send", func(r *http.Request) {
			withBody("application/json", `{"to":"bob","text":"hi"}`)(r)
			r.Header.Set("Authorization", "Bearer "+bearer[device])
		})
		if got.status == http.StatusTooManyRequests && got.header.Get("Retry-After") != "1800" {
			t.Errorf("%s is to come again after %q", device, got.header.Get("Retry-After"))
		}
		return got.body
	}
	native := func(device string) string {
		t.Helper()
		c, err := wire.Dial(t.Context(), s.RPC, http.Header{"Authorization": {"Bearer " + bearer[device]}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close(wire.CloseNormal, "") }()
		return say(t, c, true, `{"jsonrpc":"2.0","id":1,"method":"msg.send","params":{"to":"bob","text":"hi"}}`)[0]
	}
	for i, tt := range []struct {
		device string
		send   func(device string) string
		full   bool
	}{
		{"phone", native, false},
		{"phone", byHTTP, false},
		{"phone", byHTTP, true},
		{"phone", native, true},
		{"laptop", byHTTP, false},
		{"laptop", native, false},
		{"laptop", native, true},
		{"laptop", byHTTP, true},
	} {
		got := tt.send(tt.device)
		if full := strings.Contains(got, "rate_limited") && strings.Contains(got, "messages sent by this device"); full != tt.full || !full && !strings.Contains(got, `"seq":`) {
			t.Errorf("send %d, of %s, is answered %s", i+1, tt.device, got)
		}
	}
}
