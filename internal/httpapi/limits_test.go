package httpapi_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/httpapi"
)

// serving starts a broker over a store in memory, and an API over them with room
// for 32 KiB of bodies that are on their way, whose requests may take as long as
// patience.
func serving(t *testing.T, patience time.Duration, cfg broker.Config) *httptest.Server {
	t.Helper()
	db, err := pebble.Open("store", pebble.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Log, cfg.KV = db, db
	b := broker.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = b.Run(ctx) })
	mux := http.NewServeMux()
	api := httpapi.New(httpapi.Config{
		Log: db, Broker: b, Logger: slog.New(slog.DiscardHandler),
		Admit: func(*http.Request) error { return nil }, Version: "0", Arriving: broker.NewRoom(32 << 10), AnswerBytes: 32 << 10,
	})
	api.Register(mux)
	s := httptest.NewUnstartedServer(mux)
	s.Config.ReadTimeout = patience
	s.Start()
	t.Cleanup(func() {
		s.Close()
		cancel()
		running.Wait()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// begin sends the beginning of a request, and leaves it at that.
func begin(t *testing.T, s *httptest.Server, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

func publishHead(length int) string {
	return fmt.Sprintf("POST /v1/messages/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", length)
}

func post(t *testing.T, s *httptest.Server, body string) (int, string) {
	t.Helper()
	resp, err := http.Post(s.URL+"/v1/messages/a", "text/plain", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

// TestUnfinishedBodiesAreBounded (S7, R9): bodies that never come to an end leave
// room for small ones, and are refused when they take too much together.
func TestUnfinishedBodiesAreBounded(t *testing.T) {
	s := serving(t, 0, broker.Config{})
	const large = 16 << 10
	refused := func() bool {
		status, text := post(t, s, strings.Repeat("x", large))
		return status == http.StatusServiceUnavailable && strings.Contains(text, `"code":"overloaded"`)
	}
	for deadline := time.Now().Add(10 * time.Second); !refused(); {
		if time.Now().After(deadline) {
			t.Fatal("a large body is never refused")
		}
		begin(t, s, publishHead(1<<20)+strings.Repeat("x", large))
	}
	if status, text := post(t, s, "small"); status != http.StatusCreated {
		t.Errorf("a small body is answered by %d %s", status, text)
	}
}

// TestAnswersAreBounded (S7, R9): answers that nobody takes leave room for small
// ones, and large ones are refused when they take too much together.
func TestAnswersAreBounded(t *testing.T) {
	const large = 8 << 20 // more than sockets hold
	s := serving(t, 0, broker.Config{Limits: broker.Limits{MessageBytes: large}})
	if status, text := post(t, s, "small"); status != http.StatusCreated {
		t.Fatalf("a publish is answered by %d %s", status, text)
	}
	if status, text := post(t, s, strings.Repeat("x", large)); status != http.StatusCreated { // more than the bound, but alone
		t.Fatalf("a large publish is answered by %d %s", status, text)
	}
	get := func(target string) (int, string) {
		resp, err := http.Get(s.URL + target)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text)
	}
	within := time.Now().Add(10 * time.Second)
	for _, target := range []string{"/v1/messages/a", "/v1/body/a"} {
		var stalled []net.Conn
		for status, text := get(target); status != http.StatusServiceUnavailable; status, text = get(target) {
			if status != http.StatusOK || len(text) < large || time.Now().After(within) {
				t.Fatalf("%s is answered by %d with %d bytes", target, status, len(text))
			}
			c := begin(t, s, "")
			_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
			if _, err := io.WriteString(c, "GET "+target+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			stalled = append(stalled, c)
		}
		if status, text := get("/v1/messages/a?limit=1"); status != http.StatusOK {
			t.Errorf("a small page is answered by %d %s", status, text)
		}
		for _, c := range stalled {
			_ = c.Close()
		}
		for status, text := get(target); status != http.StatusOK; status, text = get(target) {
			if time.Now().After(within) {
				t.Fatalf("%s is refused for ever: %d %s", target, status, text)
			}
		}
	}
}

// TestSlowBody (S10): who does not go on is told, and cut off.
func TestSlowBody(t *testing.T) {
	s := serving(t, 100*time.Millisecond, broker.Config{})
	c := begin(t, s, publishHead(100)+"x")
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestTimeout || !resp.Close {
		t.Errorf("half a body is answered by %d, and the connection goes on: %v", resp.StatusCode, !resp.Close)
	}
}

// TestLimitsAreTheBrokers: what a session would be refused for, a request is.
func TestLimitsAreTheBrokers(t *testing.T) {
	s := serving(t, 0, broker.Config{Limits: broker.Limits{MessageBytes: 10, BatchMessages: 2, HistoryMessages: 2}})
	if status, text := post(t, s, strings.Repeat("x", 11)); status != 413 || !strings.Contains(text, `"code":"too_large"`) {
		t.Errorf("a large body is answered by %d %s", status, text)
	}
	if status, text := post(t, s, strings.Repeat("x", 10)); status != 201 {
		t.Errorf("the largest body is answered by %d %s", status, text)
	}
	for body, want := range map[string]int{
		`{"topic":"/a","text":"12345678901"}`:                                              400,
		`{"messages":[{"topic":"/a"},{"topic":"/a"}]}`:                                     200,
		`{"messages":[{"topic":"/a"},{"topic":"/a"},{"topic":"/a"}]}`:                      400,
		`{"messages":[{"topic":"/a"},{"topic":"/a","text":"` + "\u00e9" + `1234567890"}]}`: 400,
	} {
		resp, err := http.Post(s.URL+"/v1/messages", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s is answered by %d, want %d", body, resp.StatusCode, want)
		}
	}
	for path, want := range map[string]int{"?limit=2": 200, "?limit=3": 400, "?last=3": 400} {
		resp, err := http.Get(s.URL + "/v1/messages/a" + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s is answered by %d, want %d", path, resp.StatusCode, want)
		}
	}
}
