package server_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

func dial(t *testing.T, url string) *wire.WebSocket {
	t.Helper()
	c, err := wire.Dial(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(wire.CloseNormal, "") })
	return c
}

// eventually polls a condition for ten seconds at most.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		}
	}
}

// say sends a frame and returns the next ones as one text each.
func say(t *testing.T, c wire.Conn, text bool, command string) []string {
	t.Helper()
	if err := c.Write(c.AppendFrame(nil, text, []byte(command))); err != nil {
		t.Fatal(err)
	}
	return hear(t, c)
}

func hear(t *testing.T, c wire.Conn) []string {
	t.Helper()
	frames, err := c.Read()
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, f := range frames {
		texts = append(texts, string(f.Payload))
	}
	return texts
}

func TestBothProtocolsOverOneStore(t *testing.T) {
	s := servertest.Start(t)
	old := dial(t, s.Gobbler+"user/marvin")
	if got := hear(t, old); !strings.Contains(got[0], `"UserId": "marvin"`) {
		t.Errorf("the greeting is %q", got)
	}
	if got := say(t, old, false, "+ /hello"); got[0] != "#subscribed-to /hello" {
		t.Errorf("subscribing is answered by %q", got)
	}
	c, err := client.Dial(t.Context(), s.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	publish(t, c, "/hello", 1)
	if got := hear(t, old); !strings.HasPrefix(got[0], "/hello,") || !strings.HasSuffix(got[0], "\n\n0") {
		t.Errorf("the Gobbler client receives %q", got)
	}
	say(t, old, false, "> /hello\n\nback")
	for m, err := range c.Subscribe(t.Context(), "/hello", client.After(0), client.Max(2)) {
		if err != nil {
			t.Fatal(err)
		}
		if body := string(m.Body); body == "back" && m.Sender.User != "marvin" || body != "back" && body != "0" {
			t.Errorf("the native client receives %q from %q", body, m.Sender.User)
		}
	}
}

func TestBadUserIsRefused(t *testing.T) {
	s := servertest.Start(t)
	_, err := wire.Dial(t.Context(), s.Gobbler+"user/"+strings.Repeat("x", 300), nil)
	var status wire.StatusError
	if !errors.As(err, &status) || status != 400 {
		t.Errorf("a user id that is too long gives %v, want status 400", err)
	}
}

func TestStoreIsPrivateAndForOneServer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first := servertest.Start(t, servertest.Dir(dir))
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the store's directory is %v, %v; want mode 0700", info.Mode(), err)
	}
	cfg := server.Default()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Storage.Path = dir
	if _, err := server.New(cfg); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a second server says %v, want an error with the directory", err)
	}
	first.Stop()
	servertest.Start(t, servertest.Dir(dir))
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	cfg := server.Default()
	cfg.HTTP.Listen = l.Addr().String()
	cfg.Storage.Path = dir
	if _, err := server.New(cfg); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("New says %v, want that the address is in use", err)
	}
	servertest.Start(t, servertest.Dir(dir)) // the store was released
}

func TestWhatIsStoredSurvivesAStop(t *testing.T) {
	dir := t.TempDir()
	s := servertest.Start(t, servertest.Dir(dir))
	c, err := client.Dial(t.Context(), s.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	last := publish(t, c, "/kept", 20)
	c.Close()
	s.Stop()
	s = servertest.Start(t, servertest.Dir(dir))
	if c, err = client.Dial(t.Context(), s.URL, client.Options{}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tally, err := c.Count(t.Context(), client.HistoryQuery{Topic: "/kept"})
	if err != nil || tally.Count != 20 || tally.Last != last {
		t.Errorf("after a restart there is %+v, %v; want 20 up to %d", tally, err, last)
	}
}

// TestGoodbye stops a server with clients of both protocols: each gets an
// answer to what it has asked, then a goodbye and close code 1012.
func TestGoodbye(t *testing.T) {
	s := servertest.Start(t)
	old, rpc := dial(t, s.Gobbler), dial(t, s.RPC)
	hear(t, old)
	if got := say(t, rpc, true, `{"jsonrpc":"2.0","id":1,"method":"ping"}`); !strings.Contains(got[0], `"id":1`) {
		t.Fatalf("ping is answered by %q", got)
	}
	var stopping sync.WaitGroup
	stopping.Go(s.Stop)
	defer stopping.Wait()
	bye := hear(t, rpc)
	if !strings.Contains(bye[0], `"bye"`) || !strings.Contains(bye[0], `"shutdown"`) || !strings.Contains(bye[0], `"retry_ms":`) {
		t.Errorf("the goodbye is %q", bye)
	}
	for name, c := range map[string]wire.Conn{"native": rpc, "gobbler": old} {
		_, err := c.Read()
		closed, ok := errors.AsType[*wire.CloseError](err)
		if !ok || closed.Code != wire.CloseRestart {
			t.Errorf("%s ends with %v, want close code %d", name, err, wire.CloseRestart)
		}
	}
}

// TestStalledClientDoesNotHoldUpTheStop stops a server while a client does not
// read what is sent to it.
func TestStalledClientDoesNotHoldUpTheStop(t *testing.T) {
	s := servertest.Start(t, func(c *server.Config) { c.Drain = 2 * time.Second })
	stalled := dial(t, s.Gobbler)
	if err := stalled.Write(stalled.AppendFrame(nil, false, []byte("+ /big"))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the client is subscribed", func() bool { return scrape(t, s)["parley_subscriptions"] == 1 })
	c, err := client.Dial(t.Context(), s.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	body := bytes.Repeat([]byte("x"), 1<<20)
	for range 16 { // more than the sockets between them hold
		if _, err := c.Publish(t.Context(), parley.Message{Topic: "/big", Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	s.Stop()
	if d := time.Since(began); d > 4*time.Second {
		t.Errorf("stopping took %v with a deadline of 2 s", d)
	}
}

// silly is a codec that does not survive what it reads.
type silly struct{}

func (silly) Decode([]protocol.Request, wire.Frame) ([]protocol.Request, error) { panic("silly") }

func (silly) Encode(dst []byte, _ broker.Event) []byte { return dst }

func TestPanicCostsOneConnection(t *testing.T) {
	var log bytes.Buffer
	cfg := server.Default()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Storage.Kind = server.StorageMemory
	cfg.Logger = slog.New(slog.NewJSONHandler(&log, nil))
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	there, here := wire.Pipe()
	var talking sync.WaitGroup
	talking.Go(func() { s.Converse(t.Context(), protocol.Conversation{Conn: there, Codec: silly{}}) })
	if err := here.Write(here.AppendFrame(nil, true, []byte("x"))); err != nil {
		t.Fatal(err)
	}
	_, err = here.Read()
	talking.Wait()
	closed, ok := errors.AsType[*wire.CloseError](err)
	if !ok || closed.Code != wire.CloseInternal || strings.Contains(closed.Reason, "silly") {
		t.Errorf("the client is told %v, want close code %d and no details", err, wire.CloseInternal)
	}
	if s.Panics() != 1 || !strings.Contains(log.String(), `"panic":"silly"`) || !strings.Contains(log.String(), "Decode") {
		t.Errorf("%d panics are counted and the log is %s", s.Panics(), log.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Errorf("Run returned %v", err)
	}
}

// TestPanicCostsOneRequest (S9): the client learns that something broke and not
// what, and the place of a connection that was to be is given back.
func TestPanicCostsOneRequest(t *testing.T) {
	cfg := server.Default()
	cfg.HTTP.Listen, cfg.Storage.Kind, cfg.Logger = "127.0.0.1:0", server.StorageMemory, slog.New(slog.DiscardHandler)
	s := run(t, cfg)
	answer := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/", http.NoBody)
	s.Upgrade(t.Context(), func() { panic("silly") }).ServeHTTP(answer, r)
	if answer.Code != http.StatusInternalServerError || answer.Body.String() != "Internal Server Error\n" {
		t.Errorf("the client is told %d %q", answer.Code, answer.Body)
	}
	if s.Panics() != 1 || s.Connections() != 0 {
		t.Errorf("%d panics are counted, and %d connections are left", s.Panics(), s.Connections())
	}
}

func TestUnhealthyWhileNotReady(t *testing.T) {
	cfg := server.Default()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Storage.Kind = server.StorageMemory
	cfg.Logger = slog.New(slog.DiscardHandler)
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
	defer running.Wait()
	defer cancel()
	eventually(t, "the server is ready", func() bool {
		return request(t, "GET", s.URL()+"/admin/readycheck", nil).status == http.StatusOK
	})
	s.SetReady(false)
	for _, path := range []string{"/admin/readycheck", "/admin/healthcheck"} {
		got := request(t, "GET", s.URL()+path, nil)
		if got.status != http.StatusServiceUnavailable || got.body != `{"ready":"the server is starting or stopping"}`+"\n" {
			t.Errorf("%s is %d %q", path, got.status, got.body)
		}
	}
}

func TestGreeting(t *testing.T) {
	for name, tt := range map[string]struct {
		edit func(*server.Config)
		want []string
	}{
		"as it comes": {func(*server.Config) {}, []string{"kept for ever", "no authentication", "in memory"}},
		"open":        {func(c *server.Config) { c.HTTP.OpenToNetwork = true }, []string{"NO AUTHENTICATION"}},
		"rules": {
			func(c *server.Config) { c.Retention = []server.Retention{{Stream: "a", Messages: 5}} },
			[]string{"a=messages:5; other topics are kept for ever"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := server.Default()
			cfg.HTTP.Listen = "127.0.0.1:0"
			cfg.Storage.Kind = server.StorageMemory
			cfg.Logger = slog.New(slog.DiscardHandler)
			tt.edit(&cfg)
			s, err := server.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			text := s.Greeting()
			first, _, _ := strings.Cut(text, "\n")
			tt.want = append(tt.want, "parley sub --server "+s.URL()+" /hello", `/hello "hi there"`, s.URL()+"/v1/docs")
			for _, part := range tt.want {
				if !strings.Contains(text, part) {
					t.Errorf("the greeting does not say %q:\n%s", part, text)
				}
			}
			if !strings.Contains(first, "listening on http://127.0.0.1:") {
				t.Errorf("the first line is %q", first)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := s.Run(ctx); err != nil {
				t.Errorf("Run returned %v", err)
			}
		})
	}
}

func TestStepsAreUndoneInReverse(t *testing.T) {
	steps := []string{"store", "broker", "sessions", "listener"}
	for name, tt := range map[string]struct {
		takes map[string]time.Duration
		done  []string
		err   string
	}{
		"all in time": {map[string]time.Duration{"sessions": 5 * time.Second}, []string{"listener", "sessions", "broker", "store"}, ""},
		"one fails and the others go on": {
			map[string]time.Duration{"sessions": server.Fails},
			[]string{"listener", "sessions", "broker", "store"},
			"sessions: broken",
		},
		"nothing is pulled away from under what is stuck": {
			map[string]time.Duration{"broker": time.Hour}, []string{"listener", "sessions"}, "broker: context deadline exceeded",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				done, err := server.Unwind(10*time.Second, steps, tt.takes)
				if !slices.Equal(done, tt.done) {
					t.Errorf("done are %v, want %v", done, tt.done)
				}
				if err == nil && tt.err != "" || err != nil && err.Error() != tt.err {
					t.Errorf("error is %v, want %q", err, tt.err)
				}
			})
		})
	}
}

func TestDisk(t *testing.T) {
	const gib = 1 << 30
	for _, tt := range []struct {
		space pebble.Space
		low   bool
	}{
		{pebble.Space{Free: 100 * gib, Total: 1000 * gib, Reserve: gib}, false},
		{pebble.Space{Free: 9 * gib, Total: 1000 * gib, Reserve: gib}, true}, // a large disk need not have a share free
		{pebble.Space{Free: gib, Total: 10 * gib, Reserve: gib / 8}, false},
		{pebble.Space{Free: gib / 3, Total: 10 * gib, Reserve: gib / 8}, true},
		{pebble.Space{Free: 3 * gib, Total: 10 * gib, Reserve: 2 * gib}, true}, // soon, by what the operator set
	} {
		if low := server.DiskLow(tt.space); low != tt.low {
			t.Errorf("%+v: low is %v", tt.space, low)
		}
		if err := server.DiskFull(tt.space); err != nil {
			t.Errorf("%+v: %v", tt.space, err)
		}
	}
	err := server.DiskFull(pebble.Space{Free: 100 << 20, Total: 10 * gib, Reserve: 128 << 20, Full: true})
	if want := "100MiB free of 10GiB, and nothing is stored below 128MiB"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestChecksRunOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		check := server.OnceASecond(func(context.Context) error {
			runs++
			return errors.New("broken")
		})
		for range 5 {
			if check(t.Context()) == nil {
				t.Error("the answer was not repeated")
			}
		}
		<-time.After(time.Second)
		_ = check(t.Context())
		if runs != 2 {
			t.Errorf("the check ran %d times, want 2", runs)
		}
	})
}
