package proxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
	"github.com/parley-im/parley/test/eventsource"
)

// behind is how docs/tasks/behind-nginx.md tells to start the server.
func behind(c *server.Config) { c.HTTP.OpenToNetwork = true }

func address(s *servertest.Server) string { return strings.TrimPrefix(s.URL, "http://") }

// web is an HTTP client of the test, which speaks HTTP/2 where nginx does.
func web(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{ForceAttemptHTTP2: true, Proxy: nil}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// answer is what of an answer is looked at.
type answer struct {
	status   int
	location string
}

// get makes a GET request.
func get(t *testing.T, url string, header ...string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	response, err := web(t).Do(asking(ctx, t, url, header...))
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return answer{response.StatusCode, response.Header.Get("Location")}
}

// asking is a GET request with a header.
func asking(ctx context.Context, t *testing.T, url string, header ...string) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	return request
}

// follow opens an event stream that goes on after lastID, and returns how to
// leave it.
func follow(t *testing.T, url, lastID string) (*eventsource.Reader, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	var header []string
	if lastID != "" {
		header = []string{"Last-Event-ID", lastID}
	}
	response, err := web(t).Do(asking(ctx, t, url, header...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" || response.ProtoMajor != 2 {
		t.Fatalf("%s %s, %s", response.Proto, response.Status, response.Header.Get("Content-Type"))
	}
	return eventsource.NewReader(response.Body), cancel
}

// next waits for the next event of a type, and returns the text of its message.
func next(t *testing.T, r *eventsource.Reader, kind string) string {
	t.Helper()
	for {
		e, err := r.Next()
		if err != nil {
			t.Fatalf("waiting for %s: %v", kind, err)
		}
		if e.Type != kind {
			continue
		}
		var m struct{ Text string }
		if err := json.Unmarshal([]byte(e.Data), &m); err != nil {
			t.Fatal(err)
		}
		return m.Text
	}
}

func dial(t *testing.T, url string) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), url, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func publish(t *testing.T, c *client.Client, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := c.Publish(ctx, parley.Message{Topic: "/proxied", Body: []byte(text)}); err != nil {
		t.Fatal(err)
	}
}

// Events come through nginx one by one, as soon as they are published, over
// WebSocket through the same nginx; who lost the connection goes on where it was.
func TestEventsThroughNginx(t *testing.T) {
	t.Parallel()
	n := start(t, address(servertest.Start(t, behind)))
	c := dial(t, n.URL)
	r, leave := follow(t, n.URL+"/v1/subscribe/proxied", "")
	next(t, r, "live")
	for _, text := range []string{"one", "two", "three"} {
		began := time.Now()
		publish(t, c, text) // the next is published only when this one has come
		if got := next(t, r, "message"); got != text {
			t.Fatalf("got %q, want %q", got, text)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%q took %v", text, took)
		}
	}
	leave()
	publish(t, c, "four")
	r, _ = follow(t, n.URL+"/v1/subscribe/proxied?last=100", r.LastID)
	if got := next(t, r, "message"); got != "four" {
		t.Errorf("after the connection was lost: %q", got)
	}
}

// A server that stops behind nginx says goodbye to everybody, and the next one
// goes on.
func TestRestartBehindNginx(t *testing.T) {
	t.Parallel()
	dir := servertest.Dir(t.TempDir())
	s := servertest.Start(t, dir, behind)
	n := start(t, address(s))
	c := dial(t, n.URL)
	r, _ := follow(t, n.URL+"/v1/subscribe/proxied", "")
	next(t, r, "live")
	publish(t, c, "before")
	next(t, r, "message")
	at := address(s)
	s.Stop()
	next(t, r, "bye")
	if _, err := r.Next(); !errors.Is(err, io.EOF) || r.Retry == "" {
		t.Errorf("the stream ends with %v, come back after %q", err, r.Retry)
	}
	if got := get(t, n.URL+"/v1/subscribe/proxied"); got.status != http.StatusBadGateway {
		t.Errorf("without a server: %d", got.status)
	}
	servertest.Start(t, dir, behind, func(c *server.Config) { c.HTTP.Listen = at })
	publish(t, c, "after") // the client comes back by itself
	r, _ = follow(t, n.URL+"/v1/subscribe/proxied", r.LastID)
	if got := next(t, r, "message"); got != "after" {
		t.Errorf("after the restart: %q", got)
	}
}

// Comments keep a silent stream open for longer than nginx waits for a server
// that says nothing.
func TestHeartbeatsThroughNginx(t *testing.T) {
	if os.Getenv("PARLEY_SOAK") != "1" {
		t.Skip("takes longer than the server is ever silent, 25 s: PARLEY_SOAK=1 runs it")
	}
	t.Parallel()
	n := start(t, address(servertest.Start(t, behind)), "proxy_read_timeout 75s;", "proxy_read_timeout 30s;")
	c := dial(t, n.URL)
	r, _ := follow(t, n.URL+"/v1/subscribe/proxied", "")
	next(t, r, "live")
	published := make(chan struct{})
	defer func() { <-published }() // the answer may come after the event
	time.AfterFunc(65*time.Second, func() {
		defer close(published)
		if _, err := c.Publish(t.Context(), parley.Message{Topic: "/proxied", Body: []byte("at last")}); err != nil {
			t.Error(err)
		}
	})
	if got := next(t, r, "message"); got != "at last" || r.Comments < 2 {
		t.Errorf("%q, after %d comments", got, r.Comments)
	}
}

// The Gobbler protocol's prefix is upgraded too, and what is an operator's
// business is not served through a proxy on the same machine.
func TestRoutesThroughNginx(t *testing.T) {
	t.Parallel()
	n := start(t, address(servertest.Start(t, behind)))
	conn, err := wire.Dial(t.Context(), strings.Replace(n.URL, "https", "wss", 1)+"/stream/user/marvin", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(wire.CloseNormal, "")
	if err := conn.Write(conn.AppendFrame(nil, true, []byte("+ /proxied"))); err != nil {
		t.Fatal(err)
	}
	frames, err := conn.Read()
	if err != nil || !bytes.HasPrefix(frames[0].Payload, []byte("#")) {
		t.Errorf("%+v, %v", frames, err)
	}
	for path, want := range map[string]int{
		"/admin/healthcheck": http.StatusOK, "/admin/metrics": http.StatusForbidden, "/v1/topics": http.StatusOK,
		"/v1/subscribe/proxied?last=x": http.StatusBadRequest, "/v1/subscribe/a%2F%2Fb": http.StatusBadRequest,
	} {
		if got := get(t, n.URL+path); got.status != want {
			t.Errorf("%s: %d, want %d", path, got.status, want)
		}
	}
	if got := get(t, n.plain+"/v1/subscribe/a?last=1"); got != (answer{http.StatusPermanentRedirect, "https://127.0.0.1/v1/subscribe/a?last=1"}) {
		t.Errorf("without TLS: %+v", got)
	}
	// A body as large as a message may be passes.
	large, err := web(t).Post(n.URL+"/v1/messages/proxied", "text/plain", strings.NewReader(strings.Repeat("x", 1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	large.Body.Close()
	if large.StatusCode != http.StatusCreated {
		t.Errorf("a large publish: %s", large.Status)
	}
	// A page of the name that the browser knows may connect, another may not.
	for origin, want := range map[string]int{n.URL: http.StatusOK, "https://evil.example": http.StatusForbidden} {
		if got := get(t, n.URL+"/v1/subscribe/proxied", "Origin", origin); got.status != want {
			t.Errorf("origin %s: %d, want %d", origin, got.status, want)
		}
	}
}
