package server_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
	"github.com/parley-im/parley/test/redisserver"
)

// raw is a WebSocket client that says exactly what a test wants.
type raw struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

// upgraded is a request for path by a version of HTTP, and what follows its
// first line in the answer.
func upgraded(t *testing.T, url, path, version string, headers ...string) (r *raw, status string, head []string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	request := "GET " + path + " " + version + "\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, h := range headers {
		request += h + "\r\n"
	}
	if _, err := io.WriteString(conn, request+"\r\n"); err != nil {
		t.Fatal(err)
	}
	r = &raw{t, conn, bufio.NewReader(conn)}
	for {
		line, err := r.in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line = strings.TrimSuffix(line, "\r\n"); line == "" {
			return r, status, head
		}
		if status == "" {
			status = line
			continue
		}
		head = append(head, line)
	}
}

// send sends one masked frame.
func (r *raw) send(first byte, payload string) {
	r.t.Helper()
	mask := [4]byte{1, 2, 3, 4}
	p := []byte{first, 0x80 | 126, byte(len(payload) >> 8), byte(len(payload))}
	if len(payload) < 126 {
		p = []byte{first, 0x80 | byte(len(payload))}
	}
	p = append(p, mask[:]...)
	for i := range len(payload) {
		p = append(p, payload[i]^mask[i%4])
	}
	if _, err := r.conn.Write(p); err != nil {
		r.t.Fatal(err)
	}
}

// next is the next frame: its first byte and its payload.
func (r *raw) next() (byte, string) {
	r.t.Helper()
	var head [2]byte
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		r.t.Fatal(err)
	}
	n := int(head[1])
	if n == 126 {
		var size [2]byte
		_, _ = io.ReadFull(r.in, size[:])
		n = int(size[0])<<8 | int(size[1])
	}
	p := make([]byte, n)
	if _, err := io.ReadFull(r.in, p); err != nil {
		r.t.Fatal(err)
	}
	return head[0], string(p)
}

// over checks that nothing but the end of the connection follows.
func (r *raw) over() {
	r.t.Helper()
	if p, err := io.ReadAll(r.in); err != nil || len(p) > 0 {
		r.t.Errorf("after the close frame came %q, %v", p, err)
	}
}

// What is on the wire is what the original server sends, byte for byte.
func TestTextoOnTheWire(t *testing.T) {
	s := servertest.Start(t, func(c *server.Config) { c.HTTP.Compression = true })
	for _, version := range []string{"HTTP/1.1", "HTTP/1.0"} {
		r, status, head := upgraded(t, s.URL, "/v1/texto", version, "Sec-WebSocket-Protocol: chat, gobbler.deployed", "Sec-WebSocket-Extensions: permessage-deflate")
		want := []string{"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}
		if status != "HTTP/1.1 101 Switching Protocols" || strings.Join(head, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s: %s %q", version, status, head)
		}
		first, greeting := r.next()
		if first != 0x81 || len(greeting) != 177 || !strings.HasSuffix(greeting, "\"}}\n") {
			t.Errorf("%s: the greeting is %#x %q", version, first, greeting)
		}
		// A message in pieces, with a ping between; binary; text that is no UTF-8.
		r.send(0x02, `{"kind":`)
		r.send(0x89, "are you there?")
		r.send(0x80, "\"registration\",\"data\":\"\xff\"}")
		if first, pong := r.next(); first != 0x8a || pong != "are you there?" {
			t.Errorf("%s: the pong is %#x %q", version, first, pong)
		}
		if first, answer := r.next(); first != 0x81 || !strings.Contains(answer, `"kind":"connection"`) {
			t.Errorf("%s: the answer is %#x %q", version, first, answer)
		}
	}
	for said, want := range map[string]string{
		"":              "",
		"\x03":          "",
		"\x03\xe8":      "\x03\xe8",
		"\x03\xe8bye":   "\x03\xe8",
		"\x03\xe9":      "\x03\xe9",
		"\x0b\xb8x":     "\x0b\xb8",
		"\x03\xed":      "\x03\xeainvalid close code 1005",
		"\x03\xe8\xff!": "\x03\xefclose reason is not UTF-8",
	} {
		r, _, _ := upgraded(t, s.URL, "/v1/texto?nogreet=1", "HTTP/1.1")
		r.send(0x88, said)
		if first, got := r.next(); first != 0x88 || got != want {
			t.Errorf("a close frame with %q is answered by %#x %q, want %q", said, first, got, want)
		}
		r.over()
	}
	r, _, _ := upgraded(t, s.URL, "/v1/texto?nogreet=1", "HTTP/1.1")
	_, _ = r.conn.Write([]byte{0x81, 2, '{', '}'})
	if first, got := r.next(); first != 0x88 || got != "\x03\xeaincorrect mask flag" {
		t.Errorf("a frame without a mask is answered by %#x %q", first, got)
	}
	r.over()
}

// With authentication Texto is refused, with the reason, until a setting says
// that it is for anybody; then its sessions are not asked who they are.
func TestTextoWithAuthentication(t *testing.T) {
	auth := func(c *server.Config) { c.Access.Required = true }
	s := servertest.Start(t, auth)
	_, status, _ := upgraded(t, s.URL, "/v1/texto", "HTTP/1.1")
	if status != "HTTP/1.1 403 Forbidden" {
		t.Errorf("without leave: %s", status)
	}
	for _, path := range []string{"/texto/", "/texto/texto.js"} {
		if got := request(t, "GET", s.URL+path, nil); got.status != http.StatusNotFound {
			t.Errorf("the page %s: %d", path, got.status)
		}
	}
	anonymous := servertest.Start(t, auth, func(c *server.Config) { c.Texto.Anonymous = true })
	r, status, _ := upgraded(t, anonymous.URL, "/v1/texto", "HTTP/1.1")
	if status != "HTTP/1.1 101 Switching Protocols" {
		t.Fatalf("with leave: %s", status)
	}
	_, greeting := r.next()
	id := greeting[14:50]
	// Who has to say who they are may say nothing else, and that once.
	r.send(0x81, `{"kind":"registration"}`)
	if _, got := r.next(); !strings.Contains(got, `"kind":"connection"`) {
		t.Errorf("it got %q", got)
	}
	r.send(0x81, fmt.Sprintf(`{"client_id":"%s","kind":"send","data":{"receiver_id":"%s","text":"hi"}}`, id, id))
	_, first := r.next()
	_, second := r.next()
	if got := first + second; !strings.Contains(got, `"text":"hi"`) || !strings.Contains(got, `"kind":"ack"`) {
		t.Errorf("it got %q", got)
	}
	if got := request(t, "GET", anonymous.URL+"/texto/", nil); got.status != http.StatusOK {
		t.Errorf("the page: %d", got.status)
	}
}

// The page may run nothing but its own script, and is served where the setting
// says.
func TestTextoPaths(t *testing.T) {
	s := servertest.Start(t, func(c *server.Config) { c.Texto.Path = "/chat" })
	page := request(t, "GET", s.URL+"/texto/", nil)
	policy := page.header.Get("Content-Security-Policy")
	if page.status != http.StatusOK || !strings.Contains(page.body, `content="/chat"`) || !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
		t.Errorf("the page is %d %q with the policy %q", page.status, page.body, policy)
	}
	if _, status, _ := upgraded(t, s.URL, "/chat", "HTTP/1.1"); status != "HTTP/1.1 101 Switching Protocols" {
		t.Errorf("/chat: %s", status)
	}
	if got := request(t, "GET", s.URL+"/v1/texto", nil); got.status != http.StatusNotFound {
		t.Errorf("the usual path: %d", got.status)
	}
	off := servertest.Start(t, func(c *server.Config) { c.Texto.Path = "" })
	for _, path := range []string{"/v1/texto", "/texto/", "/texto/texto.js", "/texto"} {
		if got := request(t, "GET", off.URL+path, nil); got.status != http.StatusNotFound {
			t.Errorf("%s of a server without: %d", path, got.status)
		}
	}
}

// Faults of the settings are named, and no password is shown.
func TestTextoFaults(t *testing.T) {
	for _, tt := range []struct {
		environ []string
		want    string
	}{
		{[]string{"PARLEY_TEXTO=/v1/rpc"}, "texto"},
		{[]string{"PARLEY_TEXTO=/texto"}, "is taken"},
		{[]string{"PARLEY_TEXTO=/stream/x"}, "is within ws-prefix"},
		{[]string{"PARLEY_TEXTO=/admin/healthcheck"}, "is the path of health-endpoint too"},
		{[]string{"PARLEY_WS_PREFIX=/texto/"}, "is taken"},
		{[]string{"PARLEY_REDIS_URL=localhost"}, "is no address of Redis"},
		{[]string{"PARLEY_REDIS_URL=redis://:hunter2@localhost"}, "holds a password"},
		{[]string{"PARLEY_REDIS_URL=redis://localhost", "PARLEY_TEXTO="}, "is not used without --texto PATH"},
		{[]string{"PARLEY_REDIS_PASSWORD=hunter2"}, "is not used without --redis-url URL"},
		{[]string{"PARLEY_REDIS_PASSWORD=hunter2\n", "PARLEY_REDIS_URL=redis://localhost"}, "control characters"},
		{[]string{"PARLEY_REDIS_SENTINEL_PASSWORD=hunter2", "PARLEY_REDIS_URL=redis://localhost"}, "is not used without Sentinels"},
		{[]string{"PARLEY_REDIS_CA=ca.pem", "PARLEY_REDIS_URL=redis://localhost"}, "is not used without TLS"},
	} {
		_, err := server.Load(server.Sources{Environ: tt.environ})
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v, want an error with %q", tt.environ, err, tt.want)
		}
	}
	text, err := server.Effective(server.Sources{Environ: []string{"PARLEY_REDIS_URL=redis://ann@localhost", "PARLEY_REDIS_PASSWORD=hunter2"}})
	if err != nil || !strings.Contains(text, "redis-password: \"***\"") || strings.Contains(text, "hunter2") {
		t.Errorf("%v\n%s", err, text)
	}
	for _, content := range []string{"", "no certificate"} {
		name := filepath.Join(t.TempDir(), "ca.pem")
		if content != "" {
			if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cfg := server.Default()
		cfg.HTTP.Listen, cfg.Storage.Kind = "127.0.0.1:0", server.StorageMemory
		cfg.Texto.Redis = server.Redis{URL: "rediss://localhost", CA: name}
		if _, err := server.New(cfg); err == nil || !strings.Contains(err.Error(), "redis-ca: ") {
			t.Errorf("a CA file with %q: %v", content, err)
		}
	}
}

// Two servers hand messages to each other by way of Redis. One that starts
// without Redis serves all else, says EBROKER, and gets it later.
func TestTextoOverRedis(t *testing.T) {
	redis := redisserver.Start(t, "--requirepass", "hunter2")
	over := func(c *server.Config) {
		c.Texto.Redis = server.Redis{URL: "redis://" + redis.Addr, Password: "hunter2"}
	}
	redis.Stop()
	one, two := servertest.Start(t, over), servertest.Start(t, over)
	ann, _, _ := upgraded(t, one.URL, "/v1/texto", "HTTP/1.1")
	bob, _, _ := upgraded(t, two.URL, "/v1/texto", "HTTP/1.1")
	_, greeting := ann.next()
	annID := greeting[14:50]
	_, greeting = bob.next()
	send := fmt.Sprintf(`{"client_id":"%s","kind":"send","data":{"receiver_id":"%s","text":"hi"}}`, annID, greeting[14:50])
	ann.send(0x81, send)
	if _, got := ann.next(); !strings.Contains(got, "EBROKER") {
		t.Errorf("without Redis ann got %s", got)
	}
	metrics := request(t, "GET", one.URL+"/admin/metrics", nil).body
	for _, want := range []string{"parley_redis_connected 0\n", "parley_texto_failed_messages_total 1\n", `parley_connections{protocol="texto"} 1` + "\n"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics have no %q", want)
		}
	}
	redis.Start()
	for _, s := range []*servertest.Server{one, two} {
		eventually(t, "the servers have Redis", func() bool {
			return strings.Contains(request(t, "GET", s.URL+"/admin/metrics", nil).body, "parley_redis_connected 1\n")
		})
	}
	ann.send(0x81, send)
	if _, got := ann.next(); !strings.Contains(got, `"kind":"ack"`) {
		t.Errorf("with Redis ann got %s", got)
	}
	if _, got := bob.next(); !strings.Contains(got, `"data":{"sender_id":"`+annID+`","text":"hi"}`) {
		t.Errorf("bob got %s", got)
	}
}

// A rate for sends holds for Texto too.
func TestTextoRate(t *testing.T) {
	s := servertest.Start(t, func(c *server.Config) {
		c.Access.Rates = []server.RateLimit{{What: "send", Of: "address", Count: 3, Per: 24 * time.Hour, Burst: 3}}
	})
	r, _, _ := upgraded(t, s.URL, "/v1/texto", "HTTP/1.1")
	_, greeting := r.next()
	var got bytes.Buffer
	for range 5 {
		r.send(0x81, fmt.Sprintf(`{"client_id":"%s","kind":"send","data":{"text":"hi"}}`, greeting[14:50]))
		_, answer := r.next()
		got.WriteString(answer)
	}
	if acks, refused := strings.Count(got.String(), `"kind":"ack"`), strings.Count(got.String(), "EBROKER"); acks != 3 || refused != 2 {
		t.Errorf("%d acks and %d refusals:\n%s", acks, refused, got.String())
	}
}

// A message that is too large for any text ends the connection.
func TestTextoTooLarge(t *testing.T) {
	s := servertest.Start(t, func(c *server.Config) { c.Limits.Message = 1 << 10 })
	conn, err := wire.Dial(t.Context(), s.URL+"/v1/texto", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(1000, "") }()
	if _, err := conn.Read(); err != nil {
		t.Fatal(err)
	}
	_ = conn.Write(conn.AppendFrame(nil, true, bytes.Repeat([]byte(" "), 1<<20)))
	_, err = conn.Read()
	if closed, ok := err.(*wire.CloseError); !ok || closed.Code != wire.CloseTooBig { //nolint:errorlint // as it comes
		t.Errorf("the end is %v", err)
	}
}
