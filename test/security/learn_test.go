package security_test

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/parley-im/parley/server/servertest"
)

// crowd has users to guess at, all with names of three letters: bob is there, listens,
// and has letters and a key; sus is suspended, and del was deleted. There is
// no bbb. Eve may send to nobody, mal to everybody.
type crowd struct {
	*world

	senders map[string][]sender
}

// sender sends a letter with an id of its own choice, where the protocol has any,
// and returns all that it is told, without what must differ: its seq.
type sender struct {
	protocol string
	send     func(to, id string) string
}

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	dir, ca := servertest.NewAuthority(t)
	w := newWorld(t, quiet, servertest.WithDevastator(t, dir, ca))
	c := &crowd{w, map[string][]sender{}}
	for _, user := range []string{`"bob"`, `"sus"`, `"del"`, `"eve"`, `"mal","grants":["send:/$inbox/*"]`} {
		operate(t, w, "POST", "/v1/users", `{"user":`+user+`}`)
	}
	for _, user := range []string{"bob", "sus", "del"} {
		reader := w.rpc(t, w.token(t, user))
		if m, err := reader.call("inbox.open", `{}`); err != nil || m.Error != nil {
			t.Fatalf("%s opens no inbox: %+v, %v", user, m.Error, err)
		}
		operate(t, w, "POST", "/v1/keys", `{"user":"`+user+`"}`)
		for range 5 {
			if got := w.ask(t, "POST /v1/send", w.token(t, "mal"), `{"to":"`+user+`","text":"`+strings.Repeat("x", 1000)+`"}`); got.status != http.StatusCreated {
				t.Fatalf("a letter to %s is answered %d %s", user, got.status, got.body)
			}
		}
		if user != "bob" {
			_ = reader.conn.Close(1000, "")
		}
	}
	operate(t, w, "PATCH", "/v1/users/sus", `{"suspended":true}`)
	operate(t, w, "DELETE", "/v1/users/del", "")
	for _, user := range []string{"eve", "mal"} {
		token := w.token(t, user)
		c.senders[user] = []sender{
			{"native", byNative(t, w.rpc(t, token))},
			{"rest", byREST(t, w, token)},
			{"titan", byTitan(t, w.titan(t, token), `[{"to":"%s","message":"hi"}]`)},
			{"devastator", byTitan(t, w.devastator(t, servertest.Holding(t, ca, user)), `{"to":"%s","message":"hi"}`)},
		}
	}
	return c
}

// alike makes answers comparable that are to two users of names that are as long.
func alike(text, to string) string {
	text = regexp.MustCompile(`"(seq|next)":\d+`).ReplaceAllString(text, `"$1":0`) // the whole server's
	return strings.ReplaceAll(text, to, "NAME")
}

func byNative(t *testing.T, c *rpc) func(to, id string) string {
	return func(to, id string) string {
		m, err := c.call("msg.send", `{"to":"`+to+`","text":"hi","id":"`+id+`"}`)
		if err != nil {
			t.Error(err)
		}
		return alike(fmt.Sprintf("%s %+v", m.Result, m.Error), to)
	}
}

func byREST(t *testing.T, w *world, token string) func(to, id string) string {
	return func(to, id string) string {
		got := w.ask(t, "POST /v1/send", token, `{"to":"`+to+`","text":"hi"}`, "Idempotency-Key", id)
		got.header.Del("Date")
		head := new(strings.Builder)
		_ = got.header.Write(head)
		return alike(fmt.Sprintf("%d %s %s", got.status, head, got.body), to)
	}
}

func byTitan(t *testing.T, c *rpc, params string) func(to, id string) string {
	t.Helper()
	if got := ofTitanStay(t, c, `{"id":"s","method":"ping"}`); got != done { // who says nothing is sent away
		t.Fatalf("a ping is answered: %s", got)
	}
	return func(to, _ string) string {
		if err := c.say(`{"id":"s","method":"msg.send","params":` + fmt.Sprintf(params, to) + `}`); err != nil {
			t.Error(err)
		}
		for {
			p, err := c.read()
			if err != nil {
				t.Error(err)
				return err.Error()
			}
			if text := string(p); !strings.Contains(text, `"msg.recv"`) {
				return alike(text, to)
			}
		}
	}
}

// TestSendsTellNothing (S12): by every protocol a letter is answered the same to the
// byte, and makes the same work, whether there is such a user or not, or has been;
// for who may send to them, and for who may not.
func TestSendsTellNothing(t *testing.T) {
	t.Parallel()
	w := newCrowd(t)
	const letters = 5
	for who, sign := range map[string]string{"eve": "no grant for send", "mal": ""} {
		for _, by := range w.senders[who] {
			var first string
			var work map[string]float64
			for _, to := range []string{"bbb", "bob", "sus", "del"} {
				before := w.counts(t)
				var told string
				for i := range letters {
					told = by.send(to, fmt.Sprintf("%s-of-%s-to-%s-%d", by.protocol, who, to, i))
					told = strings.ReplaceAll(told, fmt.Sprintf("%s-of-%s-to-NAME-%d", by.protocol, who, i), "ID")
				}
				did := w.counts(t)
				for name := range did {
					if did[name] -= before[name]; did[name] == 0 {
						delete(did, name)
					}
				}
				if to == "bbb" {
					first, work = told, did
					if !strings.Contains(told, sign) || strings.Contains(told, "NAME") && sign != "" {
						t.Errorf("%s by %s is told %s", who, by.protocol, told)
					}
					if len(did) == 0 || sign != "" && did["parley_published_messages_total"] != 0 {
						t.Errorf("%s by %s makes the work %v", who, by.protocol, did)
					}
					continue
				}
				if told != first {
					t.Errorf("%s by %s is told of %s\n%s\nand of who is not there\n%s", who, by.protocol, to, told, first)
				}
				if !maps.Equal(did, work) {
					t.Errorf("%s by %s makes the work %v for %s, and %v for who is not there", who, by.protocol, did, to, work)
				}
			}
		}
	}
}

// counts are the counters of what senders make the server do. Not among them are
// those of commits, which the server makes by itself too.
func (w *world) counts(t *testing.T) map[string]float64 {
	t.Helper()
	counts := map[string]float64{}
	for line := range strings.Lines(w.ask(t, "GET /admin/metrics", "", "").body) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(name, "parley_audit_events_total") || slices.Contains([]string{
			"parley_received_messages_total", "parley_published_messages_total", "parley_published_bytes_total", "parley_duplicate_messages_total",
			"parley_conflicting_messages_total", "parley_invalid_messages_total", "parley_refused_messages_total", "parley_failed_messages_total",
			"parley_store_dedup_keys",
		}, name) {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			counts[name] = n
		}
	}
	return counts
}

// TestIDsAreOnesOwn (S12): whoever uses the id of another's letter, to the same
// user and with the same content or another, is told what they are told with a new
// one: it stores a letter of theirs.
func TestIDsAreOnesOwn(t *testing.T) {
	t.Parallel()
	w := newCrowd(t)
	operate(t, w.world, "PATCH", "/v1/users/eve", `{"grants":["send:/$inbox/*"]}`)
	mal, eve := w.token(t, "mal"), w.token(t, "eve")
	for i, by := range []sender{{"native", byNative(t, w.rpc(t, eve))}, {"rest", byREST(t, w.world, eve)}} {
		taken, other, fresh := fmt.Sprintf("order-%d-was-taken", i), fmt.Sprintf("order-%d-is-others", i), fmt.Sprintf("order-%d-is-fresh!", i)
		for id, text := range map[string]string{taken: "hi", other: "something else"} {
			if got := w.ask(t, "POST /v1/send", mal, `{"to":"bob","text":"`+text+`"}`, "Idempotency-Key", id); got.status != http.StatusCreated {
				t.Fatalf("a letter is answered %d %s", got.status, got.body)
			}
		}
		want := strings.ReplaceAll(by.send("bob", fresh), fresh, "ID")
		for _, id := range []string{taken, other} {
			if got := strings.ReplaceAll(by.send("bob", id), id, "ID"); got != want {
				t.Errorf("by %s %s is answered\n%s\nand a new id\n%s", by.protocol, id, got, want)
			}
		}
		if again := by.send("bob", fresh); !strings.Contains(again, "duplicate") {
			t.Errorf("by %s one's own id is answered %s", by.protocol, again)
		}
	}
}

// TestGuessesTellNothing (S12): who is no operator is told the same of what there is
// and of what there is not: users, their devices, keys, subscriptions, dead letters.
func TestGuessesTellNothing(t *testing.T) {
	t.Parallel()
	w := newCrowd(t)
	operate(t, w.world, "PATCH", "/v1/users/eve", `{"grants":["all:/*"]}`)
	k := w.key(t, "bob", []string{"subscribe,history:/a"}, "")
	c := w.rpc(t, k.Secret)
	if m, err := c.call("subscribe", `{"topic":"/a","durable":"one"}`); err != nil || m.Error != nil {
		t.Fatalf("%+v, %v", m.Error, err)
	}
	if got := w.ask(t, "POST /v1/messages/a", w.token(t, "eve"), "dead"); got.status != http.StatusCreated {
		t.Fatalf("%d %s", got.status, got.body)
	}
	dead := ""
	eventually(t, "there is a dead letter", func() bool {
		if _, err := c.call("nak", `{"sub":1,"ranges":[[1,9007199254740991]],"dead":true}`); err != nil {
			t.Fatal(err)
		}
		letters := w.ask(t, "GET /v1/dead-letters?owner=bob", "", "").body
		if found := regexp.MustCompile(`"letters":\[{"seq":(\d+)`).FindStringSubmatch(letters); found != nil {
			dead = found[1]
		}
		return dead != ""
	})
	other := strings.Repeat("0", len(k.ID))
	for _, secret := range []string{"", "parley_wrong", w.token(t, "eve")} {
		for _, guess := range [][2]string{
			{"GET /v1/users/bob", "GET /v1/users/bbb"},
			{"DELETE /v1/users/bob", "DELETE /v1/users/bbb"},
			{"GET /v1/users/bob/devices", "GET /v1/users/bbb/devices"},
			{"DELETE /v1/users/bob/tokens", "DELETE /v1/users/bbb/tokens"},
			{"GET /v1/users/bob/export", "GET /v1/users/bbb/export"},
			{"DELETE /v1/keys/" + k.ID, "DELETE /v1/keys/" + other},
			{"GET /v1/keys?user=bob", "GET /v1/keys?user=bbb"},
			{"GET /v1/certificates?user=bob", "GET /v1/certificates?user=bbb"},
			{"GET /v1/subscriptions?owner=bob", "GET /v1/subscriptions?owner=bbb"},
			{"GET /v1/subscriptions/a?owner=bob&name=one", "GET /v1/subscriptions/a?owner=bob&name=two"},
			{"DELETE /v1/subscriptions/a?owner=bob&name=one", "DELETE /v1/subscriptions/a?owner=bob&name=two"},
			{"GET /v1/dead-letters?owner=bob", "GET /v1/dead-letters?owner=bbb"},
			{"POST /v1/dead-letters/" + dead + "/replay?owner=bob", "POST /v1/dead-letters/1/replay?owner=bob"},
			{"DELETE /v1/dead-letters/" + dead + "?owner=bob", "DELETE /v1/dead-letters/" + dead + "?owner=bbb"},
			{"GET /v1/inbox?peer=bob", "GET /v1/inbox?peer=bbb"},
			{"GET /v1/messages/$inbox/bob", "GET /v1/messages/$inbox/bbb"},
			{"GET /stream/user/bob", "GET /stream/user/bbb"},
		} {
			var headers []string
			if strings.Contains(guess[0], "/stream/") {
				headers = upgradeHeaders()
			}
			// Not from this machine, whose programs are operators.
			headers = append(headers, "X-Forwarded-For", "127.0.0.1")
			a, b := w.ask(t, guess[0], secret, "", headers...), w.ask(t, guess[1], secret, "", headers...)
			own := strings.Contains(guess[0], "/v1/inbox") && a.status == http.StatusOK
			if a.status < 400 && !own || a.status != b.status || alike(a.body, "bob") != alike(b.body, "bbb") || len(a.header) != len(b.header) {
				t.Errorf("%v are answered\n%d %s\n%d %s", guess, a.status, a.body, b.status, b.body)
			}
		}
	}
	for _, user := range []string{"bob", "bbb", "sus", "del"} { // who tries somebody's name with a wrong secret
		got := w.ask(t, "GET /v1/whoami", "", "", "Authorization", "Basic "+base64Of(user+":parley_wrong"))
		if got.status != http.StatusUnauthorized || strings.Contains(got.body, user) {
			t.Errorf("%s with a wrong secret is answered %d %s", user, got.status, got.body)
		}
	}
}

// TestForeignLetters (S12, S3): in Titan's protocol an acknowledgement of another's
// letter, by its very id, does nothing and is not answered, like one of an id that
// was made up.
func TestForeignLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quiet)
	for _, user := range []string{`"ann"`, `"eve"`, `"mal","grants":["send:/$inbox/*"]`} {
		operate(t, w, "POST", "/v1/users", `{"user":`+user+`}`)
	}
	ann, eve := w.titan(t, w.token(t, "ann")), w.titan(t, w.token(t, "eve"))
	if err := ann.say(`{"id":"p","method":"ping"}`); err != nil {
		t.Fatal(err)
	}
	if p, err := ann.read(); err != nil || !strings.Contains(string(p), "ACK") {
		t.Fatalf("%s, %v", p, err)
	}
	if got := w.ask(t, "POST /v1/send", w.token(t, "mal"), `{"to":"ann","text":"for ann"}`); got.status != http.StatusCreated {
		t.Fatalf("%d %s", got.status, got.body)
	}
	p, err := ann.read()
	id := regexp.MustCompile(`^{"id":"([^"]{22})","method":"msg.recv"`).FindSubmatch(p)
	if err != nil || id == nil {
		t.Fatalf("ann hears %s, %v", p, err)
	}
	acked := func() string {
		metrics := w.ask(t, "GET /admin/metrics", "", "").body
		return strings.Join(regexp.MustCompile(`(?m)^parley_consumer_(acked|refused|pending)_messages(_total)? .*$`).FindAllString(metrics, -1), "\n")
	}
	before := acked()
	for _, guess := range []string{string(id[1]), "AAAAAAAAAAAAAAAAAAAAAA", "1"} {
		for _, how := range []string{`"result":"ACK"`, `"error":{"code":1,"message":"no"}`} {
			if err := eve.say(`{"id":"` + guess + `",` + how + `}`); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := eve.say(`{"id":"p","method":"ping"}`); err != nil {
		t.Fatal(err)
	}
	if p, err := eve.read(); err != nil || string(p) != `{"id":"p","result":"ACK"}` {
		t.Errorf("eve is told %s, %v", p, err)
	}
	if after := acked(); after != before || !strings.Contains(before, "pending_messages 1") {
		t.Errorf("the counters were\n%s\nand are\n%s", before, after)
	}
	_ = ann.conn.Close(1000, "")
	again := w.titan(t, w.token(t, "ann"))
	if err := again.say(`{"id":"p","method":"ping"}`); err != nil {
		t.Fatal(err)
	}
	for {
		p, err := again.read()
		if err != nil {
			t.Fatalf("ann's letter does not come again: %v", err)
		}
		if strings.Contains(string(p), string(id[1])) {
			return
		}
	}
}
