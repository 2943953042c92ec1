package chaos_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// restAnswer is what came back.
type restAnswer struct {
	status int
	header http.Header
	body   string
	code   string // of a problem
}

// restPeer speaks raw HTTP with a server, and holds every answer in JSON against the
// server's own description.
type restPeer struct {
	s        *servertest.Server
	document *openapi3.T
}

func newRest(t *testing.T, s *servertest.Server) *restPeer {
	t.Helper()
	document, err := openapi3.NewLoader().LoadFromData([]byte(get(t, s, "/v1/openapi.json")))
	if err != nil {
		t.Fatal(err)
	}
	return &restPeer{s, document}
}

// restRequest is the text of a request; headers are lines.
func restRequest(method, path, body string, headers ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", method, path)
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	if body != "" && !strings.Contains(strings.Join(headers, "\n"), "Transfer-Encoding") {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	return b.String() + "\r\n" + body
}

// say sends one request and reads its answer.
func (r *restPeer) say(t *testing.T, request string) restAnswer {
	t.Helper()
	c := connect(t, r.s)
	defer c.Close()
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() { _, _ = io.WriteString(c, request) }) // the server need not take all
	method, _, _ := strings.Cut(request, " ")
	response, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("no answer to %.100q", request)
	}
	if err != nil {
		return restAnswer{}
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	a := restAnswer{status: response.StatusCode, header: response.Header, body: string(body)}
	if response.Header.Get("Content-Type") == "application/problem+json" && method != http.MethodHead {
		a.code = r.problem(t, body)
	}
	return a
}

// problem checks a problem against its schema and returns its code.
func (r *restPeer) problem(t *testing.T, body []byte) string {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Errorf("a problem is no JSON: %s", body)
		return ""
	}
	if err := r.document.Components.Schemas["Problem"].Value.VisitJSON(v, openapi3.EnableJSONSchema2020()); err != nil {
		t.Errorf("%s is no Problem: %v", body, err)
	}
	code, _ := v["code"].(string)
	return code
}

// bad is a request that is refused.
type bad struct {
	request string
	status  int
	code    string // of the problem; empty where it is the HTTP library that refuses
}

// nested is an object around an object, n deep.
func nested(n int) string { return strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n) }

// badBodies (S7, S18, S24) are bodies that are refused.
func badBodies() map[string]bad {
	const jsonType, lines = "Content-Type: application/json", "Content-Type: application/x-ndjson"
	refused := func(body string) bad {
		return bad{restRequest("POST", "/v1/messages", body, jsonType), 400, "invalid"}
	}
	typed := func(contentType string) bad {
		return bad{restRequest("POST", "/v1/messages", `{"topic":"/a"}`, "Content-Type: "+contentType), 415, "unsupported_media_type"}
	}
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = z.Write(make([]byte, 64<<20))
	_ = z.Close()
	return map[string]bad{
		"no content type":        {restRequest("POST", "/v1/messages", `{"topic":"/a"}`), 415, "unsupported_media_type"},
		"curl's content type":    typed("application/x-www-form-urlencoded"),
		"text":                   typed("text/plain"),
		"text that sniffs":       typed("text/json"),
		"another charset":        typed("application/json; charset=latin1"),
		"another parameter":      typed("application/json; v=2"),
		"no media type":          typed("application/json;;"),
		"two media types":        typed("application/json, text/plain"),
		"multipart":              {restRequest("POST", "/v1/messages", strings.Repeat("--x\r\n\r\n\r\n", 50_000), "Content-Type: multipart/form-data; boundary=x"), 415, "unsupported_media_type"},
		"a bomb":                 {restRequest("POST", "/v1/messages", bomb.String(), jsonType, "Content-Encoding: gzip"), 415, "unsupported_media_type"},
		"a bomb as a message":    {restRequest("POST", "/v1/messages/a", bomb.String(), "Content-Encoding: gzip"), 415, "unsupported_media_type"},
		"two encodings":          {restRequest("POST", "/v1/messages/a", "x", "Content-Encoding: gzip, gzip"), 415, "unsupported_media_type"},
		"a type that is none":    {restRequest("POST", "/v1/messages/a", "x", "Content-Type: //"), 415, "unsupported_media_type"},
		"too large, and says so": {restRequest("POST", "/v1/messages/a", "", "Content-Length: 1000000000"), 413, "too_large"},
		"too large, expecting":   {restRequest("POST", "/v1/messages/a", "", "Content-Length: 1000000000", "Expect: 100-continue"), 413, "too_large"},
		"too large, in chunks":   {restRequest("POST", "/v1/messages/a", strings.Repeat("10000\r\n"+strings.Repeat("x", 1<<16)+"\r\n", 17)+"0\r\n\r\n", "Transfer-Encoding: chunked"), 413, "too_large"},
		"a batch too large":      {restRequest("POST", "/v1/messages", "", "Content-Length: 1000000000", jsonType), 413, "too_large"},
		"a chunk of no length":   {restRequest("POST", "/v1/messages/a", "x\r\n", "Transfer-Encoding: chunked"), 400, "invalid"},
		"chunks in chunks":       {restRequest("POST", "/v1/messages/a", "0\r\n\r\n", "Transfer-Encoding: chunked, chunked"), 501, ""},
		"two lengths":            {restRequest("POST", "/v1/messages/a", "", "Content-Length: 1", "Content-Length: 2"), 400, ""},
		"a negative length":      {restRequest("POST", "/v1/messages/a", "", "Content-Length: -1"), 400, ""},
		"nothing":                refused(""),
		"no JSON":                refused("topic=/a"),
		"null":                   refused("null"),
		"an array":               refused(`[{"topic":"/a"}]`),
		"a text":                 refused(`"/a"`),
		"text behind the end":    refused(`{"topic":"/a"} x`),
		"two objects":            refused(`{"topic":"/a"}{"topic":"/a"}`),
		"a name twice":           refused(`{"topic":"/a","topic":"/b"}`),
		"a name twice, escaped":  refused(`{"topic":"/a","\u0074opic":"/b"}`),
		"a name in another case": refused(`{"Topic":"/a"}`),
		"a name that is none":    refused(`{"topic":"/a","seq":1}`),
		"a header twice":         refused(`{"topic":"/a","headers":{"a":"1","a":"2"}}`),
		"no UTF-8":               refused("{\"topic\":\"/a\",\"text\":\"\xff\"}"),
		"half a surrogate":       refused(`{"topic":"/a","text":"\ud800"}`),
		"a byte order mark":      refused("\xef\xbb\xbf" + `{"topic":"/a"}`),
		"a NUL":                  refused("{\"topic\":\"/a\",\"text\":\"\x00\"}"),
		"NaN":                    refused(`{"topic":"/a","text":NaN}`),
		"nested too deep":        refused(nested(33)),
		"nested very deep":       refused(strings.Repeat("[", 10_001)),
		"text and data":          refused(`{"topic":"/a","text":"x","data":"eA=="}`),
		"data that is not":       refused(`{"topic":"/a","data":"*"}`),
		"a number for a text":    refused(`{"topic":"/a","text":1}`),
		"an id too long":         refused(`{"topic":"/a","id":"` + strings.Repeat("x", 8<<10) + `"}`),
		"an empty id":            refused(`{"topic":"/a","id":""}`),
		"an id of two lines":     refused(`{"topic":"/a","id":"a\nb"}`),
		"headers too long":       refused(`{"topic":"/a","headers":{"a":"` + strings.Repeat("x", 17<<10) + `"}}`),
		"too many filters":       refused(`{"topic":"/a","filters":{` + strings.TrimSuffix(manyNames(17), ",") + `}}`),
		"expired":                refused(`{"topic":"/a","expires":"2001-01-01T00:00:00Z"}`),
		"a time that is none":    refused(`{"topic":"/a","expires":"tomorrow"}`),
		"a producer too short":   refused(`{"topic":"/a","id":"a","producer":"abc"}`),
		"an empty batch":         refused(`{"messages":[]}`),
		"a batch and a message":  refused(`{"topic":"/a","messages":[{"topic":"/a"}]}`),
		"a batch too long":       refused(`{"messages":[` + strings.Repeat(`{"topic":"/a"},`, 1000) + `{"topic":"/a"}]}`),
		"one bad among good":     refused(`{"messages":[{"topic":"/a"},{"topic":"a"}]}`),
		"lines with a bad one":   {restRequest("POST", "/v1/messages", "{\"topic\":\"/a\"}\n{\n", lines), 400, "invalid"},
		"two objects on a line":  {restRequest("POST", "/v1/messages", "{\"topic\":\"/a\"}{\"topic\":\"/a\"}\n", lines), 400, "invalid"},
		"too many lines":         {restRequest("POST", "/v1/messages", strings.Repeat("{\"topic\":\"/a\"}\n", 1001), lines), 400, "invalid"},
		"a million empty lines":  {restRequest("POST", "/v1/messages", strings.Repeat("\n", 1_000_000), lines), 400, "invalid"},
	}
}

func manyNames(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"k%d":"v",`, i)
	}
	return b.String()
}

// badRequests (S7, S12, S24) are requests that are refused for their path, query,
// headers or method.
func badRequests() map[string]bad {
	publish := func(path string, headers ...string) bad {
		return bad{restRequest("POST", path, "x", headers...), 400, "invalid"}
	}
	read := func(path string) bad { return bad{restRequest("GET", path, ""), 400, "invalid"} }
	other := func(method, path string) bad { return bad{restRequest(method, path, ""), 405, "method_not_allowed"} }
	evil := "Origin: https://evil.example"
	key := "Idempotency-Key: 0123456789abcdef"
	return map[string]bad{
		// Paths that a mux would clean up, and lose the body.
		"double slash":           publish("/v1/messages//a"),
		"double slash in front":  publish("//v1/messages/a"),
		"dots":                   publish("/v1/messages/a/../b"),
		"escaped dots":           publish("/v1/messages/%2e%2e/b"),
		"half escaped dots":      publish("/v1/messages/.%2E/b"),
		"a dot":                  publish("/v1/messages/./a"),
		"dots to elsewhere":      publish("/v1/messages/../../admin/metrics"),
		"dots from elsewhere":    publish("/x/../v1/messages/a"),
		"an escaped slash first": publish("/v1/messages/%2Fa"),
		"all escaped dots":       publish("/v1/messages/a%2F%2e%2e%2Fb"),
		"a rule for a topic":     read("/v1/retention/a%2Fb"),
		"a slash behind":         publish("/v1/messages/a/"),
		"NUL":                    publish("/v1/messages/a%00"),
		"CRLF":                   publish("/v1/messages/a%0d%0aX:1"),
		"a space":                publish("/v1/messages/a%20b"),
		"bad UTF-8":              publish("/v1/messages/%ff"),
		"right-to-left override": publish("/v1/messages/a%e2%80%ae"),
		"zero width":             publish("/v1/messages/a%e2%80%8b"),
		"half an escape":         {restRequest("POST", "/v1/messages/%4", "x"), 400, ""},
		"a segment too many":     publish("/v1/messages" + strings.Repeat("/x", 17)),
		"a topic of 8 KB":        publish("/v1/messages/" + strings.Repeat("x", 8<<10)),
		"a topic of 80 KB":       {restRequest("POST", "/v1/messages/"+strings.Repeat("x", 80<<10), "x"), 431, ""},
		"ours":                   {restRequest("POST", "/v1/messages/$inbox/ann", "x"), 403, "forbidden"},
		"ours, escaped":          {restRequest("GET", "/v1/messages/%24inbox/ann", ""), 403, "forbidden"},
		"ours, counted":          {restRequest("GET", "/v1/count/$x", ""), 403, "forbidden"},
		"ours, shown":            {restRequest("GET", "/v1/topics/$x", ""), 403, "forbidden"},
		"ours, body":             {restRequest("GET", "/v1/body/$x", ""), 403, "forbidden"},
		"ours, kept":             {restRequest("PUT", "/v1/retention/$x", `{"messages":1}`, "Content-Type: application/json"), 403, "forbidden"},
		"ours, purged":           {restRequest("DELETE", "/v1/topics/$x", ""), 403, "forbidden"},
		"nowhere":                {restRequest("GET", "/v1/nothing", ""), 404, "not_found"},
		"a streams's stream":     {restRequest("GET", "/v1/retention/a/b", ""), 404, "not_found"},

		// Queries.
		"an unknown parameter":    publish("/v1/messages/a?idd=1"),
		"another case":            publish("/v1/messages/a?ID=1"),
		"a parameter twice":       publish("/v1/messages/a?id=1&id=2"),
		"a semicolon":             publish("/v1/messages/a?id=1;id=2"),
		"a bad escape":            publish("/v1/messages/a?id=%zz"),
		"an id of 8 KB":           publish("/v1/messages/a?id=" + strings.Repeat("x", 8<<10)),
		"an empty id":             publish("/v1/messages/a?id="),
		"an id of two lines":      publish("/v1/messages/a?id=a%0ab"),
		"a producer without id":   publish("/v1/messages/a?producer=" + strings.Repeat("0a", 16)),
		"a short producer":        publish("/v1/messages/a?id=1&producer=0a"),
		"an expiry and a ttl":     publish("/v1/messages/a?ttl=1m&expires=2999-01-01T00:00:00Z"),
		"a ttl of nothing":        publish("/v1/messages/a?ttl=0s"),
		"a ttl that is past":      publish("/v1/messages/a?ttl=-1m"),
		"an endless ttl":          publish("/v1/messages/a?ttl=999999999999d"),
		"an expiry in the past":   publish("/v1/messages/a?expires=2001-01-01T00:00:00Z"),
		"a filter without a name": publish("/v1/messages/a?filter.=x"),
		"a filter too long":       publish("/v1/messages/a?filter.user_id=" + strings.Repeat("x", 256)),
		"an override":             publish("/v1/messages/a?_method=DELETE"),
		"limit=-1":                read("/v1/messages/a?limit=-1"),
		"limit=0":                 read("/v1/messages/a?limit=0"),
		"limit=1e9":               read("/v1/messages/a?limit=1e9"),
		"limit=1000000000":        read("/v1/messages/a?limit=1000000000"),
		"limit=":                  read("/v1/messages/a?limit="),
		"a list of 1e9":           read("/v1/topics?limit=1000000000"),
		"after=-1":                read("/v1/messages/a?after=-1"),
		"a cursor beyond all":     read("/v1/messages/a?after=9007199254740993"),
		"a forged cursor":         read("/v1/messages/a?after=AAEC"),
		"a cursor as a float":     read("/v1/messages/a?after=1.0"),
		"before=0":                read("/v1/messages/a?before=0"),
		"since=soon":              read("/v1/messages/a?since=soon"),
		"reverse=1":               read("/v1/messages/a?reverse=1"),
		"last and after":          read("/v1/messages/a?last=1&after=1"),
		"seq=x":                   read("/v1/body/a?seq=x"),

		// Headers.
		"a key too short":        publish("/v1/messages/a", "Idempotency-Key: 1"),
		"a key too long":         publish("/v1/messages/a", "Idempotency-Key: "+strings.Repeat("x", 8<<10)),
		"two keys":               publish("/v1/messages/a", key, key),
		"a key and a producer":   publish("/v1/messages/a?id=1&producer="+strings.Repeat("0a", 16), key),
		"a header twice":         publish("/v1/messages/a", "Parley-Header-X: 1", "parley-header-x: 2"),
		"a header without name":  publish("/v1/messages/a", "Parley-Header-: 1"),
		"headers too long":       publish("/v1/messages/a", "Parley-Header-X: "+strings.Repeat("x", 17<<10)),
		"bad origin":             {restRequest("GET", "/v1/messages/a", "", evil), 403, "forbidden"},
		"bad origin publishes":   {restRequest("POST", "/v1/messages/a", "x", evil), 403, "forbidden"},
		"null origin publishes":  {restRequest("POST", "/v1/messages/a", "x", "Origin: null"), 403, "forbidden"},
		"a form of another site": {restRequest("POST", "/v1/messages/a", "x", "Content-Type: text/plain", "Sec-Fetch-Site: cross-site"), 403, "forbidden"},
		"bad preflight":          {restRequest("OPTIONS", "/v1/messages/a", "", evil, "Access-Control-Request-Method: POST"), 403, "forbidden"},
		"origins by suffix":      {restRequest("OPTIONS", "/v1/messages/a", "", "Origin: http://localhost.evil.example", "Access-Control-Request-Method: POST"), 403, "forbidden"},
		"two origins":            {restRequest("GET", "/v1/messages/a", "", evil, "Origin: http://localhost"), 403, "forbidden"},
		"a purge by a page":      {restRequest("DELETE", "/v1/topics/a", "", "Origin: http://localhost:3000"), 403, "forbidden"},

		// Methods.
		"TRACE":          other("TRACE", "/v1/messages/a"),
		"PATCH":          other("PATCH", "/v1/messages/a"),
		"DELETE":         other("DELETE", "/v1/messages/a"),
		"an override's":  {restRequest("POST", "/v1/topics/a", "", "X-HTTP-Method-Override: DELETE"), 405, "method_not_allowed"},
		"a made-up one":  other("FROB", "/v1/topics"),
		"lower case":     other("get", "/v1/topics"),
		"PUT a document": other("PUT", "/v1/openapi.json"),
		"a bad rule":     {restRequest("PUT", "/v1/retention/a", `{}`, "Content-Type: application/json"), 400, "invalid"},
		"a rule of zero": {restRequest("PUT", "/v1/retention/a", `{"messages":0}`, "Content-Type: application/json"), 400, "invalid"},
		"a rule as form": {restRequest("PUT", "/v1/retention/a", `messages=1`), 415, "unsupported_media_type"},
		"a rule for all": {restRequest("PUT", "/v1/retention/*", `{"messages":1}`, "Content-Type: application/json"), 400, "invalid"},
		"a stale rule":   {restRequest("PUT", "/v1/retention/a", `{"messages":1}`, "Content-Type: application/json", `If-Match: "1"`), 412, "precondition_failed"},
	}
}

// TestREST (S2, S6, S7, S9, S12, S18, S24): bad requests over HTTP are refused with
// the status and the code for it, and change nothing.
func TestREST(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	r := newRest(t, s)
	for _, table := range []map[string]bad{badBodies(), badRequests()} {
		for name, tt := range table {
			got := r.say(t, tt.request)
			if got.status != tt.status || got.code != tt.code {
				t.Errorf("%s: %d %q %.200s, want %d %q", name, got.status, got.code, got.body, tt.status, tt.code)
			}
			if allowed := got.header.Get("Access-Control-Allow-Origin"); allowed != "" {
				t.Errorf("%s: is for pages of %s", name, allowed)
			}
			if tt.code != "" && (got.header.Get("X-Content-Type-Options") != "nosniff" || got.header.Get("Cache-Control") != "no-store") {
				t.Errorf("%s: lacks headers: %v", name, got.header)
			}
		}
	}
	if got := r.say(t, restRequest("GET", "/v1/topics", "")); got.body != `{"topics":[],"more":false}`+"\n" {
		t.Errorf("something was stored: %s", got.body)
	}
	m := scrape(t, s)
	unharmed(t, m)
	if n := m["published_messages_total"]; n != 0 {
		t.Errorf("%v messages are stored, want none", n)
	}
}

// TestRESTTakesWhatIsOdd: requests that look like trouble and are fine.
func TestRESTTakesWhatIsOdd(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, func(c *server.Config) { c.HTTP.Origins = []string{"https://chat.example"} })
	r := newRest(t, s)
	page := "Origin: https://chat.example"
	r.say(t, restRequest("POST", "/v1/messages/a", "x")) // which some below read
	for name, tt := range map[string]struct {
		request string
		status  int
		body    string
	}{
		"in chunks":          {restRequest("POST", "/v1/messages/chunks", "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "Transfer-Encoding: chunked"), 201, ""},
		"chunks and length":  {restRequest("POST", "/v1/messages/a", "1\r\na\r\n0\r\n\r\n", "Transfer-Encoding: chunked", "Content-Length: 3"), 201, ""},
		"nothing":            {restRequest("POST", "/v1/messages/empty", "", "Content-Length: 0"), 201, ""},
		"expecting":          {restRequest("POST", "/v1/messages/a", "x", "Expect: 100-continue"), 100, ""},
		"identity":           {restRequest("POST", "/v1/messages/a", "x", "Content-Encoding: identity"), 201, ""},
		"encoded twice":      {restRequest("POST", "/v1/messages/%252e%252e/%2500", "x"), 201, `"/%2e%2e/%00"`},
		"an escaped slash":   {restRequest("POST", "/v1/messages/a%2fb", "x"), 201, `"topic":"/a/b"`},
		"three dots":         {restRequest("POST", "/v1/messages/...", "x"), 201, ""},
		"a star":             {restRequest("POST", "/v1/messages/a.>", "x"), 201, ""},
		"composed":           {restRequest("POST", "/v1/messages/caf%C3%A9", "x"), 201, ""},
		"decomposed":         {restRequest("POST", "/v1/messages/cafe%CC%81", "x"), 201, ""},
		"the root":           {restRequest("POST", "/v1/messages/", "x"), 201, `"topic":"/"`},
		"multipart":          {restRequest("POST", "/v1/messages/parts", strings.Repeat("--x\r\n\r\n\r\n", 1000), "Content-Type: multipart/form-data; boundary=x"), 201, ""},
		"since the future":   {restRequest("GET", "/v1/messages/a?since=2999-01-01T00:00:00Z", ""), 200, `{"messages":[],`},
		"a cursor beyond":    {restRequest("GET", "/v1/messages/a?after=9007199254740992", ""), 200, `{"messages":[],`},
		"HEAD":               {restRequest("HEAD", "/v1/messages/a", ""), 200, ""},
		"HEAD of a body":     {restRequest("HEAD", "/v1/body/a", ""), 200, ""},
		"OPTIONS":            {restRequest("OPTIONS", "/v1/messages/a", ""), 204, ""},
		"a page reads":       {restRequest("GET", "/v1/messages/a", "", page), 200, ""},
		"a page publishes":   {restRequest("POST", "/v1/messages/a", "x", page, "Sec-Fetch-Site: cross-site"), 201, ""},
		"a page may publish": {restRequest("OPTIONS", "/v1/messages/a", "", page, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type, idempotency-key, parley-header-x"), 204, ""},
	} {
		got := r.say(t, tt.request)
		if got.status != tt.status || !strings.Contains(got.body, tt.body) {
			t.Errorf("%s: %d %.200s, want %d %s", name, got.status, got.body, tt.status, tt.body)
		}
		if strings.HasPrefix(name, "a page") && got.header.Get("Access-Control-Allow-Origin") != "https://chat.example" {
			t.Errorf("%s: lacks Access-Control-Allow-Origin: %v", name, got.header)
		}
		if name == "a page may publish" && got.header.Get("Access-Control-Allow-Headers") == "" {
			t.Errorf("%s: lacks Access-Control-Allow-Headers: %v", name, got.header)
		}
	}
	for topic, want := range map[string]int{"/chunks": 1, "/empty": 1, "/café": 1, "/cafe\u0301": 1, "/%2e%2e/%00": 1, "/": 1} {
		path := (&url.URL{Path: "/v1/count" + topic}).EscapedPath()
		if got := r.say(t, restRequest("GET", path, "")); !strings.HasPrefix(got.body, fmt.Sprintf(`{"count":%d,`, want)) {
			t.Errorf("%q counts %s, want %d", topic, got.body, want)
		}
	}
	unharmed(t, scrape(t, s))
}

// TestIfMatchRaces: of many who replace the same rule one wins, and the others are
// told.
func TestIfMatchRaces(t *testing.T) {
	t.Parallel()
	r := newRest(t, servertest.Start(t))
	const racers, contentType = 16, "Content-Type: application/json"
	tag := r.say(t, restRequest("PUT", "/v1/retention/a", `{"messages":1}`, contentType)).header.Get("ETag")
	if tag == "" {
		t.Fatal("a rule has no ETag")
	}
	var racing sync.WaitGroup
	statuses := make([]int, racers)
	for i := range racers {
		racing.Go(func() {
			statuses[i] = r.say(t, restRequest("PUT", "/v1/retention/a", fmt.Sprintf(`{"messages":%d}`, i+2), contentType, "If-Match: "+tag)).status
		})
	}
	racing.Wait()
	won := 0
	for _, status := range statuses {
		switch status {
		case 200:
			won++
		case 412:
		default:
			t.Errorf("a racer gets %d", status)
		}
	}
	if won != 1 {
		t.Errorf("%d racers won, want 1", won)
	}
}

// TestUnfinishedBodies (S7, R9): bodies that never come to an end leave room for
// small ones, and are refused when they take too much together, whichever way they
// come.
func TestUnfinishedBodies(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, func(c *server.Config) { c.Limits.Message, c.Limits.PublishQueue = 256<<10, 1<<20 })
	r := newRest(t, s)
	large := strings.Repeat("x", 200<<10)
	for _, path := range []string{"/v1/messages/a", "/api/message/a"} {
		var unfinished []net.Conn
		for status := 0; status != 503; status = r.say(t, restRequest("POST", path, large)).status {
			if len(unfinished) > 100 {
				t.Fatalf("%s: a large body is never refused: %d", path, status)
			}
			c, err := net.DialTimeout("tcp", host(s), patience)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			unfinished = append(unfinished, c)
			if _, err := io.WriteString(c, restRequest("POST", path, large+"x")[:len(large)]); err != nil {
				t.Fatal(err)
			}
		}
		if got := r.say(t, restRequest("POST", path, "small")); got.status >= 300 {
			t.Errorf("%s: a small body is answered by %d %s", path, got.status, got.body)
		}
		for _, c := range unfinished {
			_ = c.Close()
		}
		eventually(t, "a large body is taken again", func() bool { return r.say(t, restRequest("POST", path, large)).status < 300 })
	}
	unharmed(t, quiet(t, s))
}
