package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// post makes a POST request with a body.
func post(t *testing.T, url, body string, edit func(*http.Request)) answer {
	t.Helper()
	return request(t, http.MethodPost, url, func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		if edit != nil {
			edit(r)
		}
	})
}

// speaker is a client of the Gobbler protocol, one frame at a time.
type speaker struct {
	t    *testing.T
	conn *wire.WebSocket
	due  []wire.Frame
}

// speak connects, offering subprotocols, and takes the first frame.
func speak(t *testing.T, url string, offer string) (s *speaker, hello, agreed string) {
	t.Helper()
	header := http.Header{}
	if offer != "" {
		header.Set("Sec-WebSocket-Protocol", offer)
	}
	conn, err := wire.Dial(t.Context(), url, header)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(wire.CloseNormal, "") })
	s = &speaker{t: t, conn: conn}
	return s, s.next(), conn.Subprotocol()
}

func (s *speaker) next() string {
	s.t.Helper()
	for len(s.due) == 0 {
		var err error
		if s.due, err = s.conn.Read(); err != nil {
			s.t.Fatal(err)
		}
	}
	f := s.due[0]
	s.due = s.due[1:]
	return string(f.Payload)
}

func (s *speaker) send(command string) {
	s.t.Helper()
	if err := s.conn.Write(s.conn.AppendFrame(nil, true, []byte(command))); err != nil {
		s.t.Fatal(err)
	}
}

// TestGobblerDialects shows what chooses the dialect: the setting, the prefix, the
// client, each stronger than the one before.
func TestGobblerDialects(t *testing.T) {
	plain := servertest.Start(t, func(c *server.Config) {
		c.HTTP.GobblerPrefixes = []server.GobblerPrefix{
			{Path: "/stream/"}, {Path: "/doc/", Dialect: server.GobblerDocumented}, {Path: "/doc/old/", Dialect: server.GobblerDeployed},
		}
	})
	turned := servertest.Start(t, func(c *server.Config) {
		c.HTTP.GobblerDialect = server.GobblerDocumented
		c.HTTP.GobblerPrefixes = append(c.HTTP.GobblerPrefixes, server.GobblerPrefix{Path: "/old/", Dialect: server.GobblerDeployed})
	})
	for _, tt := range []struct {
		s                                 *servertest.Server
		path, offer, wantAgreed, wantKind string
	}{
		{plain, "/stream/", "", "", "deployed"},
		{plain, "/doc/user/ann", "", "", "documented"},
		{plain, "/doc/old/", "", "", "deployed"},
		{plain, "/stream/", "gobbler.documented", "gobbler.documented", "documented"},
		{plain, "/stream/user/ann", "chat, gobbler.documented", "gobbler.documented", "documented"},
		{plain, "/doc/", "gobbler.deployed", "gobbler.deployed", "deployed"},
		{plain, "/doc/", "gobbler.deployed, gobbler.documented", "gobbler.deployed", "deployed"},
		{plain, "/stream/", "chat", "", "deployed"},
		{plain, "/doc/", "documented", "", "documented"},
		{turned, "/stream/", "", "", "documented"},
		{turned, "/old/", "", "", "deployed"},
		{turned, "/stream/", "gobbler.deployed", "gobbler.deployed", "deployed"},
	} {
		_, hello, agreed := speak(t, tt.s.URL+tt.path, tt.offer)
		kind := "deployed"
		if regexp.MustCompile(`"Time": "\d+"}$`).MatchString(hello) {
			kind = "documented"
		}
		if kind != tt.wantKind || agreed != tt.wantAgreed {
			t.Errorf("%s, offer %q: agreed to %q and speaks %s, want %q and %s", tt.path, tt.offer, agreed, kind, tt.wantAgreed, tt.wantKind)
		}
	}
}

// TestGobblerPublish publishes by the Gobbler server's HTTP and receives in both
// of its dialects and natively.
func TestGobblerPublish(t *testing.T) {
	s := servertest.Start(t)
	deployed, _, _ := speak(t, s.Gobbler+"user/ann", "")
	documented, _, _ := speak(t, s.Gobbler+"user/ann", "gobbler.documented")
	for _, speaker := range []*speaker{deployed, documented} {
		speaker.send("+ /foo")
		if got := speaker.next(); got != "#subscribed-to /foo" {
			t.Fatal(got)
		}
	}
	got := post(t, s.URL+"/api/message/foo/bar?userId=marvin&messageId=42&filterUserID=ann&filterDeviceToken=", "Hello", func(r *http.Request) {
		r.Header.Set("x-Gobbler-Key", "Value")
	})
	if got.status != http.StatusOK || got.body != "OK" {
		t.Fatalf("%d %q", got.status, got.body)
	}
	if got := post(t, s.URL+"/api/message/foo?userId=marvin&messageId=43", "for all", nil); got.body != "OK" {
		t.Fatalf("%d %q", got.status, got.body)
	}
	for _, tt := range []struct {
		s    *speaker
		want string
	}{
		{deployed, `^/foo/bar,\d+,marvin,[0-9a-v]{20},,,\d+,0` + "\n{\"Key\":\"Value\"}\nHello$"},
		{deployed, `^/foo,\d+,marvin,[0-9a-v]{20},,,\d+,0` + "\n{}\nfor all$"},
		{documented, `^/foo/bar,\d+,marvin,[0-9a-v]{20},42,\d+` + "\n{\"Key\":\"Value\"}\nHello$"},
		{documented, `^/foo,\d+,marvin,[0-9a-v]{20},43,\d+` + "\n{}\nfor all$"},
	} {
		if got := tt.s.next(); !regexp.MustCompile(tt.want).MatchString(got) {
			t.Errorf("got %q, want %s", got, tt.want)
		}
	}
	c, err := client.Dial(t.Context(), s.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// Somebody else does not see what is filtered.
	for m, err := range c.Subscribe(t.Context(), "/foo", client.After(0)) {
		if err != nil || string(m.Body) != "for all" || m.ID != "43" || m.Sender.User != "marvin" || m.Topic != "/foo" {
			t.Errorf("natively it is %+v, %v", m, err)
		}
		break
	}
	// HTTP lists who is subscribed.
	subscribers := request(t, http.MethodGet, s.URL+"/api/subscribers/foo", nil)
	if n := strings.Count(subscribers.body, `"user_id":"ann"`); n != 2 {
		t.Errorf("subscribers are %s", subscribers.body)
	}
}

// TestGobblerPaths shows that no redirect loses the body of a POST, and that a
// page of another site publishes nothing.
func TestGobblerPaths(t *testing.T) {
	s := servertest.Start(t)
	for path, want := range map[string]int{
		"/api/message/foo//bar": 400, "/api/message/foo/../zip": 400, "/api/message/foo/%2e%2e/zip": 400,
		"/api/message/": 404, "/api": 301, "/api/message/foo": 200, "/api/messagefoo": 404,
	} {
		if got := post(t, s.URL+path, "x", nil); got.status != want {
			t.Errorf("POST %s is %d %q, want %d", path, got.status, got.body, want)
		}
	}
	evil := func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }
	if got := post(t, s.URL+"/api/message/foo", "x", evil); got.status != http.StatusForbidden {
		t.Errorf("a page of another site: %d %q", got.status, got.body)
	}
	if got := request(t, http.MethodHead, s.URL+"/api/x", nil); got.status != 200 {
		t.Errorf("HEAD: %d", got.status)
	}
	for name, edit := range map[string]func(*http.Request){
		"": nil, "that is chunked": func(r *http.Request) { r.ContentLength = -1 },
	} {
		large := post(t, s.URL+"/api/message/foo", strings.Repeat("x", 4<<20), edit)
		if large.status != http.StatusRequestEntityTooLarge {
			t.Errorf("a body of 4 MiB %s: %d %q", name, large.status, large.body)
		}
	}
}

// TestOldMetrics (S14): the names that scripts for the Gobbler server read, and no
// secrets.
func TestOldMetrics(t *testing.T) {
	s := servertest.Start(t)
	p, _, _ := speak(t, s.Gobbler, "")
	p.send("+ /foo")
	p.next()
	post(t, s.URL+"/api/message/foo", "Hello", nil)
	got := request(t, http.MethodGet, s.URL+"/admin/metrics-old", nil)
	var metrics map[string]any
	if err := json.Unmarshal([]byte(got.body), &metrics); err != nil || got.status != http.StatusOK {
		t.Fatalf("%d %.100q: %v", got.status, got.body, err)
	}
	for name, want := range map[string]any{
		"router.current_routes": 1.0, "router.current_subscriptions": 1.0, "router.total_subscriptions": 1.0,
		"router.total_messages_incoming": 1.0, "router.total_messages_routed": 1.0, "router.total_messages_bytes_stored": 5.0,
		"router.total_errors_message_store": 0.0, "cmdline": nil,
	} {
		if metrics[name] != want {
			t.Errorf("%s is %v, want %v", name, metrics[name], want)
		}
	}
	if n, ok := metrics["num_goroutines"].(float64); !ok || n < 1 {
		t.Errorf("num_goroutines is %v", metrics["num_goroutines"])
	}
	if _, ok := metrics["memstats"].(map[string]any); !ok {
		t.Errorf("memstats is %v", metrics["memstats"])
	}
}

// TestGobblerOperators (S20): what is an operator's business is on their
// listener, and without one for this machine only; who is subscribed to a topic
// is for clients.
func TestGobblerOperators(t *testing.T) {
	separate := servertest.Start(t, func(c *server.Config) { c.HTTP.Admin = "127.0.0.1:0" })
	for path, want := range map[string][2]int{
		"/admin/router": {404, 200}, "/admin/metrics-old": {404, 200}, "/admin/toggles": {404, 200}, "/api/subscribers/foo": {200, 404},
	} {
		clients, operators := request(t, "GET", separate.URL+path, nil), request(t, "GET", separate.Admin+path, nil)
		if clients.status != want[0] || operators.status != want[1] {
			t.Errorf("%s: a client gets %d, an operator %d; want %v", path, clients.status, operators.status, want)
		}
	}
	shared := servertest.Start(t)
	proxied := func(r *http.Request) { r.Header.Set("X-Forwarded-For", "192.0.2.1") }
	for _, path := range []string{"/admin/router", "/admin/metrics-old", "/admin/toggles?sms=true"} {
		if got := request(t, "GET", shared.URL+path, proxied); got.status != http.StatusForbidden {
			t.Errorf("%s from elsewhere: %d", path, got.status)
		}
	}
	off := servertest.Start(t, func(c *server.Config) { c.HTTP.Metrics, c.HTTP.Toggles = "", "" })
	for _, path := range []string{"/admin/metrics-old", "/admin/toggles"} {
		if got := request(t, "GET", off.URL+path, nil); got.status != http.StatusNotFound {
			t.Errorf("%s, switched off: %d", path, got.status)
		}
	}
}

func TestToggles(t *testing.T) {
	cfg := server.Default()
	cfg.HTTP.Listen, cfg.HTTP.Admin, cfg.Storage.Kind = "127.0.0.1:0", "127.0.0.1:0", server.StorageMemory
	cfg.Logger = server.Log{}.Logger(t.Output(), false)
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var states []bool
	s.RegisterToggle("sms", func(_ context.Context, on bool) error { states = append(states, on); return nil })
	s.RegisterToggle("fcm", func(context.Context, bool) error { return errors.New("secret") })
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer running.Wait()
	defer cancel()
	from := func(key, value string) func(*http.Request) { return func(r *http.Request) { r.Header.Set(key, value) } }
	for _, tt := range []struct {
		method, query string
		edit          func(*http.Request)
		status        int
		body          string
	}{
		{"GET", "?sms=true", nil, 200, "sms was successfully started.\n"},
		{"POST", "?sms=F", nil, 200, "sms was successfully stopped.\n"},
		{"POST", "?sms=0", nil, 200, "sms was successfully stopped.\n"},
		{"POST", "?sms=1&fcm=true", nil, 200, "fcm could not be started.\nsms was successfully started.\n"},
		{"POST", "?fcm=false", nil, 200, "fcm could not be stopped.\n"},
		{"GET", "?apns=true&sms=perhaps", nil, 200, ""},
		{"GET", "?sms=true&sms=true", nil, 200, ""},
		{"GET", "", nil, 200, ""},
		{"PUT", "?sms=true", nil, 405, "Method Not Allowed\n"},
		{"GET", "?sms=true", from("X-Forwarded-For", "192.0.2.1"), 403, "only for this machine\n"},
		{"POST", "?sms=true", from("X-Forwarded-For", "192.0.2.1"), 200, "sms was successfully started.\n"}, // an operator's proxy
		{"GET", "?sms=true", from("Sec-Fetch-Site", "cross-site"), 403, ""},
		{"GET", "?sms=true", from("Origin", "http://evil.example"), 403, ""},
		{"POST", "?sms=true", from("Sec-Fetch-Site", "cross-site"), 403, ""},
	} {
		got := request(t, tt.method, s.AdminURL()+"/admin/toggles"+tt.query, tt.edit)
		if got.status != tt.status || tt.status == 200 && got.body != tt.body || tt.body != "" && got.body != tt.body {
			t.Errorf("%s %s: %d %q, want %d %q", tt.method, tt.query, got.status, got.body, tt.status, tt.body)
		}
	}
	want := []bool{true, false, false, true, true}
	if len(states) != len(want) {
		t.Fatalf("it was switched %v, want %v", states, want)
	}
	for i := range want {
		if states[i] != want[i] {
			t.Errorf("it was switched %v, want %v", states, want)
		}
	}
}

// TestNoToggles shows the answer that there always was while nothing can be
// switched.
func TestNoToggles(t *testing.T) {
	s := servertest.Start(t)
	if got := request(t, "GET", s.URL+"/admin/toggles?sms=true", nil); got.status != 200 || got.body != "" {
		t.Errorf("%d %q, want an empty 200", got.status, got.body)
	}
}
