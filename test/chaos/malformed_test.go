package chaos_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/server/servertest"
)

// TestFrames (S7, S21): frames that break the rules end their connection with
// the code for it, and nothing else, whatever is spoken in them.
func TestFrames(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	beside := open(t, s, rpcPath)
	const mask = "\x00\x00\x00\x00"
	for name, tt := range map[string]struct {
		bytes string
		code  int
	}{
		"not masked":                  {"\x81\x02{}", 1002},
		"compressed, which was never": {"\xc1\x80" + mask, 1002},
		"opcode 3":                    {"\x83\x80" + mask, 1002},
		"opcode 15":                   {"\x8f\x80" + mask, 1002},
		"fragmented ping":             {"\x09\x80" + mask, 1002},
		"long ping":                   {"\x89\xfe\x00\x7e" + mask + strings.Repeat("p", 126), 1002},
		"continuation of nothing":     {"\x80\x80" + mask, 1002},
		"message within a message":    {"\x01\x80" + mask + "\x81\x80" + mask, 1002},
		"length not minimal":          {"\x81\xfe\x00\x05" + mask + "hello", 1002},
		"length with its top bit":     {declared(1 << 63), 1002},
		"length of 2^63-1":            {declared(1<<63 - 1), 1009},
		"length of 1 GiB":             {declared(1 << 30), 1009},
		"close with half a code":      {"\x88\x81" + mask + "\x03", 1002},
		"close with 1005":             {"\x88\x82" + mask + "\x03\xed", 1002},
		"close with 65535":            {"\x88\x82" + mask + "\xff\xff", 1002},
		"close with bad UTF-8":        {"\x88\x84" + mask + "\x03\xe8\xff\xfe", 1007},
		"bad UTF-8":                   {string(frame(opText, "\xff")), 1007},
		"bad UTF-8 in two fragments":  {"\x01\x81" + mask + "\xe2\x80\x81" + mask + "x", 1007},
	} {
		paths := []string{rpcPath, gobblerPath, titanPath, textoPath}
		switch {
		case strings.HasPrefix(name, "bad UTF-8"):
			paths = []string{rpcPath, titanPath} // the others' servers took any text
		case strings.HasPrefix(name, "close"):
			paths = []string{rpcPath, gobblerPath} // the others' servers had an answer of their own
		}
		for _, path := range paths {
			p := open(t, s, path)
			_, _ = io.WriteString(p, tt.bytes) // the server need not take all
			if code, err := p.farewell(); err != nil || code != tt.code {
				t.Errorf("%s at %s: ends with %d, %v; want %d", name, path, code, err, tt.code)
			}
		}
	}
	if a, err := beside.ask(1, "ping", "{}"); err != nil || a.Error != nil {
		t.Errorf("a client beside them: %+v, %v", a, err)
	}
	unharmed(t, scrape(t, s))
}

// noTopics are texts that are no topics.
func noTopics() []string {
	return []string{
		"", "canary", "/../canary", "/a/../canary", "/canary/..", "/./canary", "//canary", "/canary/", "/a//canary",
		"/canary\x00", "/\x00/canary", "/canary\r", "/can\rary", "/canary\u202e", "/can\u2028ary", "/can\tary", "/can\u0085ary",
		"/canary,b", "/canary\x7f", "/canary" + strings.Repeat("/x", 16), "/canary" + strings.Repeat("x", 64<<10),
	}
}

// ourTopics are the server's own.
func ourTopics() []string {
	return []string{"/$inbox/a", "/$inbox", "/$SYS/canary", "/$push/canary", "/$", "/$dead/canary/x"}
}

// oddTopics look like trouble and are topics all the same.
func oddTopics() []string {
	return []string{
		"/...", "/%2e%2e/canary", `/..\canary`, "/-rf/canary", "/~/canary", "/canary*", "/canary>", "/CON", "/é/canary",
		"/canary:x", "/';--canary",
	}
}

// TestTopics (S7, S17): what is no topic is refused everywhere in the way that
// each interface has, and no topic becomes a name in the file system.
func TestTopics(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := servertest.Start(t, servertest.Dir(filepath.Join(dir, "data")))
	rpc, old := open(t, s, rpcPath), open(t, s, gobblerPath)
	if text, err := old.next(); err != nil || !strings.HasPrefix(text, "#connected") {
		t.Fatalf("the greeting is %q, %v", text, err)
	}
	for _, topic := range noTopics() {
		refusedByNative(t, rpc, topic, -32602)
		refusedByGobbler(t, old, topic)
		refusedByHTTP(t, s, topic)
	}
	for _, topic := range ourTopics() {
		refusedByNative(t, rpc, topic, -32002)
		refusedByGobbler(t, old, topic)
		refusedByHTTP(t, s, topic)
	}
	odd := oddTopics()
	for i, topic := range odd {
		if a, err := rpc.ask(i+1, "publish", fmt.Sprintf(`{"topic":%s,"text":"x"}`, quoted(topic))); err != nil || a.Error != nil {
			t.Errorf("publishing to %q is answered by %+v, %v", topic, a.Error, err)
		}
		if log := stored(t, s, parley.Topic(topic)); len(log) != 1 {
			t.Errorf("%q holds %d messages, want 1", topic, len(log))
		}
	}
	m := scrape(t, s)
	unharmed(t, m)
	if got := m["published_messages_total"]; int(got) != len(odd) {
		t.Errorf("%v messages are stored, want the %d that were published to topics", got, len(odd))
	}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if strings.Contains(name, "canary") {
			t.Errorf("a topic became the file %q", name)
		}
		if name != dir && filepath.Dir(name) == dir && d.Name() != "data" {
			t.Errorf("the server made %q outside its directory", name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func refusedByNative(t *testing.T, p *peer, topic string, code int) {
	t.Helper()
	for method, rest := range map[string]string{"publish": `,"text":"x"`, "subscribe": "", "history": "", "count": ""} {
		a, err := p.ask(7, method, fmt.Sprintf(`{"topic":%s%s}`, quoted(topic), rest))
		switch {
		case err != nil:
			t.Fatalf("%s %.40q: %v", method, topic, err)
		case a.Error == nil || a.Error.Code != code || a.ID != 7:
			t.Errorf("%s %.40q is answered by %+v, want error %d", method, topic, a, code)
		}
	}
}

func refusedByGobbler(t *testing.T, p *peer, topic string) {
	t.Helper()
	for _, command := range []string{"> " + topic + "\n\nx", "+ " + topic, "+ " + topic + " 0 5"} {
		if err := p.say(command); err != nil {
			t.Fatal(err)
		}
		text, err := p.next()
		if err != nil {
			t.Fatalf("%.40q: %v", command, err)
		}
		if !strings.HasPrefix(text, "!error-") {
			t.Errorf("%.40q is answered by %.100q", command, text)
		}
	}
}

func refusedByHTTP(t *testing.T, s *servertest.Server, topic string) {
	t.Helper()
	path, slash := strings.CutPrefix(topic, "/")
	if !slash || topic == "/$inbox" {
		return // the path would be another topic's
	}
	for _, escaped := range []string{url.PathEscape(path), (&url.URL{Path: path}).EscapedPath()} {
		for _, route := range []string{"messages", "count", "body"} {
			method := map[string]string{"messages": "POST"}[route]
			if status := exchange(t, s, cmp.Or(method, "GET")+" /v1/"+route+"/"+escaped+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); status < 400 || status >= 500 {
				t.Errorf("%s of %.40q: status %d", route, escaped, status)
			}
		}
	}
	for _, method := range []string{"GET", "DELETE"} {
		for _, escaped := range []string{url.PathEscape(path), (&url.URL{Path: path}).EscapedPath()} {
			status := exchange(t, s, method+" /v1/topics/"+escaped+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
			if status < 400 || status >= 500 {
				t.Errorf("%s of %.40q: status %d", method, escaped, status)
			}
		}
	}
}

// TestGarbage (S9): requests that were damaged at random, in frames that were
// damaged at random, harm nobody.
func TestGarbage(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, seed))
	s := servertest.Start(t)
	good := behave(t, s)
	good.served(t)
	samples := map[string][]string{
		rpcPath: {
			publishing(1, "/a", "x"), call(2, "hello", `{"version":1,"producer":"d1f5b6a09c3e4f7a8b2d0c6e5a4f3b21"}`),
			call(3, "subscribe", `{"topic":"/a","after":0,"replay_only":true,"max":3}`), call(4, "unsubscribe", `{"sub":1}`),
			call(5, "history", `{"topic":"/a","limit":2,"reverse":true}`), call(6, "count", `{"topic":"/a","since":"2026-01-01T00:00:00Z"}`),
			"[" + call(7, "ping", "{}") + "," + publishing(8, "/a/b", "y") + "]",
			call(9, "publish", `{"topic":"/a","data":"AAEC","headers":{"a":"b"},"expires":"2099-01-01T00:00:00Z","filters":{"c":"d"}}`),
		},
		gobblerPath: {"> /a id\n{\"h\":1}\nbody", "> /a?userId=b&filterX=y id\n\nbody", "+ /a", "+ /a 0", "+ /a 0 5", "+ /a -3", "+ /a 1,2", "- /a"},
		titanPath: {
			`{"id":"1","method":"auth.jwt","params":{"token":"a.b.c"}}`, `{"id":"2","method":"auth.google","params":{"token":"a.b.c"}}`, `{"id":"3","method":"ping"}`,
			`{"id":"4","method":"msg.send","params":[{"to":"bob","message":"x"}]}`, `{"id":"AAAAAAAAAAAAAAAAAAAAAA","result":"ACK"}`,
		},
		textoPath: {
			`{"kind":"registration"}`, `{"id":"8a15b000-02d7-4823-8336-0cd0b0b13ae9","kind":"ack"}`,
			`{"id":"8a15b000-02d7-4823-8336-0cd0b0b13ae9","kind":"send","data":{"receiver_id":"8a15b000-02d7-4823-8336-0cd0b0b13ae9","text":"x"}}`,
		},
	}
	for range scale(50, 300, 10_000) {
		for path, requests := range samples {
			p, err := dial(host(s), path, 0)
			if err != nil {
				t.Fatal(err)
			}
			for range 5 {
				text := requests[rnd.IntN(len(requests))]
				if rnd.IntN(2) == 0 {
					text = string(frame(opText, damage(rnd, text)))
				} else {
					text = damage(rnd, string(frame(opText, text)))
				}
				once(text)(0, p)
			}
			if err := p.drain(); err != nil {
				t.Fatalf("after garbage: %v", err)
			}
		}
	}
	good.served(t)
	good.stop()
	unharmed(t, quiet(t, s))
}

// drain says that nothing more comes, and reads until the server has closed.
func (p *peer) drain() error {
	defer p.Close()
	_ = p.SetReadDeadline(time.Now().Add(patience))
	_ = p.Conn.(*net.TCPConn).CloseWrite() // it may be closed already
	_, err := io.Copy(io.Discard, p)
	if errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

// damage changes some bytes, and perhaps cuts or repeats a part.
func damage(rnd *rand.Rand, text string) string {
	b := []byte(text)
	for range 1 + rnd.IntN(3) {
		if len(b) == 0 {
			break
		}
		i := rnd.IntN(len(b))
		switch rnd.IntN(4) {
		case 0:
			b[i] = byte(rnd.Uint32())
		case 1:
			b[i] ^= 1 << rnd.IntN(8)
		case 2:
			b = append(b[:i:i], b[min(len(b), i+1+rnd.IntN(8)):]...)
		case 3:
			b = append(b[:i:i], append([]byte(strings.Repeat(string(b[i:min(len(b), i+8)]), 1+rnd.IntN(50))), b[i:]...)...)
		}
	}
	return string(b)
}
