package texto_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/texto"
	"github.com/parley-im/parley/internal/wire"
)

// lone is a codec without a conversation, and what it answers.
func lone(t testing.TB, cfg texto.Config) (codec protocol.Codec, id string) {
	t.Helper()
	client, server := wire.Pipe()
	t.Cleanup(func() { _, _ = client.Close(1000, ""), server.Close(1000, "") })
	c := texto.NewRelay(cfg).Conversation(server, nil, texto.Terms{Greet: true})
	return c.Codec, c.Identity.Device
}

// answer is what a codec answers to a frame, or empty.
func answer(t testing.TB, c protocol.Codec, text bool, frame string) string {
	t.Helper()
	p := []byte(frame)
	requests, err := c.Decode(nil, wire.Frame{Text: text, Payload: p})
	if err != nil || len(requests) > 1 {
		t.Fatalf("Decode(%q): %d requests, %v", frame, len(requests), err)
	}
	for i := range p {
		p[i] = '!' // what is kept must be a copy
	}
	if len(requests) == 0 {
		return ""
	}
	reply, ok := requests[0].(*protocol.Reply)
	if !ok {
		t.Fatalf("Decode(%q): %T", frame, requests[0])
	}
	const head = 5 // of the pipe's framing
	return string(c.Encode(nil, reply.Event)[head:])
}

// What the original server calls an error of syntax.
func TestSyntax(t *testing.T) {
	c, id := lone(t, texto.Config{})
	send := func(data string) string {
		return `{"client_id":"` + id + `","id":"` + someID + `","kind":"send","data":` + data + `}`
	}
	seen := make(map[string]bool)
	for _, frame := range []string{
		"", " ", "\x00", "{", "}", "[]", "null", "7", `"send"`, `{"kind"}`, `{"kind":}`, `{"kind":"ack"`, `{'kind':'ack'}`, `{"kind":"ack",}`,
		"[{\"kind\":\"ack\"}]", "\ufeff{\"kind\":\"ack\"}", "{\"kind\":\"ack\x01\"}", `{"kind":"ack\x"}`, `{"kind":"ack" "id":null}`,
		`{}`, `{"kind":null}`, `{"kind":""}`, `{"kind":"ACK"}`, `{"kind":"ack "}`, `{"kind":7}`, `{"kind":["ack"]}`, `{"kind":"pong"}`,
		`{"id":"","kind":"ack"}`, `{"id":7,"kind":"ack"}`, `{"id":{},"kind":"ack"}`, `{"id":true,"kind":"ack"}`, `{"id":"x","kind":"ack"}`,
		`{"client_id":"","kind":"ack"}`, `{"client_id":7,"kind":"ack"}`,
		send("null"), send(`""`), send("[]"), send("7"), send(`{"receiver_id":""}`), send(`{"receiver_id":7}`), send(`{"receiver_id":"bogus"}`),
		send(`{"text":7}`), send(`{"text":{}}`), send(`{"text":true}`), `{"kind":"send"}`,
		`{"kind":"receive"}`, `{"kind":"receive","data":null}`, `{"kind":"receive","data":{"sender_id":""}}`, `{"kind":"receive","data":{"text":1}}`,
		`{"kind":"connection"}`, `{"kind":"connection","data":[]}`, `{"kind":"connection","data":{"client_id":1}}`,
		`{"kind":"error"}`, `{"kind":"error","data":"E"}`, `{"kind":"error","data":{"code":1}}`, `{"kind":"error","data":{"description":[]}}`,
		`{"kind":"ack","x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, strings.Repeat(`{"a":`, 100_000), strings.Repeat("[", 100_000),
	} {
		got := answer(t, c, true, frame)
		mid := between(got, `","id":"`, `"`)
		want := `{"client_id":"` + id + `","id":"` + mid + `","kind":"error","data":{"code":"ESYNTAX","description":"Unable to process the message due to a syntax error."}}` + "\n"
		if got != want {
			t.Errorf("%.80q is answered by %q", frame, got)
		}
		if seen[mid] || mid == someID || mid[14] != '4' || !strings.Contains("89ab", mid[19:20]) {
			t.Errorf("%.80q is answered with the id %s", frame, mid)
		}
		seen[mid] = true
	}
}

// What is only ignored, or missing, is no error.
func TestLenience(t *testing.T) {
	c, id := lone(t, texto.Config{})
	for _, frame := range []string{
		`{"kind":"registration"}`, "\t\r\n {\"kind\" : \"registration\" }\n", `{"kind":"registration"}}`, `{"kind":"registration"} \xff`,
		"{\"kind\":\"registration\"}" + strings.Repeat("[", 10_000), `{"\u006bind":"regi\u0073tration"}`, "{\"\u212aind\":\"registration\"}",
		`{"kind":"send","KIND":"registration"}`, `{"data":{"a":[[[]]]},"kind":"registration","x":1e999}`, "{\"\xff\":\"\xff\",\"kind\":\"registration\"}",
	} {
		for _, text := range []bool{true, false} {
			if got, want := answer(t, c, text, frame), `{"client_id":"`+id+`","id":"`+nilUUID+`","kind":"connection","data":{"client_id":"`+id+`"}}`+"\n"; got != want {
				t.Errorf("%.80q (text: %v) is answered by %q", frame, text, got)
			}
		}
	}
}

func TestUUIDs(t *testing.T) {
	c, _ := lone(t, texto.Config{})
	const plain = "8a15b000-02d7-4823-8336-0cd0b0b13ae9"
	for in, want := range map[string]string{
		plain:                                  plain,
		"8A15B000-02D7-4823-8336-0CD0B0B13AE9": plain,
		"urn:uuid:" + plain:                    plain,
		"{" + plain + "}":                      plain,
		"{" + plain:                            plain,
		nilUUID:                                nilUUID,
		"8a15b000-02d7-5823-c336-0cd0b0b13ae9": "8a15b000-02d7-5823-c336-0cd0b0b13ae9",
		"8a15b000-02d7-0823-0336-0cd0b0b13ae9": "8a15b000-02d7-0823-0336-0cd0b0b13ae9",

		"8a15b00002d7482383360cd0b0b13ae9":         "",
		"URN:UUID:" + plain:                        "",
		"urn:uuid:{" + plain + "}":                 "",
		"{urn:uuid:" + plain + "}":                 "",
		plain + "}":                                "",
		"{{" + plain + "}":                         "",
		"{" + plain + "}}":                         "",
		"{" + plain + "x":                          "",
		" " + plain:                                "",
		plain + " ":                                "",
		plain + "0":                                "",
		plain[:35]:                                 "",
		strings.ReplaceAll(plain, "-", "_"):        "",
		"8a15b00-002d7-4823-8336-0cd0b0b13ae9":     "",
		"8a15b000-02d7-4823-8336-0cd0b0b13aeg":     "",
		"8a15b000-02d7-6823-8336-0cd0b0b13ae9":     "",
		"8a15b000-02d7-7823-8336-0cd0b0b13ae9":     "",
		"8a15b000-02d7-a823-8336-0cd0b0b13ae9":     "",
		"ffffffff-ffff-ffff-ffff-ffffffffffff":     "",
		"urn:uuid:8a15b000-02d7-4823-8336":         "", // ended the original server
		"urn:uuid:8a15b000-02d7-4823-8336-":        "",
		"8a15b000-02d7-4823-8336-0cd0b0b13a\u00e9": "",
		"":                            "",
		"{}":                          "",
		strings.Repeat("8", 1e6):      "",
		"urn:uuid:":                   "",
		strings.Repeat("\\u0038", 36): "",
	} {
		got := answer(t, c, true, `{"kind":"registration","id":"`+in+`"}`)
		if ok := strings.Contains(got, `"kind":"connection"`); ok != (want != "") || ok && between(got, `"id":"`, `"`) != want {
			t.Errorf("%.60q is answered by %s", in, got)
		}
	}
}

// Whatever comes, the answer is a line of the protocol, or none, and the same
// again.
func FuzzDecode(f *testing.F) {
	f.Add(`{"client_id":null,"id":"{8a15b000-02d7-4823-8336-0cd0b0b13ae9}","kind":"send","data":{"receiver_id":null,"text":"\ud83d\ude00<"}}`)
	f.Add("{\"KIND\":\"ack\",\"data\":\"\xff\"} trailing")
	f.Fuzz(func(t *testing.T, frame string) {
		c, id := lone(t, texto.Config{})
		frame = strings.ReplaceAll(frame, "ME", id)
		first := answer(t, c, true, frame)
		if first == "" {
			return
		}
		var e struct {
			Client string          `json:"client_id"`
			ID     string          `json:"id"`
			Kind   string          `json:"kind"`
			Data   json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal([]byte(first), &e); err != nil || !strings.HasSuffix(first, "}\n") || e.Client != id || len(e.ID) != 36 {
			t.Fatalf("%q is answered by %q", frame, first)
		}
		switch e.Kind {
		case "ack", "connection", "error":
		default:
			t.Fatalf("%q is answered by %q", frame, first)
		}
		second := answer(t, c, false, frame)
		if e.Kind == "error" && strings.Contains(string(e.Data), "ESYNTAX") {
			second = strings.Replace(second, between(second, `"id":"`, `"`), e.ID, 1)
		}
		if second != first {
			t.Fatalf("%q is answered by %q and then %q", frame, first, second)
		}
		// What encoding/json cannot read, which the original server used, is an
		// error here too.
		var v any
		if json.NewDecoder(strings.NewReader(frame)).Decode(&v) != nil && !strings.Contains(string(e.Data), "ESYNTAX") {
			t.Fatalf("%q is no JSON and answered by %q", frame, first)
		}
	})
}

// Whatever a node publishes, it costs nothing but a count.
func FuzzDeliver(f *testing.F) {
	f.Add(`{"SenderID":"8a15b000-02d7-4823-8336-0cd0b0b13ae9","RecipientID":"8a15b000-02d7-4823-8336-0cd0b0b13ae9","Text":"hi"}`)
	f.Add(`{"recipientid":null,"TEXT":"\u0000"} x`)
	relay := texto.NewRelay(texto.Config{Logger: quiet()})
	f.Fuzz(func(t *testing.T, payload string) {
		before := relay.Stats()
		relay.Deliver([]byte(payload))
		after := relay.Stats()
		if got := after.Unreadable - before.Unreadable + after.Astray - before.Astray; got < 1 {
			t.Fatalf("%q is not counted", payload)
		}
	})
}

// The texts of all error codes, and that Encode says nothing for what the
// protocol has no word for.
func TestOtherEvents(t *testing.T) {
	c, _ := lone(t, texto.Config{})
	for _, e := range []broker.Event{&broker.Pong{}, &broker.Bye{}, &broker.Failed{}, &broker.Published{}} {
		if got := c.Encode(nil, e); len(got) > 0 {
			t.Errorf("%T is told as %q", e, got)
		}
	}
	small, id := lone(t, texto.Config{TextBytes: 3})
	for text, kind := range map[string]string{"abc": "ack", "abcd": "error", "é": "ack", "éé": "error"} {
		got := answer(t, small, true, fmt.Sprintf(`{"client_id":"%s","id":"%s","kind":"send","data":{"text":"%s"}}`, id, someID, text))
		if kind == "ack" && got != ack(id, someID) || kind == "error" && got != broken(id) {
			t.Errorf("%q is answered by %q", text, got)
		}
	}
}
