package server_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// logbook is a log that is read while it is written.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// take returns what was written, and forgets it.
func (l *logbook) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

// reloading is a server of a configuration file, and its log.
type reloading struct {
	*servertest.Server
	it   *server.Server
	book *logbook
	file string
}

// always begins every configuration file.
const always = "http: 127.0.0.1:0\nms: memory\nlog-format: text\n"

func startReloading(t *testing.T, lines string) *reloading {
	t.Helper()
	r := &reloading{book: new(logbook), file: file(t, always+lines)}
	cfg, err := server.Load(server.Sources{File: r.file})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Log.Var = new(slog.LevelVar)
	cfg.Logger = cfg.Log.Logger(r.book, false)
	r.it = run(t, cfg)
	r.Server = &servertest.Server{URL: r.it.URL(), RPC: strings.Replace(r.it.URL(), "http", "ws", 1) + "/v1/rpc"}
	eventually(t, "the server is ready", func() bool { return request(t, http.MethodGet, r.URL+"/admin/readycheck", nil).status == http.StatusOK })
	r.book.take()
	return r
}

// reload changes the file, reloads it, and returns what is logged.
func (r *reloading) reload(t *testing.T, lines string) string {
	t.Helper()
	if err := os.WriteFile(r.file, []byte(always+lines), 0o600); err != nil {
		t.Fatal(err)
	}
	r.it.ReloadFrom(t.Context(), server.Sources{File: r.file})
	return r.book.take()
}

func TestReload(t *testing.T) {
	t.Parallel()
	s := startReloading(t, "log: info\nmax-connections: 1\n")
	first := dial(t, s.RPC)
	if _, err := wire.Dial(t.Context(), s.RPC, nil); err == nil {
		t.Error("a second connection was admitted")
	}

	log := s.reload(t, "log: debug\nmax-connections: 2\nretention: [\"a=messages:1\"]\nallow-origin: https://good.example\nwrite-timeout: 5s\ndrain-timeout: 3s\n")
	for _, part := range []string{
		"configuration reloaded", "log: debug", "max-connections: 2", "retention: a=messages:1",
		"allow-origin: https://good.example", "write-timeout: 5s", "drain-timeout: 3s",
	} {
		if !strings.Contains(log, part) {
			t.Errorf("the log does not say %q:\n%s", part, log)
		}
	}
	if strings.Contains(log, "next start") || strings.Contains(log, "ERROR") {
		t.Errorf("the log complains:\n%s", log)
	}
	writes, drain := s.it.Timeouts()
	for _, w := range writes {
		if w != 5*time.Second {
			t.Errorf("the write timeout is %v", w)
		}
	}
	if len(writes) < 2 || drain != 3*time.Second {
		t.Errorf("%d dialects, and stopping may take %v", len(writes), drain)
	}
	page := http.Header{"Origin": {"https://good.example"}}
	second, err := wire.Dial(t.Context(), s.RPC, page)
	if err != nil {
		t.Fatalf("with the new limit and the new origin: %v", err)
	}
	defer func() { _ = second.Close(wire.CloseNormal, "") }()

	if log := s.reload(t, "log: debug\nmax-connections: 2\n"); !strings.Contains(log, "allow-origin: ") {
		t.Errorf("the log does not say what was taken away:\n%s", log)
	}
	_ = second.Close(wire.CloseNormal, "")
	eventually(t, "one has left", func() bool { return scrape(t, s.Server)["parley_connections{protocol=\"native\"}"] == 1 })
	var status wire.StatusError
	if _, err := wire.Dial(t.Context(), s.RPC, page); !errors.As(err, &status) || status != http.StatusForbidden {
		t.Errorf("an origin that is not allowed any more gets %v, want 403", err)
	}
	if log := s.reload(t, "log: error\nmax-connections: 3\n"); log != "" {
		t.Errorf("with level error the log still says\n%s", log)
	}
	if got := say(t, first, true, `{"jsonrpc":"2.0","id":1,"method":"ping"}`); !strings.Contains(got[0], `"id":1`) {
		t.Errorf("the first connection did not survive: %q", got)
	}
}

// TestReloadChangesRetention: the rules of the new file are applied, those of the
// old are not.
func TestReloadChangesRetention(t *testing.T) {
	t.Parallel()
	cfg := server.Default()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Storage.Kind = server.StorageMemory
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.Retention = []server.Retention{{Stream: "a", Messages: 1}}
	s := run(t, cfg)
	c, err := client.Dial(t.Context(), s.URL(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	publish(t, c, "/a", 5)
	publish(t, c, "/b", 5)
	cfg.Retention = []server.Retention{{Stream: "b", Messages: 2}}
	changes, err := s.Reload(cfg)
	if err != nil || !slices.Equal(changes.Applied, []string{"retention: b=messages:2"}) || changes.Pending != nil {
		t.Errorf("Reload says %+v, %v", changes, err)
	}
	if err := s.Retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[parley.Topic]int{"/a": 5, "/b": 2} {
		if tally, err := c.Count(t.Context(), client.HistoryQuery{Topic: topic}); err != nil || tally.Count != want {
			t.Errorf("%s has %+v, %v; want %d", topic, tally, err, want)
		}
	}
}

func TestReloadKeepsTheOldWhenTheNewIsWrong(t *testing.T) {
	t.Parallel()
	s := startReloading(t, "log: info\nmax-connections: 1\n")
	dial(t, s.RPC)
	log := s.reload(t, "log: loud\nmax-connections: 2\nretention: [x]\n")
	for _, part := range []string{"line 4 log", "line 6 retention", "the old one stays"} {
		if !strings.Contains(log, part) {
			t.Errorf("the log does not say %q:\n%s", part, log)
		}
	}
	if strings.Count(log, "a fault in the configuration") != 2 || strings.Contains(log, "configuration reloaded") {
		t.Errorf("the log is\n%s", log)
	}
	if _, err := wire.Dial(t.Context(), s.RPC, nil); err == nil {
		t.Error("a limit was taken from a file that is wrong")
	}
}

func TestReloadNamesWhatNeedsARestart(t *testing.T) {
	t.Parallel()
	s := startReloading(t, "log: info\n")
	log := s.reload(t, "log: info\nhealth-endpoint: /health\ntail: 2MiB\nmax-connections-per-ip: 7\n")
	changed, pending, _ := strings.Cut(log, "next start")
	for _, part := range []string{"health-endpoint: /health", "tail: 2MiB"} {
		if strings.Contains(changed, part) || !strings.Contains(pending, part) {
			t.Errorf("%q is not among what needs a restart:\n%s", part, log)
		}
	}
	if !strings.Contains(changed, "max-connections-per-ip: 7") {
		t.Errorf("the limit did not change:\n%s", log)
	}
	if got := request(t, http.MethodGet, s.URL+"/admin/healthcheck", nil).status; got != http.StatusOK {
		t.Errorf("the health check answers %d", got)
	}
	if log := s.reload(t, "log: info\nhealth-endpoint: /health\ntail: 2MiB\nmax-connections-per-ip: 7\n"); !strings.Contains(log, "changed=[]") || !strings.Contains(log, "next start") {
		t.Errorf("a second reload says\n%s", log)
	}
}

// TestReloadUnderLoad reloads again and again, right and wrong, while clients
// publish and subscribe, over WebSocket and over HTTP: no connection drops, nothing
// is lost.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	s := startReloading(t, "log: error\n")
	const clients, messages = 4, 200
	var busy sync.WaitGroup
	finished := make(chan struct{})
	for i := range clients {
		busy.Go(func() {
			c, err := client.Dial(t.Context(), s.URL, client.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			topic := parley.Topic(fmt.Sprintf("/load/%d", i))
			publish(t, c, topic, messages)
			if tally, err := c.Count(t.Context(), client.HistoryQuery{Topic: topic}); err != nil || tally.Count != messages {
				t.Errorf("%s has %+v, %v", topic, tally, err)
			}
		})
	}
	for i := range clients {
		busy.Go(func() {
			topic := fmt.Sprintf("/http/%d", i)
			for n := range messages {
				if err := publishOnce(http.DefaultClient, s.URL+"/v1/messages"+topic, "text/plain", "x"); err != nil {
					t.Error(err)
				}
				if n%20 != 19 {
					continue
				}
				got := request(t, "GET", s.URL+"/v1/subscribe"+topic+"?after=0&replay_only=true", nil)
				if got.status != http.StatusOK || strings.Count(got.body, "\ndata: {\"topic\":") != n+1 {
					t.Errorf("a stream after %d messages is %d %.300s", n+1, got.status, got.body)
				}
			}
		})
	}
	steady := dial(t, s.RPC)
	var waiting sync.WaitGroup
	waiting.Go(func() { busy.Wait(); close(finished) })
	defer waiting.Wait()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-finished:
			if got := say(t, steady, true, `{"jsonrpc":"2.0","id":1,"method":"ping"}`); !strings.Contains(got[0], `"id":1`) {
				t.Errorf("ping is answered by %q", got)
			}
			if n := scrape(t, s.Server)["parley_sessions_closed_total{reason=\"lost\"}"]; n != 0 {
				t.Errorf("%v connections were lost", n)
			}
			return
		case <-tick.C:
			s.reload(t, []string{"log: error\nmax-connections: 5000\nallow-origin: https://a.example\n", "log: error\nwrite-timeout: 9s\n", "log: what\n"}[n%3])
		}
	}
}

// TestReloadOfTheCertificate: SIGHUP reads its files too, and when they are
// wrong nothing else changes either.
func TestReloadOfTheCertificate(t *testing.T) {
	t.Parallel()
	cfg := secured(t)
	s := run(t, cfg)
	if err := os.WriteFile(cfg.HTTP.TLS.Cert, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Drain = 7 * time.Second
	if changes, err := s.Reload(cfg); !errors.Is(err, parley.ErrInvalid) || changes.Applied != nil {
		t.Errorf("with a certificate that is none: %+v, %v", changes, err)
	}
	writeCertificate(t, cfg.HTTP.TLS, 2)
	if changes, err := s.Reload(cfg); err != nil || !slices.Equal(changes.Applied, []string{"drain-timeout: 7s"}) {
		t.Errorf("with a new certificate: %+v, %v", changes, err)
	}
	state, err := handshake(s, &tls.Config{})
	if err != nil || state.PeerCertificates[0].SerialNumber.Int64() != 2 {
		t.Errorf("a new connection gets %v, %v", state.PeerCertificates, err)
	}
}

// TestReloadChangesWhoMayConnect: what asks the policy later gets the new one.
func TestReloadChangesWhoMayConnect(t *testing.T) {
	t.Parallel()
	cfg := server.Default()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Storage.Kind = server.StorageMemory
	cfg.Logger = slog.New(slog.DiscardHandler)
	s := run(t, cfg)
	admit := s.Admit
	page, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	page.Header.Set("Origin", "https://good.example")
	for _, origins := range [][]string{nil, {"https://good.example"}, {"https://other.example"}} {
		cfg.HTTP.Origins = origins
		cfg.HTTP.OpenToNetwork = true // needs a restart
		if _, err := s.Reload(cfg); err != nil {
			t.Fatal(err)
		}
		page.Host = "127.0.0.1"
		good := slices.Contains(origins, "https://good.example")
		if err := admit(page); (err == nil) != good {
			t.Errorf("with %v a page of good.example gets %v", origins, err)
		}
		page.Host = "evil.example"
		if admit(page) == nil {
			t.Error("a reload opened the server to the network")
		}
	}
}

// TestInboxRetention: an inbox keeps what the setting says, and from a reload on
// what the new one says.
func TestInboxRetention(t *testing.T) {
	t.Parallel()
	cfg := server.Default()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Storage.Kind = server.StorageMemory
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.Inboxes = server.Bounds{Age: time.Hour, Messages: 3}
	cfg.Access.Required = true
	s := run(t, cfg)
	eventually(t, "the server is ready", func() bool {
		return request(t, http.MethodGet, s.URL()+"/admin/readycheck", nil).status == http.StatusOK
	})
	if got := request(t, http.MethodPost, s.URL()+"/v1/users", withBody("application/json", `{"user":"ann","grants":["send:/$inbox/*"]}`)); got.status != http.StatusCreated {
		t.Fatalf("a user is answered by %d %s", got.status, got.body)
	}
	token := member(t, request(t, http.MethodPost, s.URL()+"/v1/users/ann/tokens", withBody("application/json", `{"ttl":"1h"}`)).body, "token")
	overflow := func(keeps int) {
		t.Helper()
		for range 6 {
			if got := request(t, http.MethodPost, s.URL()+"/v1/send", bearing(token, `{"to":"ann","text":"hi"}`)); got.status != http.StatusCreated {
				t.Fatalf("sending is answered by %d %s", got.status, got.body)
			}
		}
		eventually(t, "the inbox is trimmed", func() bool {
			return strings.Count(request(t, http.MethodGet, s.URL()+"/v1/inbox", bearing(token, "")).body, `"seq":`) == keeps
		})
	}
	overflow(3)
	cfg.Inboxes = server.Bounds{Messages: 5}
	cfg.DeadLetters = server.Bounds{Age: time.Hour}
	changes, err := s.Reload(cfg)
	if err != nil || !slices.Equal(changes.Applied, []string{"inbox-retention: messages:5", "dead-letter-retention: age:1h"}) || changes.Pending != nil {
		t.Errorf("Reload says %+v, %v", changes, err)
	}
	overflow(5)
}
