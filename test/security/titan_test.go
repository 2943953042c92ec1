package security_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/parley-im/parley/server"
)

// probe is asked by a bystander, and answered by well.
const (
	probe = `{"id":"s","method":"ping"}`
	well  = `{"id":"s","result":"ACK"}`
)

// enter connects as somebody who is known, and says so.
func (d *titanDialect) enter(t *testing.T) *rpc {
	t.Helper()
	c, first := d.known(t)
	c.ask(first, well)
	return c
}

// ask says something and wants one answer, word for word.
func (c *rpc) ask(text, want string) {
	c.t.Helper()
	if err := c.say(text); err != nil {
		c.t.Fatal(err)
	}
	if p, err := c.read(); err != nil || string(p) != want {
		c.t.Fatalf("%.200s is answered %s, %v", text, p, err)
	}
}

// TestMalformedTitan (S7, S9, S18): what is no strict JSON, or is not what it should
// be, gets an error or the end of its connection, stores nothing, and costs nobody
// else anything.
func TestMalformedTitan(t *testing.T) {
	t.Parallel()
	w, dialects := titanDialects(t, quiet)
	const tooLong = "a text that is too long"
	for _, d := range dialects {
		bystander := d.enter(t)
		letter := d.letter("malformed")
		with := func(more string) string { return strings.TrimSuffix(letter, "}") + more + "}" }
		named := func(id string) string { return strings.Replace(letter, `"id":"s"`, `"id":`+id, 1) }
		for name, frame := range map[string]string{
			"nothing":                 "",
			"no object":               `"msg.send"`,
			"NaN":                     `NaN`,
			"a batch of nothing":      `[]`,
			"a batch of numbers":      `[1,2,3]`,
			"a batch of batches":      `[[` + letter + `]]`,
			"a large batch":           "[" + strings.Repeat(letter+",", 100) + letter + "]",
			"a huge batch":            "[" + strings.Repeat("1,", 1_000_000) + "1]",
			"an id that is an object": named("{}"),
			"an id that is true":      named("true"),
			"a long id":               named(`"` + strings.Repeat("i", 256) + `"`),
			"a name twice":            with(`,"method":"echo"`),
			"a name in two cases":     with(`,"METHOD":"echo"`),
			"an escaped name twice":   with(`,"\u006dethod":"echo"`),
			"a deep one":              with(`,"x":` + strings.Repeat("[", 33) + strings.Repeat("]", 33)),
			"a very deep one":         with(`,"x":` + strings.Repeat("[", 10_001)),
			"half a surrogate":        with(`,"x":"\ud800"`),
			"no UTF-8":                with(",\"x\":\"\xff\""),
			"a NUL":                   letter + "\x00",
			"a byte order mark":       "\ufeff" + letter,
			"two in one":              letter + letter,
			"a comma too many":        with(","),
			"a method that is a path": `{"id":"s","method":"../msg.send","params":{}}`,
			"a method in full width":  `{"id":"s","method":"ｍsg.send","params":{}}`,
			"a method in upper case":  strings.Replace(letter, "msg.send", "MSG.SEND", 1),
			"params of another kind":  `{"id":"s","method":"msg.send","params":"bob"}`,
			"to a path":               strings.Replace(letter, "bob", "../bob", 1),
			"to an inbox":             strings.Replace(letter, "bob", "$inbox/bob", 1),
			"to two lines":            strings.Replace(letter, "bob", `bob\r\n`, 1),
			"to nobody":               strings.Replace(letter, "bob", "", 1),
			"too large":               d.letter(strings.Repeat("x", 9<<20)),
			tooLong:                   d.letter(strings.Repeat("x", 3<<20)),
		} {
			c := d.enter(t)
			_ = c.say(frame)
			if name != tooLong { // which is answered later
				_ = c.say(probe) // so that there is an end to what is heard
			}
			for {
				p, err := c.read()
				if err != nil || strings.Contains(string(p), `"error"`) {
					break
				}
				if strings.HasPrefix(string(p), well) {
					t.Errorf("%s: %s goes unnoticed", d.name, name)
					break
				}
			}
			_ = c.conn.Close(1000, "")
			bystander.ask(probe, well)
		}
		// What the old servers took, and what is nobody's business.
		for frame, want := range map[string]string{
			`{"jsonrpc":"7","id":"s","method":"ping","x":1}`:                    well,
			`{"ID":"s","Method":"ping"}`:                                        well,
			`{"id":"s","method":"ping","__proto__":{"a":1}}`:                    well,
			`{"id":1e400,"method":"ping"}`:                                      `{"id":1e400,"result":"ACK"}`, // an id is not read, but comes back to the byte
			`{"id":1.50,"method":"ping"}`:                                       `{"id":1.50,"result":"ACK"}`,
			`{"id":9007199254740993,"method":"ping"}`:                           `{"id":9007199254740993,"result":"ACK"}`,
			`{"id":"AAAAAAAAAAAAAAAAAAAAAA","result":"ACK"}`:                    "",
			`{"id":"../../etc/passwd","result":{"a":["ACK"]}}`:                  "",
			`{"id":"AAAAAAAAAAAAAAAAAAAAAA","error":{"code":1,"message":"no"}}`: "",
		} {
			c := d.enter(t)
			if want == "" {
				_ = c.say(frame)
				frame, want = probe, well
			}
			c.ask(frame, want)
			_ = c.conn.Close(1000, "")
		}
	}
	if got := w.ask(t, "GET /v1/inbox", w.token(t, "bob"), ""); strings.Contains(got.body, `"seq"`) {
		t.Errorf("bob has a letter: %.300s", got.body)
	}
	if !strings.Contains(w.ask(t, "GET /admin/metrics", "", "").body, "\nparley_panics_total 0\n") {
		t.Error("there was a panic")
	}
}

// TestMalformedTexto (S7, S9, S18): the same for Texto, whose sessions go on where
// its protocol has an error for it. What follows the first JSON value of a frame is
// passed over, because its servers always did that.
func TestMalformedTexto(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quiet, func(c *server.Config) { c.Texto.Anonymous = true })
	for name, frame := range map[string]string{
		"nothing": "", "no JSON": "hello", "a batch": `[{"kind":"registration"}]`, "a kind that is none": `{"kind":"shout"}`, "a number as kind": `{"kind":1}`,
		"one of the server's": `{"kind":"receive","data":{"sender_id":"8a15b000-02d7-4823-8336-0cd0b0b13ae9","text":"x"}}`,
		"an id that is none":  `{"id":"x","kind":"ack"}`, "another's id": `{"client_id":"8a15b000-02d7-4823-8336-0cd0b0b13ae9","kind":"send","data":{"receiver_id":"8a15b000-02d7-4823-8336-0cd0b0b13ae9","text":"x"}}`,
		"a pattern as receiver": `{"kind":"send","data":{"receiver_id":"*","text":"x"}}`, "a command as receiver": `{"kind":"send","data":{"receiver_id":"x\r\nPUBLISH y z","text":"x"}}`,
		"a deep one": `{"kind":"ack","data":` + strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001) + `}`, "too long": `{"kind":"send","data":{"text":"` + strings.Repeat("x", 9<<20) + `"}}`,
	} {
		conn, err := w.dial(t, "/v1/texto?nogreet=1", "")
		if err != nil {
			t.Fatal(err)
		}
		c := &rpc{t: t, conn: conn}
		_ = c.say(frame)
		_ = c.say(`{"kind":"registration"}`) // which is answered
		if p, err := c.read(); err == nil && !strings.Contains(string(p), `"kind":"error"`) {
			t.Errorf("%s is answered %s", name, p)
		}
		_ = conn.Close(1000, "")
		if got := textoSend(t, w, ""); got != done {
			t.Errorf("after %s another session is %s", name, got)
		}
	}
}

// TestTitanLeavesNoTrace (S14, S16): neither a credential, good or not, nor what
// letters say is in the log, the metrics, a profile or a list, whichever frame it came
// in; and no line of the log is one that a stranger wrote.
func TestTitanLeavesNoTrace(t *testing.T) {
	t.Parallel()
	w, dialects := titanDialects(t, func(c *server.Config) { c.Texto.Anonymous, c.Access.Rates = true, nil })
	const bad = "S3cr3tHunter2"
	secrets := []string{bad}
	for _, d := range dialects {
		known, first := d.known(t)
		if token, _, found := strings.Cut(first[strings.Index(first, `"params"`)+1:], `"}}`); found {
			secrets = append(secrets, token[strings.LastIndex(token, `"`)+1:])
		}
		known.ask(first, well)
		known.ask(d.letter(bad), well)
		for _, text := range []string{`\r\n{\"level\":\"INFO\",\"msg\":\"forged\"}`, `\u2028forged`, `\u001b[31mforged`, `\u0000forged`} {
			_ = known.say(strings.Replace(d.letter("x"), "bob", "carol"+text, 1))
			_, _ = known.read()
		}
		_ = known.say(`{"id":"s","method":"` + bad + `","params":{"token":"` + bad + `"}}`)
		for _, frame := range []string{
			`{"id":"s","method":"auth.jwt","params":{"token":"a.` + bad + `.c"}}`, `{"id":"` + bad + `","method":"auth.jwt","params":{"token":"` + bad + `"}}`,
			`{"id":"s","method":"auth.google","params":{"token":"a.` + bad + `.c","accessToken":"a.` + bad + `.c"}}`, `{"id":"s","method":"echo","params":{"token":"` + bad + `"}}`,
			`{"id":"s","method":"auth.jwt","params":{"token":"` + bad, bad,
		} {
			c := d.dial(t)
			_ = c.say(frame)
			_, told := c.expectClose()
			if strings.Contains(strings.ReplaceAll(told, `"id":"`+bad+`"`, ""), bad) {
				t.Errorf("%s: %s is told %s", d.name, frame, told)
			}
		}
	}
	for _, path := range []string{
		"/admin/metrics", "/admin/metrics-old", "/admin/router", "/debug/vars", "/admin/debug/pprof/goroutine?debug=2", "/admin/debug/pprof/heap?debug=1", "/v1/users/ann",
		"/v1/users/ann/devices", "/v1/certificates", "/v1/subscriptions?owner=*",
	} {
		if got := w.ask(t, "GET "+path, "", ""); got.status != http.StatusOK || slices.ContainsFunc(secrets, func(s string) bool { return strings.Contains(got.body, s) }) {
			t.Errorf("%s is answered %d %.300s", path, got.status, got.body)
		}
	}
	if textoSend(t, w, "") != done {
		t.Error("Texto does not work")
	}
	w.Stop()
	for line := range strings.Lines(w.log.String()) {
		var entry map[string]any
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry["msg"] == "forged" || strings.ContainsAny(strings.TrimSuffix(line, "\n"), "\x00\x1b\r\u2028") {
			t.Errorf("a line of the log is %q", line)
		}
		if slices.ContainsFunc(secrets, func(s string) bool { return strings.Contains(line, s) }) {
			t.Errorf("a line of the log has a secret: %s", line)
		}
	}
}

// TestFloodByTitan (S28): what Titan's dialects refuse is counted, each time, and the
// log has a few of it.
func TestFloodByTitan(t *testing.T) {
	t.Parallel()
	w, dialects := titanDialects(t, func(c *server.Config) { c.Access.Rates = nil })
	const flood = 60
	for _, d := range dialects {
		for range flood {
			c := d.dial(t)
			_ = c.say(`{"id":"s","method":"auth.` + map[string]string{"titan": "jwt", "devastator": "google"}[d.name] + `","params":{"token":"a.b.c","accessToken":"a.b.c"}}`)
			if _, told := c.expectClose(); !strings.Contains(told, `"error"`) {
				t.Fatalf("%s tells %s", d.name, told)
			}
		}
		known := d.enter(t)
		for range flood {
			_ = known.say(strings.Replace(d.letter("x"), "bob", "carol", 1))
			if p, err := known.read(); err != nil || !strings.Contains(string(p), `"code":-32002`) {
				t.Fatalf("%s says %s, %v", d.name, p, err)
			}
		}
	}
	metrics := w.ask(t, "GET /admin/metrics", "", "").body
	for _, kind := range []string{"failure", "denial"} {
		if want := fmt.Sprintf("parley_audit_events_total{kind=%q} %d\n", kind, 2*flood); !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s: %s", want, regexp.MustCompile(`parley_audit_events_total.*`).FindAllString(metrics, -1))
		}
	}
	w.Stop()
	for _, kind := range []string{"failure", "denial"} {
		if n := strings.Count(w.log.String(), `"kind":"`+kind+`"`); n == 0 || n > 25 {
			t.Errorf("%d lines for %d of the kind %s", n, 2*flood, kind)
		}
	}
}

// TestDevicesAreTheirUsers (S23): a device is one of its user's. Another user's of the
// same name shares nothing with it, a connection never passes from one user to
// another, and forgetting one's leaves the other's.
func TestDevicesAreTheirUsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, quiet)
	secrets, phones := map[string]string{}, map[string]*rpc{}
	for _, user := range []string{"ann", "bob"} {
		secrets[user] = w.key(t, user, nil, "").Secret
		if got := w.ask(t, "POST /v1/send", w.key(t, "pen", []string{"send:/$inbox/*"}, "").Secret, `{"to":"`+user+`","text":"for `+user+`"}`); got.status != http.StatusCreated {
			t.Fatalf("%d %s", got.status, got.body)
		}
		c := w.rpc(t, "")
		for _, ask := range [][2]string{{"auth", `{"api_key":"` + secrets[user] + `","device":"phone"}`}, {"inbox.open", `{}`}} {
			if m, err := c.call(ask[0], ask[1]); err != nil || m.Error != nil {
				t.Fatalf("%s: %+v, %v", ask[0], m.Error, err)
			}
		}
		for {
			p, err := c.read()
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(p), "for ") {
				if !strings.Contains(string(p), "for "+user) {
					t.Errorf("%s gets %s", user, p)
				}
				break
			}
		}
		phones[user] = c
	}
	if m, err := phones["bob"].call("ack", `{"sub":1,"ranges":[[1,9007199254740992]]}`); err != nil || m.Error != nil {
		t.Fatalf("ack: %+v, %v", m.Error, err)
	}
	// Ann's connection cannot become Bob's, whose letters would come to it.
	if m, err := phones["ann"].call("auth", `{"api_key":"`+secrets["bob"]+`","device":"phone"}`); err != nil || m.Error == nil {
		t.Errorf("another user on the same connection: %s, %v", m.Result, err)
	}
	operate(t, w, "DELETE", "/v1/users/bob/devices/phone", "")
	if _, told := phones["bob"].expectClose(); strings.Contains(told, "for ann") {
		t.Errorf("bob is told %s", told)
	}
	if got := w.ask(t, "GET /v1/subscriptions?owner=ann", "", ""); !strings.Contains(got.body, `"name":"phone"`) || !strings.Contains(got.body, `"in_flight":1`) {
		t.Errorf("ann's are %s", got.body)
	}
	if got := w.ask(t, "GET /v1/subscriptions?owner=bob", "", ""); strings.Contains(got.body, `"phone"`) {
		t.Errorf("bob's are %s", got.body)
	}
	if got := w.ask(t, "GET /v1/users/ann/devices", "", ""); !strings.Contains(got.body, `"phone"`) {
		t.Errorf("ann's devices are %s", got.body)
	}
	if m, err := phones["ann"].call("ack", `{"sub":1,"ranges":[[1,9007199254740992]]}`); err != nil || !strings.Contains(string(m.Result), `"count":1`) {
		t.Errorf("ann's ack is answered %s, %v", m.Result, err)
	}
}
