package server_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"

	"github.com/parley-im/parley"
)

// answer is what a request was answered with.
type answer struct {
	status int
	header http.Header
	body   string
}

// request makes one HTTP request, without following redirects or keeping the
// connection.
func request(t *testing.T, method, url string, edit func(*http.Request)) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(r)
	}
	c := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

func TestRoutes(t *testing.T) {
	s := servertest.Start(t)
	for _, tt := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/stream", 301, ""},
		{"GET", "/stream/", 400, "Bad Request\n"},
		{"GET", "/stream/user/ann", 400, "Bad Request\n"},
		{"POST", "/stream/", 405, "Method Not Allowed\n"},
		{"GET", "/streamx", 404, "404 page not found\n"},
		{"GET", "/", 404, "404 page not found\n"},
		{"GET", "/v1/rpc", 400, "Bad Request\n"},
		{"POST", "/v1/rpc", 405, "Method Not Allowed\n"},
		{"GET", "/v1/rpc/", 404, ""},
		{"GET", "/admin/healthcheck", 200, "{}\n"},
		{"HEAD", "/admin/healthcheck", 200, ""},
		{"POST", "/admin/healthcheck", 405, "Method Not Allowed\n"},
		{"GET", "/admin/readycheck", 200, "{}\n"},
		{"HEAD", "/admin/readycheck", 200, ""},
		{"GET", "/v1/topics", 200, `{"topics":[],"more":false}` + "\n"},
		{"POST", "/v1/topics", 405, ""},
		{"GET", "/v1/", 404, ""},
		{"GET", "/admin/debug/pprof/cmdline", 404, "404 page not found\n"},
		{"GET", "/admin/metrics", 200, ""},
		{"GET", "/admin/metrics-old", 200, ""},
		{"GET", "/debug/vars", 200, ""},
		{"POST", "/admin/toggles", 200, ""},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			got := request(t, tt.method, s.URL+tt.path, nil)
			if got.status != tt.status {
				t.Errorf("status is %d, want %d", got.status, tt.status)
			}
			if got.header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("a browser may guess the type: %v", got.header)
			}
			if tt.body != "" && got.body != tt.body || tt.method == "HEAD" && got.body != "" {
				t.Errorf("body is %q, want %q", got.body, tt.body)
			}
		})
	}
	if got := request(t, "GET", s.URL+"/stream", nil); got.header.Get("Location") != "/stream/" {
		t.Errorf("Location is %q", got.header.Get("Location"))
	}
	if got := request(t, "GET", s.URL+"/admin/debug/pprof/goroutine?debug=1", nil); got.status != 200 || !strings.Contains(got.body, "goroutine profile") {
		t.Errorf("the goroutine profile is %d %.100q", got.status, got.body)
	}
}

// TestBrowsersFindTheDocumentation: who opens the server's address in a browser is
// led to the page; programs are not.
func TestBrowsersFindTheDocumentation(t *testing.T) {
	browser := func(r *http.Request) { r.Header.Set("Accept", "text/html,application/xhtml+xml,*/*;q=0.8") }
	curl := func(r *http.Request) { r.Header.Set("Accept", "*/*") }
	s := servertest.Start(t, func(c *server.Config) { c.HTTP.Admin = "127.0.0.1:0" })
	for name, tt := range map[string]struct {
		method, url string
		edit        func(*http.Request)
		status      int
	}{
		"browser":            {"GET", s.URL + "/", browser, 303},
		"operator's browser": {"GET", s.Admin + "/", browser, 303},
		"curl":               {"GET", s.URL + "/", curl, 404},
		"form":               {"POST", s.URL + "/", browser, 404},
		"elsewhere":          {"GET", s.URL + "/index.html", browser, 404},
	} {
		got := request(t, tt.method, tt.url, tt.edit)
		if got.status != tt.status || tt.status == 303 && got.header.Get("Location") != "/v1/docs" {
			t.Errorf("%s: %d to %q, want %d", name, got.status, got.header.Get("Location"), tt.status)
		}
	}
	if got := request(t, "GET", s.URL+"/v1/docs", browser); got.status != 200 || !strings.HasPrefix(got.header.Get("Content-Type"), "text/html") {
		t.Errorf("the page is %d %v", got.status, got.header)
	}
}

func TestEndpointsCanBeSwitchedOff(t *testing.T) {
	s := servertest.Start(t, func(c *server.Config) {
		c.HTTP.Health, c.HTTP.Prometheus = "", ""
		c.HTTP.GobblerPrefixes = []server.GobblerPrefix{{Path: "/ws/"}}
	})
	for path, want := range map[string]int{"/admin/healthcheck": 404, "/admin/metrics": 404, "/stream/": 404, "/ws/": 400} {
		if got := request(t, "GET", s.URL+path, nil); got.status != want {
			t.Errorf("GET %s is %d, want %d", path, got.status, want)
		}
	}
}

// TestOnlyThisMachine shows that neither a web page nor a proxy gets at an open
// server that is for this machine only.
func TestOnlyThisMachine(t *testing.T) {
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }
	header := func(k, v string) func(*http.Request) { return func(r *http.Request) { r.Header.Set(k, v) } }
	loopback := servertest.Start(t)
	open := servertest.Start(t, func(c *server.Config) { c.HTTP.OpenToNetwork = true })
	for name, tt := range map[string]struct {
		s            *servertest.Server
		method, path string
		edit         func(*http.Request)
		want         int
	}{
		"rebound name":                  {loopback, "GET", "/admin/healthcheck", host("evil.example"), 403},
		"rebound name, with port":       {loopback, "GET", "/v1/rpc", host("evil.example:8080"), 403},
		"localhost":                     {loopback, "GET", "/admin/healthcheck", host("localhost:8080"), 200},
		"any name when open":            {open, "GET", "/admin/healthcheck", host("parley.example"), 200},
		"page purges":                   {loopback, "DELETE", "/v1/topics/a", header("Origin", "http://evil.example"), 403},
		"page of another site purges":   {loopback, "DELETE", "/v1/topics/a", header("Sec-Fetch-Site", "cross-site"), 403},
		"program purges":                {loopback, "DELETE", "/v1/topics/a", nil, 404},
		"topics behind a proxy":         {open, "GET", "/v1/topics", header("X-Forwarded-For", "192.0.2.1"), 200},
		"purging behind a proxy":        {open, "DELETE", "/v1/topics/a", header("X-Forwarded-For", "192.0.2.1"), 403},
		"retention behind a proxy":      {open, "PUT", "/v1/retention/a", header("Via", "1.1 nginx"), 403},
		"page of this machine purges":   {loopback, "DELETE", "/v1/topics/a", header("Origin", "http://localhost:3000"), 403},
		"profiles behind a proxy":       {open, "GET", "/admin/debug/pprof/heap", header("Forwarded", "for=192.0.2.1"), 403},
		"an empty header in front":      {open, "GET", "/admin/metrics", func(r *http.Request) { r.Header["X-Forwarded-For"] = []string{"", "192.0.2.1"} }, 403},
		"a proxy that names the client": {open, "GET", "/debug/vars", header("X-Real-IP", "192.0.2.1"), 403},
		"a proxy that names its scheme": {open, "GET", "/admin/router", header("X-Forwarded-Proto", "https"), 403},
		"a proxy of a service":          {open, "GET", "/admin/metrics", header("CF-Connecting-IP", "192.0.2.1"), 403},
		"operator by a rebound name":    {open, "GET", "/admin/metrics", host("evil.example"), 403},
		"purging by a rebound name":     {open, "DELETE", "/v1/topics/a", host("evil.example:8080"), 403},
		"operator by another address":   {open, "GET", "/admin/metrics", host("192.0.2.1:8080"), 403},
		"operator by this machine's":    {open, "GET", "/admin/metrics", host("[::1]:8080"), 200},
		"health behind a proxy":         {open, "GET", "/admin/healthcheck", header("X-Forwarded-For", "192.0.2.1"), 200},
		"metrics behind a proxy":        {open, "GET", "/admin/metrics", header("X-Forwarded-For", "192.0.2.1"), 403},
		"header larger than the bounds": {open, "GET", "/", header("X", strings.Repeat("x", 80<<10)), 431},
	} {
		t.Run(name, func(t *testing.T) {
			if got := request(t, tt.method, tt.s.URL+tt.path, tt.edit); got.status != tt.want {
				t.Errorf("%s %s is %d %q, want %d", tt.method, tt.path, got.status, got.body, tt.want)
			}
		})
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	for name, tt := range map[string]struct {
		limit func(*server.Config)
		want  int
	}{
		"in all":      {func(c *server.Config) { c.HTTP.Connections = 2 }, 503},
		"per address": {func(c *server.Config) { c.HTTP.PerAddress = 2 }, 429},
	} {
		t.Run(name, func(t *testing.T) {
			s := servertest.Start(t, tt.limit)
			first := dial(t, s.RPC)
			dial(t, s.RPC)
			upgrade := func(r *http.Request) {
				r.Header.Set("Connection", "Upgrade")
				r.Header.Set("Upgrade", "websocket")
				r.Header.Set("Sec-WebSocket-Version", "13")
				r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
			}
			got := request(t, "GET", s.URL+"/v1/rpc", upgrade)
			after, err := strconv.Atoi(got.header.Get("Retry-After"))
			if got.status != tt.want || err != nil || after < 1 || after > 6 {
				t.Errorf("one too many gets %d, Retry-After %q; want %d and 1 to 6", got.status, got.header.Get("Retry-After"), tt.want)
			}
			if got := request(t, "GET", s.URL+"/admin/healthcheck", nil); got.status != 200 {
				t.Errorf("health is %d while full, want 200", got.status)
			}
			_ = first.Close(wire.CloseNormal, "")
			eventually(t, "there is room again", func() bool {
				c, err := wire.Dial(t.Context(), s.RPC, nil)
				if err == nil {
					_ = c.Close(wire.CloseNormal, "")
				}
				return err == nil
			})
		})
	}
}

func TestTopicsTellAndPurge(t *testing.T) {
	s := servertest.Start(t)
	c, err := client.Dial(t.Context(), s.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	publish(t, c, "/orders", 3)
	publish(t, c, "/orders/eu", 2)
	publish(t, c, "/users", 1)
	get := func(method, path string, status int) (v struct {
		Topics      []struct{ Topic, Count any }
		More        bool
		Topic       string
		Kind        string
		Count       int
		First, Last parley.Seq
		Floor       parley.Seq
	},
	) {
		t.Helper()
		got := request(t, method, s.URL+path, nil)
		if got.status != status {
			t.Fatalf("%s %s is %d %s, want %d", method, path, got.status, got.body, status)
		}
		if err := json.Unmarshal([]byte(got.body), &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	if v := get("GET", "/v1/topics?limit=1", 200); len(v.Topics) != 1 || v.Topics[0].Topic != "/orders" || v.Topics[0].Count != 5.0 || !v.More {
		t.Errorf("first page is %+v", v)
	}
	if v := get("GET", "/v1/topics?limit=1&after=/orders", 200); len(v.Topics) != 1 || v.Topics[0].Topic != "/users" || v.More {
		t.Errorf("second page is %+v", v)
	}
	if v := get("GET", "/v1/topics?prefix=/u", 200); len(v.Topics) != 1 || v.Topics[0].Topic != "/users" {
		t.Errorf("topics that begin with /u are %+v", v)
	}
	eu := get("GET", "/v1/topics/orders/eu", 200)
	if eu.Count != 2 || eu.First == 0 || eu.Last <= eu.First || eu.Floor != 0 {
		t.Errorf("/orders/eu is %+v", eu)
	}
	for path, want := range map[string]struct {
		method string
		status int
		kind   string
	}{
		"/v1/topics/nothing":   {"GET", 404, "not_found"},
		"/v1/topics?limit=0":   {"GET", 400, "invalid"},
		"/v1/topics/orders/eu": {"DELETE", 400, "invalid"},
		"/v1/topics/$inbox":    {"DELETE", 403, "forbidden"},
		"/v1/topics/a%20b":     {"GET", 400, "invalid"},
	} {
		if v := get(want.method, path, want.status); v.Kind != want.kind {
			t.Errorf("%s %s has the kind %q, want %q", want.method, path, v.Kind, want.kind)
		}
	}
	if v := get("DELETE", "/v1/topics/orders", 200); v.Count != 5 || v.Floor < eu.Last {
		t.Errorf("the purge says %+v", v)
	}
	if v := get("GET", "/v1/topics/orders", 200); v.Count != 0 || v.Floor < eu.Last {
		t.Errorf("after the purge there is %+v", v)
	}
	page, err := c.History(t.Context(), client.HistoryQuery{Topic: "/orders"})
	if err != nil || len(page.Messages) != 0 {
		t.Errorf("after the purge the history has %d messages, %v", len(page.Messages), err)
	}
}

func TestMetricsBalance(t *testing.T) {
	s := servertest.Start(t, servertest.Dir(t.TempDir()))
	c, err := client.Dial(t.Context(), s.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	publish(t, c, "/m", 10)
	m := parley.Message{Topic: "/m", ID: "again", Body: []byte("x")}
	for range 2 {
		if _, err := c.Publish(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for range c.Subscribe(t.Context(), "/m", client.After(0), client.Max(11)) {
		n++
	}
	got := scrape(t, s)
	for name, want := range map[string]float64{
		"parley_ready": 1, "parley_open_to_network": 0, "parley_panics_total": 0,
		"parley_published_messages_total": 11, "parley_duplicate_messages_total": 1, "parley_delivered_messages_total": 11,
		`parley_connections{protocol="native"}`: 1, `parley_connections{protocol="gobbler"}`: 0, "parley_sessions": 1,
		"parley_publish_queue_bytes": 0, "parley_publish_queue_limit_bytes": 64 << 20,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if n != 11 {
		t.Errorf("%d messages were delivered, want 11", n)
	}
	commits := got["parley_commit_duration_seconds_count"]
	if commits == 0 || commits != got["parley_commits_total"] || commits != got[`parley_commit_duration_seconds_bucket{le="+Inf"}`] {
		t.Errorf("commits are counted as %v, %v and %v", commits, got["parley_commits_total"], got[`parley_commit_duration_seconds_bucket{le="+Inf"}`])
	}
	for _, name := range []string{"parley_store_last_seq", "parley_store_disk_bytes", "parley_disk_free_bytes", "go_goroutines", "process_resident_memory_bytes"} {
		if got[name] <= 0 {
			t.Errorf("%s is %v, want more than 0", name, got[name])
		}
	}
}

// TestLagMetrics: the lag of a durable subscription is a metric, whatever its name.
func TestLagMetrics(t *testing.T) {
	s := servertest.Start(t)
	c, err := client.Dial(t.Context(), s.URL, client.Options{User: "billing"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	publish(t, c, "/orders", 3)
	for d, err := range c.Durable(t.Context(), "/orders", `a"b\`, client.After(0), client.Max(1)) {
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Ack(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	got := scrape(t, s)
	const name = `parley_durable_lag_messages{name="a\"b\\",owner="billing",topic="/orders"}`
	if got[name] != 2 || got["parley_durable_lags_omitted"] != 0 {
		t.Errorf("the lag is %v; all metrics: %v", got[name], got)
	}
}

// scrape reads the metrics.
func scrape(t *testing.T, s *servertest.Server) map[string]float64 {
	t.Helper()
	values := make(map[string]float64)
	for line := range strings.Lines(request(t, "GET", s.URL+"/admin/metrics", nil).body) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !strings.HasPrefix(line, "#") {
			values[name], _ = strconv.ParseFloat(value, 64)
		}
	}
	return values
}

func publish(t *testing.T, c *client.Client, topic parley.Topic, n int) parley.Seq {
	t.Helper()
	var last parley.Seq
	for i := range n {
		r, err := c.Publish(context.WithoutCancel(t.Context()), parley.Message{Topic: topic, Body: []byte(strconv.Itoa(i))})
		if err != nil {
			t.Fatal(err)
		}
		last = r.Seq
	}
	return last
}
