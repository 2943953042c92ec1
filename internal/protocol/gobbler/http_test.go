package gobbler_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol/gobbler"
)

// api is the routes of a world, in front of what answers 418.
func (w *world) api() http.Handler {
	api := gobbler.API{Broker: w.broker, Arriving: broker.NewRoom(1 << 20), Logger: slog.New(slog.DiscardHandler)}
	return api.Before(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
}

// call makes one request.
func call(h http.Handler, method, target string, body io.Reader, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, body)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// publishing is a request and what its message is.
type publishing struct {
	name, target, body   string
	headers              []string
	deployed, documented string // the fields between the application and the time
	topic, user, rest    string
}

// check compares a message with the format of its first line, in which # stands
// for a number and @ for an application, and what follows that.
func (p *publishing) check(t *testing.T, got, format, middle string) {
	t.Helper()
	line, rest, _ := strings.Cut(got, "\n")
	pattern := regexp.QuoteMeta(fmt.Sprintf(format, p.topic, p.user, middle))
	pattern = strings.NewReplacer("#", `\d+`, "@", "[0-9a-v]{20}").Replace(pattern)
	if !regexp.MustCompile("^"+pattern+"$").MatchString(line) || rest != p.rest {
		t.Errorf("%s:\ngot  %q\nwant %s and %q", p.name, got, pattern, p.rest)
	}
}

// What a publish makes of a request: each row of what was captured from a
// Gobbler server, and what users asked for since.
func TestPublish(t *testing.T) {
	w := newWorld(t, broker.Config{})
	deployed, documented := dial(t, w.open(gobbler.Deployed), "user01"), dial(t, w.open(gobbler.Documented), "user01")
	for _, p := range []*peer{deployed, documented} {
		p.send("+ /foo")
		if got := p.next(); got != "#subscribed-to /foo" {
			t.Fatal(got)
		}
	}
	for _, tt := range []publishing{
		{
			"as in the README", "/foo?userId=marvin&messageId=42", "Hello",
			[]string{"x-Gobbler-Key", "Value"},
			",", "42", "/foo", "marvin", `{"Key":"Value"}` + "\nHello",
		},
		{
			"the other prefix", "/foo?userId=marvin&messageId=42", "Hello",
			[]string{"x-guble-Key", "Value"},
			",", "42", "/foo", "marvin", `{"Key":"Value"}` + "\nHello",
		},
		{
			"several headers", "/foo", "Hello2",
			[]string{"X-GUBLE-correlation-id", "abc-1", "X-Guble-Content-Type", "text/plain", "X-Guble-Q", `say "hi"`, "X-Other", "x", "X-Gobbler-", "x"},
			",", "", "/foo", "", `{"Content-Type":"text/plain","Correlation-Id":"abc-1","Q":"say \"hi\""}` + "\nHello2",
		},
		{
			"both prefixes, and twice", "/foo", "x",
			[]string{"X-Guble-K", "old", "X-Gobbler-K", "new", "X-Gobbler-K", "newer"},
			",", "", "/foo", "", `{"K":"new"}` + "\nx",
		},
		{"no header", "/foo/bar", "a\nb\n\x00\xff", nil, ",", "", "/foo/bar", "", "{}\na\nb\n\x00\xff"},
		{"encoded topic", "/foo%2Fb%25c%c3%a9", "x", nil, ",", "", "/foo/b%cé", "", "{}\nx"},
		{"one filter", "/foo?filterUserID=user01", "x", nil, `{"user_id":"user01"},`, "", "/foo", "", "{}\nx"},
		{"two filters", "/foo?filterUserID=user01&filterDeviceToken=", "x", nil, ",", "", "/foo", "", "{}\nx"},
		{"two filters with commas", "/foo?filterUserID=user01&filter%2C,=&messageId=a,b", "x", nil, ",", "a%2Cb", "/foo", "", "{}\nx"},
		{"an expiry", "/foo?expires=2099-11-21T08:24:53%2B01:00", "x", nil, ",2099-11-21T07:24:53Z", "", "/foo", "", "{}\nx"},
		{
			"nothing that the server sets", "/foo?id=7&seq=7&time=7&applicationId=me&nodeId=3&application_id=me&path=/x", "x",
			[]string{"Sender", "me"},
			",", "", "/foo", "", "{}\nx",
		},
	} {
		answer := call(w.api(), "POST", "/api/message"+tt.target, strings.NewReader(tt.body), tt.headers...)
		if answer.Code != 200 || answer.Body.String() != "OK" || answer.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Fatalf("%s: %d %q", tt.name, answer.Code, answer.Body)
		}
		got := deployed.next()
		tt.check(t, got, "%s,#,%s,@,%s,#,0", tt.deployed)
		if _, err := parse(got); err != nil {
			t.Errorf("%s: a deployed client cannot read %q: %v", tt.name, got, err)
		}
		got = documented.next()
		tt.check(t, got, "%s,#,%s,@,%s,#", tt.documented)
		if _, err := parseDocumented(got); err != nil {
			t.Errorf("%s: a documented client cannot read %q: %v", tt.name, got, err)
		}
	}
	// An empty body: header alone, or with both line feeds.
	call(w.api(), "POST", "/api/message/foo", nil)
	if got := deployed.next(); !strings.HasSuffix(got, ",0\n{}") {
		t.Errorf("an empty body is told as %q", got)
	}
	if got := documented.next(); !strings.HasSuffix(got, "\n{}\n") {
		t.Errorf("an empty body is told as %q", got)
	}
	// What is for somebody else does not come, live or stored.
	for _, query := range []string{"filterUserID=other", "filterUserId=user01&filterConnector=fcm", "filter=x"} {
		if answer := call(w.api(), "POST", "/api/message/foo?"+query, strings.NewReader("secret")); answer.Code != 200 {
			t.Errorf("%s: %d %q", query, answer.Code, answer.Body)
		}
	}
	call(w.api(), "POST", "/api/message/foo?filter=", strings.NewReader("for all"))
	for _, p := range []*peer{deployed, documented} {
		if got := p.next(); !strings.HasSuffix(got, "for all") {
			t.Errorf("got %q, want what is for all", got)
		}
	}
	deployed.send("+ /foo -4 4")
	if got := deployed.next(); got != "#fetch-start /foo 4" {
		t.Fatal(got)
	}
	for range 4 {
		if got := deployed.next(); strings.Contains(got, "secret") {
			t.Errorf("a fetch shows %q", got)
		}
	}
}

// Two requests are two applications.
func TestPublishHasANewApplicationID(t *testing.T) {
	w := newWorld(t, broker.Config{})
	p := dial(t, w.open(gobbler.Deployed), "")
	p.send("+ /foo")
	p.next()
	seen := map[string]bool{}
	for range 2 {
		call(w.api(), "POST", "/api/message/foo?messageId=same", nil)
		m, err := parse(p.next())
		if err != nil || seen[m.Application] {
			t.Errorf("%+v, %v: want a new application", m, err)
		}
		seen[m.Application] = true
	}
}

func TestRoutes(t *testing.T) {
	w := newWorld(t, broker.Config{Limits: broker.Limits{MessageBytes: 10}})
	const notFound = "404 page not found\n"
	long := strings.Repeat("x", 300)
	for _, tt := range []struct {
		method, target, body string
		status               int
		want                 string // "" is not compared
	}{
		{"POST", "/api/message/", "", 404, notFound},
		{"POST", "/api/message", "", 404, notFound},
		{"POST", "/api/messagefoo", "", 404, notFound},
		{"POST", "/api/", "", 404, notFound},
		{"POST", "/api/other/foo", "", 404, notFound},
		{"POST", "/api//message/foo", "", 404, notFound},
		{"POST", "/api", "", 301, ""},
		{"GET", "/api", "", 301, ""},
		{"PUT", "/api/message/foo", "", 405, "Method not allowed\n"},
		{"DELETE", "/api/message/foo", "", 405, "Method not allowed\n"},
		{"PATCH", "/api/", "", 405, "Method not allowed\n"},
		{"OPTIONS", "/api/message/foo", "", 405, "Method not allowed\n"},
		{"TRACE", "/api/message/foo", "", 405, "Method not allowed\n"},
		{"HEAD", "/api/anything", "", 200, ""},
		{"HEAD", "/api/message/a//b", "", 200, ""},
		{"GET", "/api/message/foo", "", 404, notFound},
		{"GET", "/api/subscribers/", "", 404, notFound},
		{"GET", "/api/subscribers", "", 404, notFound},
		{"POST", "/api/subscribers/foo", "", 404, notFound},
		{"GET", "/api/subscribers/nosuch", "", 200, "[]"},
		{"GET", "/api/subscribers/$inbox/ann", "", 200, "[]"},
		{"GET", "/api/subscribers/a//b", "", 400, "topic has an empty segment\n"},
		{"GET", "/apix", "", 418, ""},
		{"GET", "/stream/", "", 418, ""},

		// Topics.
		{"POST", "/api/message/foo//bar", "", 400, "topic has an empty segment\n"},
		{"POST", "/api/message//foo", "", 400, "topic has an empty segment\n"},
		{"POST", "/api/message/foo/", "", 400, "topic has an empty segment\n"},
		{"POST", "/api/message/foo/../zip", "", 400, "topic has a segment \"..\"\n"},
		{"POST", "/api/message/foo/%2e%2e/zip", "", 400, "topic has a segment \"..\"\n"},
		{"POST", "/api/message/foo/.", "", 400, "topic has a segment \".\"\n"},
		{"POST", "/api/message/foo%00", "", 400, ""},
		{"POST", "/api/message/foo%0a", "", 400, ""},
		{"POST", "/api/message/foo%20bar", "", 400, "topic contains a space, a comma or a control character\n"},
		{"POST", "/api/message/foo,bar", "", 400, ""},
		{"POST", "/api/message/%ff", "", 400, "topic is not valid UTF-8\n"},
		{"POST", "/api/message/%e2%80%ae", "", 400, ""}, // the right-to-left override
		{"POST", "/api/message/" + long, "", 400, "topic is longer than 255 bytes\n"},
		{"POST", "/api/message/" + strings.Repeat("a/", 17) + "a", "", 400, "topic has more than 16 segments\n"},
		{"POST", "/api/message/$inbox/ann", "", 403, "forbidden: topics that begin with $ are the server's own\n"},
		{"POST", "/api/message/foo/%252e%252e", "", 200, "OK"}, // a segment of plain characters

		// Parameters.
		{"POST", "/api/message/foo?userId=a,b", "", 400, "user id contains a comma or a control character\n"},
		{"POST", "/api/message/foo?userId=a%0ab", "", 400, ""},
		{"POST", "/api/message/foo?userId=%ff", "", 400, "the query is not valid UTF-8\n"},
		{"POST", "/api/message/foo?userId=" + long, "", 400, "user id is longer than 255 bytes\n"},
		{"POST", "/api/message/foo?messageId=" + long, "", 400, "messageId has at most 255 bytes and no control characters\n"},
		{"POST", "/api/message/foo?messageId=%0a", "", 400, ""},
		{"POST", "/api/message/foo?a=%zz", "", 400, "the query cannot be read\n"},
		{"POST", "/api/message/foo?a;b", "", 400, "the query cannot be read\n"},
		{"POST", "/api/message/foo?filterUserID=a&filterUserId=b", "", 400, "two parameters are the filter \"user_id\"\n"},
		{"POST", "/api/message/foo?filterA=" + long, "", 400, "a filter's name and its value have at most 255 bytes\n"},
		{"POST", "/api/message/foo?filter" + long + "=a", "", 400, "a filter's name and its value have at most 255 bytes\n"},
		{"POST", "/api/message/foo?filter1&filter2&filter3&filter4&filter5&filter6&filter7&filter8&filter9&filter10&filter11&filter12&filter13&filter14&filter15&filter16&filter17", "", 400, "more than 16 filters\n"},
		{"POST", "/api/message/foo?expires=tomorrow", "", 400, ""},
		{"POST", "/api/message/foo?expires=2001-01-01T00:00:00Z", "", 400, ""},
		{"POST", "/api/message/foo?expires=9999-01-01T00:00:00Z", "", 400, ""},
		{"POST", "/api/message/foo?ttl=0", "", 400, "ttl must be a number of seconds, 1 to 3153600000\n"},
		{"POST", "/api/message/foo?ttl=-1", "", 400, ""},
		{"POST", "/api/message/foo?ttl=1e9", "", 400, ""},
		{"POST", "/api/message/foo?ttl=99999999999999999999", "", 400, ""},
		{"POST", "/api/message/foo?ttl=1&expires=2099-01-01T00:00:00Z", "", 400, "expires and ttl exclude each other\n"},
		{"POST", "/api/message/foo?ttl=1", "", 200, "OK"},

		// Bodies.
		{"POST", "/api/message/foo", "0123456789", 200, "OK"},
		{"POST", "/api/message/foo", "0123456789+", 413, "the body has more than 10 bytes\n"},
	} {
		answer := call(w.api(), tt.method, tt.target, strings.NewReader(tt.body))
		got := answer.Body.String()
		if answer.Code != tt.status || tt.want != "" && got != tt.want || tt.method == "HEAD" && got != "" {
			t.Errorf("%s %.60s: %d %q, want %d %q", tt.method, tt.target, answer.Code, got, tt.status, tt.want)
		}
		if tt.status == 405 && answer.Header().Get("Allow") != "GET, HEAD, POST" {
			t.Errorf("%s %s: Allow is %q", tt.method, tt.target, answer.Header().Get("Allow"))
		}
	}
	if answer := call(w.api(), "GET", "/api", nil); answer.Header().Get("Location") != "/api/" {
		t.Errorf("Location is %q", answer.Header().Get("Location"))
	}
}

func TestPublishBodies(t *testing.T) {
	w := newWorld(t, broker.Config{Limits: broker.Limits{MessageBytes: 10}})
	// Without a length, as a chunked body comes.
	for body, want := range map[io.Reader]int{
		io.MultiReader(strings.NewReader("0123456789")):  200,
		io.MultiReader(strings.NewReader("0123456789+")): 413,
		iotest.ErrReader(io.ErrUnexpectedEOF):            400,
	} {
		answer := call(w.api(), "POST", "/api/message/foo", body)
		if answer.Code != want || want == 400 && answer.Body.String() != "Can not read body\n" {
			t.Errorf("%d %q, want %d", answer.Code, answer.Body, want)
		}
	}
	// A client that waits to be asked for its body is not asked for one too large;
	// otherwise the body is read, up to a bound, so that the answer arrives.
	for expect, want := range map[string]bool{"": true, "100-continue": false} {
		r := httptest.NewRequest(http.MethodPost, "/api/message/foo", nil)
		sent := strings.NewReader(strings.Repeat("x", 100))
		r.Body, r.ContentLength = io.NopCloser(sent), 100
		r.Header.Set("Expect", expect)
		answer := httptest.NewRecorder()
		w.api().ServeHTTP(answer, r)
		if read := sent.Len() == 0; answer.Code != 413 || read != want {
			t.Errorf("Expect %q: %d, and the body was read: %v", expect, answer.Code, read)
		}
	}
	big := strings.Repeat("h", parley.MaxHeaderBytes)
	if answer := call(w.api(), "POST", "/api/message/foo", nil, "X-Gobbler-H", big); answer.Code != 400 {
		t.Errorf("a header of more than 16 KiB: %d %q", answer.Code, answer.Body)
	}
}

// A failing log fails with err.
type failing struct {
	backend.Log
	err error
}

func (f failing) Append(context.Context, []backend.Entry) ([]backend.Result, error) {
	return nil, f.err
}

// OK means that it is stored; everything else says whether to try again.
func TestPublishFails(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
		text   string
	}{
		{backend.ErrStorageFull, 503, "storage_full: the disk is almost full, nothing is stored until there is room\n"},
		{errors.New("secret"), 503, "unavailable: storing failed\n"},
	} {
		w := newWorld(t, broker.Config{Log: failing{err: tt.err}, Logger: slog.New(slog.DiscardHandler)})
		answer := call(w.api(), "POST", "/api/message/foo", strings.NewReader("x"))
		if answer.Code != tt.status || answer.Body.String() != tt.text || answer.Header().Get("Retry-After") == "" {
			t.Errorf("%v: %d %q %v", tt.err, answer.Code, answer.Body, answer.Header())
		}
	}
	stopped := broker.New(broker.Config{Log: failing{}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := stopped.Run(ctx); err != nil {
		t.Fatal(err)
	}
	w := &world{broker: stopped}
	if answer := call(w.api(), "POST", "/api/message/foo", nil); answer.Code != 503 || answer.Body.String() != "unavailable: the server is stopping\n" {
		t.Errorf("while stopping: %d %q", answer.Code, answer.Body)
	}
}

func TestSnakeCase(t *testing.T) {
	w := newWorld(t, broker.Config{})
	for name, want := range map[string]string{
		"UserID": "user_id", "UserId": "user_id", "DeviceToken": "device_token", "Connector": "connector",
		"DummyCamelCase": "dummy_camel_case", "": "", "user_id": "user_id", "User_ID": "user_id", "ABC": "abc",
		"HTTPServer": "http_server", "aB": "a_b", "É": "é", "x1Y": "x1y",
	} {
		p := dial(t, w.open(gobbler.Deployed), "")
		p.send("+ /snake")
		p.next()
		call(w.api(), "POST", "/api/message/snake?filter"+url.QueryEscape(name)+"=", nil)
		m, err := parse(p.next())
		if err != nil || !reflect.DeepEqual(m.Filters, map[string]string{want: ""}) {
			t.Errorf("filter%s is the filters %q (%v), want %q", name, m.Filters, err, want)
		}
		p.conn.Close(1000, "")
	}
}

func TestSubscribers(t *testing.T) {
	w := newWorld(t, broker.Config{})
	want := make([]map[string]string, 0, 3)
	for _, user := range []string{"b", "a", `c"`} {
		p := dial(t, w.open(gobbler.Deployed), user)
		p.send("> /x")
		p.next()
		p.send("+ /foo")
		p.next()
		p.send("+ /foo/bar 0")
		for p.next() != "#subscribed-to /foo/bar" {
		}
		p.send("+ /foo 0 1") // no subscription
		p.next()
		p.next()
		want = append(want, map[string]string{"user_id": user})
	}
	var got []map[string]string
	answer := call(w.api(), "GET", "/api/subscribers/foo", nil)
	if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil || answer.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%q %v: %v", answer.Body, answer.Header(), err)
	}
	for _, s := range got {
		if len(s["application_id"]) != 20 {
			t.Errorf("the application is %q", s["application_id"])
		}
		delete(s, "application_id")
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRouter(t *testing.T) {
	w := newWorld(t, broker.Config{})
	mux := http.NewServeMux()
	api := gobbler.API{Broker: w.broker}
	api.RegisterRouter(mux, "/admin/router", func(next http.Handler) http.Handler { return next })
	if got := call(mux, "GET", "/admin/router", nil).Body.String(); got != "{}\n" {
		t.Errorf("of nobody: %q", got)
	}
	for _, command := range []string{"+ /foo", "+ /bar", "+ /foo"} {
		p := dial(t, w.open(gobbler.Deployed), "user01")
		p.send(command)
		p.next()
	}
	answer := call(mux, "GET", "/admin/router", nil)
	one := func(path string) string {
		return `{"RouteParams":{"application_id":"X","user_id":"user01"},"Path":"` + path + `","ChannelSize":10,"QueueSize":0,"Timeout":0}`
	}
	want := `{"/bar":[` + one("/bar") + `],"/foo":[` + one("/foo") + `,` + one("/foo") + "]}\n"
	got := regexp.MustCompile(`[0-9a-v]{20}`).ReplaceAllString(answer.Body.String(), "X")
	if got != want || answer.Header().Get("Content-Type") != "application/json" {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if answer := call(mux, "POST", "/admin/router", nil); answer.Code != 405 || !json.Valid(answer.Body.Bytes()) {
		t.Errorf("POST: %d %q", answer.Code, answer.Body)
	}
	guarded := http.NewServeMux()
	api.RegisterRouter(guarded, "/admin/router", func(http.Handler) http.Handler { return http.NotFoundHandler() })
	if answer := call(guarded, "GET", "/admin/router", nil); answer.Code != 404 {
		t.Errorf("the guard was not asked: %d", answer.Code)
	}
}

// A message that expires is not fetched after that.
func TestPublishExpires(t *testing.T) {
	w := newWorld(t, broker.Config{})
	expires := time.Now().Add(50 * time.Millisecond).UTC().Format(time.RFC3339Nano)
	answer := call(w.api(), "POST", "/api/message/foo?expires="+expires, nil)
	if answer.Code != 200 {
		t.Fatalf("%d %q", answer.Code, answer.Body)
	}
	p := dial(t, w.open(gobbler.Deployed), "")
	for deadline := time.Now().Add(10 * time.Second); ; {
		p.send("+ /foo 0 0")
		if start := p.next(); start == "#fetch-start /foo 0" {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("after its time: %q", start)
		}
		for !strings.HasPrefix(p.next(), "#fetch-end") {
		}
	}
}

// The figure is for one request, the memory store's commit included.
func BenchmarkPublishHTTP(b *testing.B) {
	b.ReportAllocs()
	h := newWorld(b, broker.Config{}).api()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if w := call(h, "POST", "/api/message/load?userId=u", strings.NewReader("Hello"), "X-Gobbler-Key", "Value"); w.Code != 200 {
				b.Errorf("%d %q", w.Code, w.Body)
			}
		}
	})
}
