package chaos_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// TestBooksOfEveryDoor (R21): whichever way messages come and go, each is counted
// once, and so is each that is refused.
func TestBooksOfEveryDoor(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, func(c *server.Config) { c.Limits.Message = 1 << 10 })
	const topic parley.Topic = "/doors"
	r := newRest(t, s)
	socket, old := open(t, s, rpcPath), open(t, s, gobblerPath)
	if _, err := socket.ask(0, "hello", `{"producer":"00000000000000000000000000000002"}`); err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("x", 1<<10+1)
	const producer = "&producer=00000000000000000000000000000003"

	rest := func(status int, request string) {
		t.Helper()
		if got := r.say(t, request); got.status != status {
			t.Errorf("%.100q is answered by %d %s, want %d", request, got.status, got.body, status)
		}
	}
	rpc := func(code int, params string) {
		t.Helper()
		a, err := socket.ask(1, "publish", params)
		if err != nil || code == 0 && a.Error != nil || code != 0 && (a.Error == nil || a.Error.Code != code) {
			t.Errorf("%.100q is answered by %+v, %v; want code %d", params, a, err, code)
		}
	}
	gobbler := func(good bool, text string) {
		t.Helper()
		if err := old.say(text); err != nil {
			t.Fatal(err)
		}
		for {
			answer, err := old.next()
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(answer, "#connected") {
				if strings.HasPrefix(answer, "#send ") != good {
					t.Errorf("%.100q is answered by %q", text, answer)
				}
				return
			}
		}
	}
	const jsonType = "Content-Type: application/json"
	want := gauges{}
	for _, step := range []struct {
		became string // a counter, and by how much it grows
		n      float64
		do     func()
	}{
		{"published", 1, func() { rpc(0, `{"topic":"/doors","id":"1","text":"a"}`) }},
		{"published", 2, func() { rpc(0, `{"messages":[{"topic":"/doors","text":"a"},{"topic":"/doors/a","text":"a"}]}`) }},
		{"duplicate", 1, func() { rpc(0, `{"topic":"/doors","id":"1","text":"a"}`) }},
		{"conflicting", 1, func() { rpc(-32004, `{"topic":"/doors","id":"1","text":"b"}`) }},
		{"invalid", 1, func() { rpc(-32602, `{"topic":"doors"}`) }},
		{"invalid", 1, func() { rpc(-32602, `{"messages":[{"topic":"doors"},{"topic":"/doors"}]}`) }},
		{"invalid", 1, func() { rpc(-32602, `{"topic":"/doors","text":"`+large+`"}`) }},
		{"invalid", 1, func() { rpc(-32002, `{"topic":"/$doors"}`) }},

		{"published", 1, func() { gobbler(true, "> /doors 1\n\na") }},
		{"published", 1, func() { gobbler(true, "> /doors 1\n\na") }}, // its ids are labels
		{"invalid", 1, func() { gobbler(false, "> doors 1\n\na") }},
		{"invalid", 1, func() { gobbler(false, "> ") }},
		{"invalid", 1, func() { gobbler(false, "> /doors\n\n"+large) }},

		{"published", 1, func() { rest(200, restRequest("POST", "/api/message/doors?userId=ann", "a")) }},
		{"invalid", 1, func() { rest(400, restRequest("POST", "/api/message/do%20ors", "a")) }},
		{"invalid", 1, func() { rest(413, restRequest("POST", "/api/message/doors", large)) }},

		{"published", 1, func() { rest(201, restRequest("POST", "/v1/messages/doors?id=1"+producer, "a")) }},
		{"duplicate", 1, func() { rest(200, restRequest("POST", "/v1/messages/doors?id=1"+producer, "a")) }},
		{"conflicting", 1, func() { rest(409, restRequest("POST", "/v1/messages/doors?id=1"+producer, "b")) }},
		{"invalid", 1, func() { rest(413, restRequest("POST", "/v1/messages/doors", large)) }},
		{"invalid", 1, func() { rest(403, restRequest("POST", "/v1/messages/$doors", "a")) }},
		{"invalid", 1, func() { rest(400, restRequest("POST", "/v1/messages/doors?idd=1", "a")) }},

		{"published", 1, func() { rest(201, restRequest("POST", "/v1/messages", `{"topic":"/doors","text":"a"}`, jsonType)) }},
		{"published", 2, func() {
			rest(200, restRequest("POST", "/v1/messages", `{"topic":"/doors","text":"a"}`+"\n"+`{"topic":"/doors/a","text":"a"}`, "Content-Type: application/x-ndjson"))
		}},
		{"invalid", 1, func() { rest(415, restRequest("POST", "/v1/messages", `{"topic":"/doors"}`)) }},
		{"invalid", 1, func() {
			rest(400, restRequest("POST", "/v1/messages", `{"messages":[{"topic":"/doors"},{"topic":"a"}]}`, jsonType))
		}},

		// No publishes at all.
		{"invalid", 0, func() { rest(400, restRequest("GET", "/v1/messages/doors?limit=x", "")) }},
		{"invalid", 0, func() { gobbler(false, "? doors") }},
	} {
		before := scrape(t, s)
		step.do()
		want[step.became] += step.n
		m := scrape(t, s)
		if got := m[step.became+"_messages_total"]; got != want[step.became] {
			t.Fatalf("%s was %v, and is %v; want %v", step.became, before[step.became+"_messages_total"], got, want[step.became])
		}
		if err := unbalanced(m); err != nil {
			t.Fatal(err)
		}
	}

	n := int(want["published"])
	var readers sync.WaitGroup
	for _, d := range dialects() {
		reader := open(t, s, d.path)
		readers.Go(func() {
			if err := reader.say(d.subscribe(topic, 0)); err != nil {
				t.Error(err)
			}
			for got := 0; got < n; {
				text, err := reader.next()
				if err != nil {
					t.Errorf("%s ends after %d messages: %v", d.name, got, err)
					break
				}
				// The native protocol may put several into one notification.
				got += strings.Count(text, `"seq":`) + strings.Count(text, "/doors,") + strings.Count(text, "/doors/a,")
			}
			_ = reader.Close()
		})
	}
	readers.Go(func() {
		f, err := tune(host(s), string(topic)+"?after=0", "", 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		for got := 0; got < n; {
			e, err := f.hear()
			if err != nil {
				t.Errorf("an event stream ends after %d messages: %v", got, err)
				return
			}
			if e.kind == "message" {
				got++
			}
		}
	})
	readers.Wait()
	_, _ = socket.Close(), old.Close()
	if got := quiet(t, s)["delivered_messages_total"]; got != float64(3*n) {
		t.Errorf("%v messages were delivered, want %d to each of 3 readers", got, n)
	}
}

// TestBooksWhenFull (R11, R21): what a full disk refuses is counted as that.
func TestBooksWhenFull(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Dir(t.TempDir()), func(c *server.Config) { c.Storage.Reserve = 1 << 50 })
	r, socket := newRest(t, s), open(t, s, rpcPath)
	if got := r.say(t, restRequest("POST", "/v1/messages/a", "x")); got.status != 503 || got.code != "storage_full" {
		t.Errorf("a publish is answered by %d %s", got.status, got.body)
	}
	if a, err := socket.ask(1, "publish", `{"messages":[{"topic":"/a"},{"topic":"/b"}]}`); err != nil || a.Error != nil && a.Error.Code != -32005 {
		t.Errorf("a batch is answered by %+v, %v", a, err)
	}
	_ = socket.Close()
	if m := quiet(t, s); m["storage_full_messages_total"] != 3 || m["storage_full"] != 1 {
		t.Errorf("%v messages were refused, want 3", m["storage_full_messages_total"])
	}
}
