package chaos_test

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// exchange sends a request as it is and returns the answer's status, or 0 when
// the server ends the connection without one.
func exchange(t *testing.T, s *servertest.Server, request string) int {
	t.Helper()
	c := connect(t, s)
	defer c.Close()
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() { _, _ = io.WriteString(c, request) }) // the server need not take all
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("no answer")
	}
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// TestHandshakes (S6, S7, S9, S21): what is not a proper request by somebody who
// may connect is refused, at the real port, for both protocols.
func TestHandshakes(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	wide := servertest.Start(t, func(c *server.Config) {
		c.HTTP.OpenToNetwork, c.HTTP.Origins = true, []string{"https://chat.example"}
	})
	const local = "127.0.0.1"
	origin := func(origins ...string) func(string) string {
		return func(request string) string {
			for _, o := range origins {
				request = strings.Replace(request, "\r\n\r\n", "\r\nOrigin: "+o+"\r\n\r\n", 1)
			}
			return request
		}
	}
	replace := func(from, to string) func(string) string {
		return func(request string) string { return strings.Replace(request, from, to, 1) }
	}
	for name, tt := range map[string]struct {
		server *servertest.Server
		host   string
		edit   func(string) string
		status int
	}{
		"as it should be":         {s, local, origin(), 101},
		"no upgrade":              {s, local, replace("Upgrade: websocket\r\n", ""), 400},
		"no key":                  {s, local, replace("Sec-WebSocket-Key", "X-Key"), 400},
		"short key":               {s, local, replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400},
		"version 8":               {s, local, replace("Version: 13", "Version: 8"), 426},
		"a body":                  {s, local, replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\nabc"), 400},
		"POST":                    {s, local, replace("GET", "POST"), 405},
		"line feed in a header":   {s, local, replace("\r\n\r\n", "\r\nX: a\rb\r\n\r\n"), 400},
		"NUL in a header":         {s, local, replace("\r\n\r\n", "\r\nX: a\x00b\r\n\r\n"), 400},
		"nonsense":                {s, local, func(string) string { return "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n" }, 400},
		"a MiB of header":         {s, local, replace("\r\n\r\n", "\r\nX: "+strings.Repeat("x", 1<<20)+"\r\n\r\n"), 431},
		"10,000 headers":          {s, local, replace("\r\n\r\n", strings.Repeat("\r\nX: xxxxxxxxxx", 10_000)+"\r\n\r\n"), 431},
		"a MiB of path":           {s, local, replace("HTTP/1.1", strings.Repeat("x", 1<<20)+" HTTP/1.1"), 431},
		"localhost":               {s, "localhost:1", origin(), 101},
		"rebound":                 {s, "evil.example", origin(), 403},
		"rebound, looking local":  {s, "127.0.0.1.evil.example", origin(), 403},
		"rebound, any, when wide": {wide, "parley.example", origin(), 101},
		"two hosts":               {s, local, replace("\r\n\r\n", "\r\nHost: localhost\r\n\r\n"), 400},
		"no host":                 {s, local, replace("Host: 127.0.0.1\r\n", ""), 400},
		"page of this machine":    {s, local, origin("http://localhost:3000"), 101},
		"page of nobody":          {s, local, origin("null"), 403},
		"foreign page":            {s, local, origin("https://evil.example"), 403},
		"page looking local":      {s, local, origin("http://127.0.0.1.evil.example"), 403},
		"page with a user":        {s, local, origin("http://127.0.0.1@evil.example"), 403},
		"page of two origins":     {s, local, origin("http://localhost", "https://evil.example"), 403},
		"page of its own, wide":   {wide, "parley.example", origin("http://parley.example"), 101},
		"page of other port":      {wide, "parley.example", origin("http://parley.example:81"), 403},
		"page that is allowed":    {wide, "parley.example", origin("https://chat.example"), 101},
		"page almost allowed":     {wide, "parley.example", origin("http://chat.example"), 403},
		"local page, wide":        {wide, "parley.example", origin("http://localhost"), 403},
	} {
		for _, path := range []string{rpcPath, gobblerPath} {
			if got := exchange(t, tt.server, tt.edit(upgrade(tt.host, path))); got != tt.status {
				t.Errorf("%s, %s: status %d, want %d", name, path, got, tt.status)
			}
		}
	}
	for _, path := range []string{"/", "/admin/metrics", "/v1/topics", "/admin/debug/pprof/"} {
		if got := exchange(t, s, "GET "+path+" HTTP/1.1\r\nHost: evil.example\r\n\r\n"); got != 403 {
			t.Errorf("%s for a rebound name: status %d, want 403", path, got)
		}
	}
	unharmed(t, quiet(t, s))
	unharmed(t, quiet(t, wide))
}

// TestSecretInURL (S14): what stands in the query of a request, where clients
// put tokens, is neither logged nor shown, whatever becomes of the request.
func TestSecretInURL(t *testing.T) {
	t.Parallel()
	const secret, query = "S3cr3t", "?token=S3cr3t"
	var log lockedBuffer
	s := servertest.Start(t, func(c *server.Config) {
		c.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	for _, path := range []string{rpcPath + query, gobblerPath + query, "/stream/nothing" + query, "/v1/topics/x" + query, "/none" + query} {
		good := upgrade("127.0.0.1", path)
		for _, request := range []string{
			good,
			strings.Replace(good, "Sec-WebSocket-Key", "X-Key", 1),
			strings.Replace(good, "Host: 127.0.0.1", "Host: evil.example", 1),
			strings.Replace(good, "Version: 13", "Version: 8", 1),
			strings.Replace(good, "HTTP/1.1", "HTTP/9.9", 1),
			strings.Replace(good, " HTTP/1.1", "\x01 HTTP/1.1", 1),
		} {
			if answer := answerTo(t, s, request+string(frame(opText, "?"))+"\xff\xff"); strings.Contains(answer, secret) {
				t.Errorf("%q is answered with its secret: %q", request, answer)
			}
		}
	}
	quiet(t, s)
	if metrics := get(t, s, "/admin/metrics"); strings.Contains(metrics, secret) {
		t.Error("the metrics have the secret")
	}
	s.Stop()
	if log.String() == "" || strings.Contains(log.String(), secret) {
		t.Errorf("the log is empty, or has the secret:\n%s", log.String())
	}
}

// answerTo is all that the server answers to bytes before it closes.
func answerTo(t *testing.T, s *servertest.Server, request string) string {
	t.Helper()
	c := connect(t, s)
	defer c.Close()
	_, _ = io.WriteString(c, request)
	_ = c.(*net.TCPConn).CloseWrite()
	answer, err := io.ReadAll(c)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the server does not close")
	}
	return string(answer)
}

// lockedBuffer is a log in memory.
type lockedBuffer struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// TestSlowHandshakes (S10): who does not finish a request is not waited for.
// What never finishes a message, or is silent, takes longer and is part of the
// long form.
func TestSlowHandshakes(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as the server waits for a header, 10 s")
	}
	t.Parallel()
	s := servertest.Start(t)
	good := sdk(t, s)
	type slowness struct {
		name, path string
		begin      string
		drip       string // again and again, half a second apart
	}
	all := []slowness{
		{"says nothing", "", "", ""},
		{"half a request line", "", "GET /v1/r", ""},
		{"half a header", "", upgrade(host(s), rpcPath)[:80], ""},
		{"a header byte by byte", "", "GET /v1/rpc HTTP/1.1\r\nX: ", "x"},
		{"header after header", "", "GET /v1/rpc HTTP/1.1\r\n", "X: y\r\n"},
	}
	if scale(0, 0, 1) == 1 {
		all = append(all,
			slowness{"a message byte by byte", rpcPath, declared(1000), "x"},
			slowness{"fragment after fragment", rpcPath, "\x01\x80\x00\x00\x00\x00", "\x00\x80\x00\x00\x00\x00"},
			slowness{"answers no pings", rpcPath, "", ""},
		)
	}
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for _, tt := range all {
		waiting.Go(func() {
			if err := outlast(s, tt.path, tt.begin, tt.drip); !errors.Is(err, io.EOF) {
				t.Errorf("%s: %v, want that the server ends it", tt.name, err)
			}
		})
	}
	if _, err := good.Count(t.Context(), client.HistoryQuery{Topic: "/a"}); err != nil {
		t.Errorf("beside the slow: %v", err)
	}
}

// outlast begins something, goes on with it slowly, and returns how the
// connection ended.
func outlast(s *servertest.Server, path, begin, drip string) error {
	var c net.Conn
	c, err := net.DialTimeout("tcp", host(s), patience)
	if path != "" && err == nil {
		_ = c.Close()
		c, err = dial(host(s), path, 0)
	}
	if err != nil {
		return err
	}
	defer c.Close()
	ended := make(chan error, 1)
	_ = c.SetDeadline(time.Now().Add(3 * patience))
	var reading sync.WaitGroup
	defer reading.Wait()
	reading.Go(func() {
		_, err := io.Copy(io.Discard, c)
		if err == nil || errors.Is(err, syscall.ECONNRESET) {
			err = io.EOF
		}
		ended <- err
	})
	_, _ = io.WriteString(c, begin)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-tick.C:
			_, _ = io.WriteString(c, drip) // if that fails, reading says why
		}
	}
}
