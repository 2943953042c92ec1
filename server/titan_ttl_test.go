package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/server/servertest"
)

// TestTitanTTL: a message with a ttl comes in its time, and not after it: neither
// for the first time, nor again, by either dialect; both are counted. Without one
// it stays, and a ttl that is none is refused.
func TestTitanTTL(t *testing.T) {
	dir, ca := authority(t)
	s := servertest.Start(t, titanTest, devastator(t, dir, ca))
	send := func(c *titanClient, text, ttl string) {
		t.Helper()
		c.ask(`{"id":"s","method":"msg.send","params":[{"to":"2","message":"` + text + `","ttl":` + ttl + `}]}`)
		c.want(`{"id":"s","result":"ACK"}`)
	}
	one := titanAs(t, s.TitanTest, tokenOf1)
	two := titanAs(t, s.TitanTest, tokenOf2)
	send(one, "seen in time", "1.5")
	two.delivery("seen in time") // and not acknowledged
	_ = two.Close(wire.CloseNormal, "")
	eventually(t, "the server has noticed that it left", func() bool {
		return strings.Contains(body(t, "http://"+s.TitanTest+"/debug/vars"), `"conns":1,`)
	})
	send(one, "never seen", "1")
	three := dialLength(t, s.Devastator, holding(t, ca, "3"))
	if got := say(t, three, true, `{"id":"s","method":"msg.send","params":{"to":"2","message":"by Devastator","ttl":1}}`); got[0] != `{"id":"s","result":"ACK"}` {
		t.Fatalf("got %q", got)
	}
	send(one, "for long", "3600")
	one.send("for ever")
	stored := func() string {
		t.Helper()
		return request(t, "GET", s.URL+"/v1/users/2/export", nil).body
	}
	if got := stored(); strings.Count(got, `"expires":"`) != 4 {
		t.Errorf("stored is %s", got)
	}
	token := member(t, request(t, "POST", s.URL+"/v1/users/2/tokens", withBody("application/json", `{}`)).body, "token")
	eventually(t, "the time of three has passed", func() bool {
		got := request(t, "GET", s.URL+"/v1/inbox", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) })
		return strings.Count(got.body, `"text":`) == 2
	})

	two = titanAs(t, s.TitanTest, tokenOf2)
	for _, text := range []string{"for long", "for ever"} {
		two.answer(two.delivery(text), "ACK")
	}
	two.silence()
	device := dialLength(t, s.Devastator, holding(t, ca, "2")) // a device of its own, which has seen nothing
	got := say(t, device, true, `{"id":"r","method":"msg.recv"}`)
	for len(got) < 3 {
		got = append(got, hear(t, device)...)
	}
	if all := strings.Join(got, "\n"); len(got) != 3 || !strings.Contains(all, `"for long"`) || !strings.Contains(all, `"for ever"`) {
		t.Errorf("the device is told\n%s", all)
	}
	metrics := body(t, s.URL+"/admin/metrics")
	// The first device had one in its hands, and missed two; the second missed three.
	for name, want := range map[string]int{"expired": 1, "missed": 5, "acked": 2} {
		if line := fmt.Sprintf("\nparley_consumer_%s_messages_total %d\n", name, want); !strings.Contains(metrics, line) {
			t.Errorf("not %s, but\n%s", strings.TrimSpace(line), grepped(metrics, "parley_consumer_"))
		}
	}

	for _, ttl := range []string{"0", "-1", "1e9", `"1"`} {
		one := titanAs(t, s.TitanTest, tokenOf1)
		one.ask(`{"id":"s","method":"msg.send","params":[{"to":"2","message":"x","ttl":` + ttl + `}]}`)
		if got := one.next(); !strings.HasPrefix(got, `{"id":"s","error":{"code":-32602,`) {
			t.Errorf("a ttl of %s is answered %s", ttl, got)
		}
	}
}
