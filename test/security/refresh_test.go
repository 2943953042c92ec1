package security_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley/internal/wire"
)

// issued is a token that an operator of this machine has the server issue.
type issued struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

func (w *world) issue(t *testing.T, user, ttl string) issued {
	t.Helper()
	got := w.ask(t, "POST /v1/users/"+user+"/tokens", "", `{"ttl":"`+ttl+`","grants":["subscribe:/a"]}`)
	var made issued
	if err := json.Unmarshal([]byte(got.body), &made); err != nil || made.Token == "" {
		t.Fatalf("a token for %s is answered %d %s", user, got.status, got.body)
	}
	return made
}

// TestRefresh (S4): a credential that is shown on a live connection in time keeps
// it alive beyond the end of the first, with all its deliveries, and to its own end
// and no longer. What cannot refresh it, such as another user's, is refused and
// changes nothing.
func TestRefresh(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quiet)
	voice := w.key(t, "voice", []string{"publish:/a", "send:/$inbox/*"}, "").Secret
	bob := w.issue(t, "bob", "1h")
	first := w.issue(t, "ann", "2s")
	c, left := w.rpc(t, first.Token), w.rpc(t, first.Token)
	for _, c := range []*rpc{c, left} {
		for method, params := range map[string]string{"subscribe": `{"topic":"/a"}`, "inbox.open": `{}`} {
			if m, err := c.call(method, params); err != nil || m.Error != nil {
				t.Fatalf("%s: %+v, %v", method, m.Error, err)
			}
		}
	}
	stop := speak(t, w, voice)
	defer stop()
	for _, tt := range []struct{ token, kind string }{
		{bob.Token, "forbidden"}, {"junk", "unauthenticated"}, {first.Token + "x", "unauthenticated"},
	} {
		if m, err := c.call("auth", `{"token":"`+tt.token+`"}`); err != nil || m.kind() != tt.kind {
			t.Errorf("%.10s… is answered %+v, %v; want %s", tt.token, m.Error, err, tt.kind)
		}
	}
	second := w.issue(t, "ann", "4s")
	if m, err := c.call("auth", `{"token":"`+second.Token+`"}`); err != nil || m.Error != nil || !strings.Contains(string(m.Result), `"user":"ann"`) {
		t.Fatalf("the second token is answered %s %+v, %v", m.Result, m.Error, err)
	}
	over(t, left, first.Expires)
	over(t, c, second.Expires)
}

// over expects that both subscriptions of c bring something until the given time,
// and nothing from soon after.
func over(t *testing.T, c *rpc, end time.Time) {
	t.Helper()
	const shortly = 500 * time.Millisecond // between two messages, on a busy machine
	last := map[string]time.Time{}
	var bye string
	for {
		p, err := c.read()
		if err != nil {
			if closed, ok := errors.AsType[*wire.CloseError](err); !ok || closed.Code != wire.ClosePolicy || bye != "expired" {
				t.Errorf("it ends with %v after the goodbye %q", err, bye)
			}
			break
		}
		var m struct {
			Method string
			Params struct{ Code string }
		}
		if err := json.Unmarshal(p, &m); err != nil {
			t.Fatal(err)
		}
		bye = m.Params.Code
		last[m.Method] = time.Now()
	}
	if late := time.Since(end); late < 0 || late > inTime {
		t.Errorf("it ends %v after its credential", late)
	}
	for _, method := range []string{"messages", "msg.recv"} {
		if d := last[method].Sub(end); d < -shortly || d > inTime {
			t.Errorf("the last of %s came %v after the end", method, d)
		}
	}
}
