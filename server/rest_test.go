package server_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// withBody gives a request a body.
func withBody(contentType, body string) func(*http.Request) {
	return func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		r.Header.Set("Content-Type", contentType)
	}
}

// TestRetentionOutlivesTheServer: a rule that an operator has set is there after
// a restart, wins over the configuration, and can be taken back.
func TestRetentionOutlivesTheServer(t *testing.T) {
	dir := servertest.Dir(t.TempDir())
	configured := func(c *server.Config) {
		c.Retention = []server.Retention{{Stream: "*", Age: 48 * time.Hour}}
	}
	s := servertest.Start(t, dir, configured)
	if got := request(t, "PUT", s.URL+"/v1/retention/orders", withBody("application/json", `{"messages":7}`)); got.status != 200 {
		t.Fatalf("setting is answered by %d %s", got.status, got.body)
	}
	s.Stop()
	s = servertest.Start(t, dir, configured)
	for _, tt := range []struct{ method, path, want string }{
		{"GET", "/v1/retention/orders", `{"messages":7,"source":"set"}`},
		{"GET", "/v1/retention/users", `{"age":"2d","source":"configuration"}`},
		{"DELETE", "/v1/retention/orders", `{"age":"2d","source":"configuration"}`},
		{"GET", "/v1/retention/orders", `{"age":"2d","source":"configuration"}`},
	} {
		if got := request(t, tt.method, s.URL+tt.path, nil); got.body != tt.want+"\n" {
			t.Errorf("%s %s is %s, want %s", tt.method, tt.path, got.body, tt.want)
		}
	}
	s.Stop()
	s = servertest.Start(t, dir)
	if got := request(t, "GET", s.URL+"/v1/retention/orders", nil); got.body != `{"source":"none"}`+"\n" {
		t.Errorf("what was reset is %s after a restart", got.body)
	}
}

// TestOperatorsRoutes (S20): with a listener of the operators' own, purging and
// setting retention are there only, and so is what one has to look at for it.
func TestOperatorsRoutes(t *testing.T) {
	s := servertest.Start(t, func(c *server.Config) { c.HTTP.Admin = "127.0.0.1:0" })
	if got := request(t, "POST", s.URL+"/v1/messages/a", withBody("text/plain", "x")); got.status != 201 {
		t.Fatalf("publishing is answered by %d %s", got.status, got.body)
	}
	rule := withBody("application/json", `{"messages":7}`)
	for _, tt := range []struct {
		method, path     string
		edit             func(*http.Request)
		client, operator int
	}{
		{"GET", "/v1/topics", nil, 200, 200},
		{"GET", "/v1/topics/a", nil, 200, 200},
		{"GET", "/v1/retention/a", nil, 200, 200},
		{"GET", "/v1/openapi.json", nil, 200, 200},
		{"GET", "/v1/messages/a", nil, 200, 404},
		{"POST", "/v1/messages/a", nil, 201, 404},
		{"PUT", "/v1/retention/a", rule, 405, 200},
		{"DELETE", "/v1/retention/a", nil, 405, 200},
		{"DELETE", "/v1/topics/a", nil, 405, 200},
	} {
		if got := request(t, tt.method, s.URL+tt.path, tt.edit); got.status != tt.client {
			t.Errorf("a client gets %d for %s %s, want %d", got.status, tt.method, tt.path, tt.client)
		}
		if got := request(t, tt.method, s.Admin+tt.path, tt.edit); got.status != tt.operator {
			t.Errorf("an operator gets %d %s for %s %s, want %d", got.status, got.body, tt.method, tt.path, tt.operator)
		}
	}
	if got := request(t, "DELETE", s.URL+"/v1/topics/a", nil); got.header.Get("Allow") != "GET, HEAD, OPTIONS" {
		t.Errorf("a client is told that there is %s", got.header.Get("Allow"))
	}
}

// TestRESTIsCounted: what comes over HTTP is counted once, like anything else.
func TestRESTIsCounted(t *testing.T) {
	s := servertest.Start(t)
	const at = "/v1/messages/a?id=1&producer=d1f5b6a09c3e4f7a8b2d0c6e5a4f3b21"
	if got := request(t, "POST", s.URL+at, withBody("text/plain", "one")); got.status != 201 {
		t.Errorf("the first is answered by %d %s", got.status, got.body)
	}
	if got := request(t, "POST", s.URL+at, withBody("text/plain", "one")); got.status != 200 {
		t.Errorf("the same again is answered by %d %s", got.status, got.body)
	}
	if got := request(t, "POST", s.URL+at, withBody("text/plain", "two")); got.status != 409 {
		t.Errorf("another with the same id is answered by %d %s", got.status, got.body)
	}
	got := scrape(t, s)
	for name, want := range map[string]float64{
		"parley_published_messages_total": 1, "parley_published_bytes_total": 3, "parley_duplicate_messages_total": 1,
		"parley_conflicting_messages_total": 1, "parley_refused_messages_total": 0, "parley_sessions": 0,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

// BenchmarkRESTPublish publishes bodies of 100 bytes over kept connections to a
// store on disk: messages per second is the figure.
//
//	go test ./server -run '^$' -bench RESTPublish -benchtime 5s
func BenchmarkRESTPublish(b *testing.B) {
	body := strings.Repeat("x", 100)
	lines := strings.Repeat(`{"topic":"/bench","text":"`+body+`"}`+"\n", 100)
	for _, tt := range []struct {
		name              string
		conns, messages   int
		path, contentType string
		body              string
	}{
		{"conns=1", 1, 1, "/v1/messages/bench", "text/plain", body},
		{"conns=16", 16, 1, "/v1/messages/bench", "text/plain", body},
		{"conns=64", 64, 1, "/v1/messages/bench", "text/plain", body},
		{"conns=1/batch=100", 1, 100, "/v1/messages", "application/x-ndjson", lines},
		{"conns=16/batch=100", 16, 100, "/v1/messages", "application/x-ndjson", lines},
	} {
		b.Run(tt.name, func(b *testing.B) {
			s := servertest.Start(b, servertest.Dir(b.TempDir()))
			c := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: tt.conns, MaxConnsPerHost: tt.conns}}
			defer c.CloseIdleConnections()
			requests := make(chan struct{})
			var running sync.WaitGroup
			fault := make(chan error, tt.conns)
			for range tt.conns {
				running.Go(func() {
					for range requests {
						if err := publishOnce(c, s.URL+tt.path, tt.contentType, tt.body); err != nil {
							fault <- err
							return
						}
					}
				})
			}
			b.ResetTimer()
			for range b.N {
				select {
				case requests <- struct{}{}:
				case err := <-fault:
					b.Fatal(err)
				}
			}
			close(requests)
			running.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N*tt.messages)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

func publishOnce(c *http.Client, url, contentType, body string) error {
	resp, err := c.Post(url, contentType, strings.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode > 201 {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}
