package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

func put(t *testing.T, s *servertest.Server, topic parley.Topic, id, body string) {
	t.Helper()
	c, err := client.Dial(t.Context(), s.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Publish(t.Context(), parley.Message{Topic: topic, ID: id, Body: []byte(body)}); err != nil {
		t.Fatal(err)
	}
}

// The answers before a stream begins, and the header of one that is whole.
func TestEventsAnswer(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	put(t, s, "/a/b", "1", "x")
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	const whole = "?after=0&replay_only=true"
	for _, tt := range []struct {
		method, path string
		edit         func(*http.Request)
		status       int
		detail       string // of a problem
	}{
		{"GET", "/a/b" + whole, nil, 200, ""},
		{"GET", "/a" + whole, nil, 200, ""},
		{"GET", "/%61/b" + whole, nil, 200, ""},
		{"GET", "/other" + whole, nil, 200, ""},
		{"HEAD", "/a/b", nil, 200, ""},
		{"HEAD", "/a/b?x=1", nil, 400, ""},
		{"GET", "/a/b" + whole, header("Accept", "*/*"), 200, ""},
		{"GET", "/a/b" + whole, header("Accept", "text/event-stream;q=0.5, application/json"), 200, ""},
		{"GET", "/a/b" + whole, header("Accept", "application/json, text/*"), 200, ""},
		{"GET", "/a/b" + whole, header("Accept", "application/json"), 406, "text/event-stream"},
		{"GET", "/a/b" + whole, header("Accept", "*/*, text/event-stream;q=0"), 406, "text/event-stream"},
		{"GET", "/a/b" + whole, header("Origin", "http://localhost:1"), 200, ""},
		{"GET", "/a/b" + whole, header("Origin", "https://evil.example"), 403, "origin"},
		{"HEAD", "/a/b" + whole, header("Origin", "https://evil.example"), 403, ""},
		{"GET", "/a/b", header("Last-Event-ID", "abc"), 400, "Last-Event-ID"},
		{"GET", "/a/b?replay_only=true", header("Last-Event-ID", "0"), 200, ""},
		{"GET", "/a/b?lost=1", nil, 400, "unknown parameter"},
		{"GET", "/", nil, 200, ""},
		{"GET", "/a%20b", nil, 400, "space"},
		{"GET", "/a%2F%2Fb", nil, 400, ""},
		{"GET", "/a/%2e%2e/b", nil, 400, "segment"},
		{"GET", "/a%00", nil, 400, "control"},
		{"GET", "/%ff", nil, 400, "UTF-8"},
		{"GET", "/$inbox/ann", nil, 403, "server's own"},
		{"POST", "/a/b", nil, 405, ""},
		{"DELETE", "/a/b", nil, 405, ""},
	} {
		path := "/v1/subscribe" + tt.path
		if tt.path == "/" {
			path += whole
		}
		got := request(t, tt.method, s.URL+path, tt.edit)
		if got.status != tt.status {
			t.Errorf("%s %s: status %d, want %d: %s", tt.method, tt.path, got.status, tt.status, got.body)
		}
		var problem struct {
			Status       int
			Kind, Detail string
		}
		switch {
		case tt.status == 200:
			if kind := got.header.Get("Content-Type"); kind != "text/event-stream" || got.header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s %s: %v", tt.method, tt.path, got.header)
			}
			if tt.method == "GET" && !strings.HasSuffix(got.body, "}\n\n") {
				t.Errorf("%s %s: %q", tt.method, tt.path, got.body)
			}
		case tt.detail != "":
			err := json.Unmarshal([]byte(got.body), &problem)
			if err != nil || problem.Status != tt.status || problem.Kind == "" || !strings.Contains(problem.Detail, tt.detail) || got.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s %s: %s, %v, want %q in it", tt.method, tt.path, got.body, err, tt.detail)
			}
		}
	}
	if got := request(t, "GET", s.URL+"/admin/metrics", nil); !regexp.MustCompile(`sessions_closed_total{reason="told"} [1-9]`).MatchString(got.body) {
		t.Error("the metrics count nobody who was told all")
	}
}

// A page of an origin that is admitted may send a Last-Event-ID by fetch.
func TestEventsPreflight(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	for origin, status := range map[string]int{"http://localhost:1": http.StatusNoContent, "https://evil.example": http.StatusForbidden} {
		got := request(t, http.MethodOptions, s.URL+"/v1/subscribe/a", func(r *http.Request) {
			r.Header.Set("Origin", origin)
			r.Header.Set("Access-Control-Request-Method", "GET")
			r.Header.Set("Access-Control-Request-Headers", "last-event-id")
		})
		headers, admitted := got.header.Get("Access-Control-Allow-Headers"), got.header.Get("Access-Control-Allow-Origin")
		if ok := status == http.StatusNoContent; got.status != status || strings.Contains(strings.ToLower(headers), "last-event-id") != ok || (admitted == origin) != ok {
			t.Errorf("%s: %d, %v", origin, got.status, got.header)
		}
	}
}

// A stopping server and one that is full say when to come back; a stream is
// refused like any connection.
func TestEventsRefusedWhenFull(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, func(c *server.Config) { c.HTTP.Connections = 1 })
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/v1/subscribe/a", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got := request(t, "GET", s.URL+"/v1/subscribe/a", nil); got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
		t.Errorf("one too many: %d, %v", got.status, got.header)
	}
}

// The transcript of docs/protocol/events.md is what happens, but for the numbers.
func TestEventsDocumentation(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/protocol/events.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(doc), "```http\n> GET ")
	block, _, _ = strings.Cut(block, "```")
	path, answer, found := strings.Cut(block, "\n\n")
	if !found {
		t.Fatal("there is no transcript")
	}
	number := regexp.MustCompile(`\d{4,}(-\d\d-\d\dT[0-9:.]+Z)?`)
	var want []string
	for line := range strings.Lines(answer) {
		want = append(want, number.ReplaceAllString(strings.TrimPrefix(strings.TrimSpace(strings.TrimPrefix(line, "<")), " "), "N"))
	}
	s := servertest.Start(t)
	put(t, s, "/hello", "1", "hi there")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	got := []string{response.Proto + " " + response.Status, "Content-Type: " + response.Header.Get("Content-Type"), ""}
	lines := bufio.NewReader(response.Body)
	for len(got) < len(want) {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, number.ReplaceAllString(strings.TrimSpace(line), "N")); line == "event: live\n" {
			put(t, s, "/hello", "2", "again")
		}
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("the server says\n%s\n\nthe documentation\n%s", g, w)
	}
}
