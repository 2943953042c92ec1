package chaos_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/parley-im/parley/server/servertest"
)

// answers are the statuses of all that the server answers to what is sent over
// one connection, until it closes; echoed says that an answer has the secret.
func answers(t *testing.T, s *servertest.Server, sent, secret string) (statuses []int, echoed bool) {
	t.Helper()
	c := connect(t, s)
	defer c.Close()
	_, _ = io.WriteString(c, sent)
	for r := bufio.NewReader(c); ; {
		response, err := http.ReadResponse(r, nil)
		if err != nil {
			return statuses, echoed
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		echoed = echoed || strings.Contains(string(body)+fmt.Sprint(response.Header), secret)
		statuses = append(statuses, response.StatusCode)
		// Not before: the server takes a client that says so for one that has gone.
		_ = c.(*net.TCPConn).CloseWrite()
		if err != nil {
			return statuses, echoed
		}
	}
}

// TestSmuggling (S9, S24): where a proxy and the server could disagree about where
// a request ends, no second one is found in the first. Purging is what would be
// smuggled: it would be answered 404, as there is nothing to purge.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	const (
		secret  = "S3cr3t"
		inside  = "DELETE /v1/topics/none HTTP/1.1\r\nHost: localhost\r\nX: " + secret + "\r\n\r\n"
		publish = "POST /v1/messages/a HTTP/1.1\r\nHost: localhost\r\n"
	)
	length := func(n int) string { return fmt.Sprintf("Content-Length: %d\r\n", n) }
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(inside), inside)
	for name, tt := range map[string]struct {
		sent string
		want string
	}{
		"a body":                   {publish + length(len(inside)) + "\r\n" + inside, "[201]"},
		"chunks":                   {publish + "Transfer-Encoding: chunked\r\n\r\n" + chunked, "[201]"},
		"chunks, and a length":     {publish + length(4) + "Transfer-Encoding: chunked\r\n\r\n" + chunked, "[201]"},
		"the same length twice":    {publish + length(len(inside)) + length(len(inside)) + "\r\n" + inside, "[201]"},
		"two lengths":              {publish + length(0) + length(len(inside)) + "\r\n" + inside, "[400]"},
		"a list of lengths":        {publish + "Content-Length: 0, 0\r\n\r\n" + inside, "[400]"},
		"a signed length":          {publish + "Content-Length: +0\r\n\r\n" + inside, "[400]"},
		"a hexadecimal length":     {publish + "Content-Length: 0x0\r\n\r\n" + inside, "[400]"},
		"a space before the colon": {publish + "Transfer-Encoding : chunked\r\n" + length(0) + "\r\n" + chunked, "[400]"},
		"another encoding":         {publish + "Transfer-Encoding: xchunked\r\n" + length(0) + "\r\n" + chunked, "[501]"},
		"two encodings":            {publish + "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked, "[501]"},
		"a folded encoding":        {publish + "Transfer-Encoding:\r\n chunked\r\n" + length(len(chunked)) + "\r\n" + chunked, "[201]"},
		"a chunk of -1":            {publish + "Transfer-Encoding: chunked\r\n\r\n-1\r\n" + inside, "[400]"},
		"a chunk beyond all":       {publish + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + inside, "[400]"},
		"a chunk without its end":  {publish + "Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n" + inside, "[400]"},
		"a body of a GET":          {"GET /v1/count/a HTTP/1.1\r\nHost: localhost\r\n" + length(len(inside)) + "\r\n" + inside, "[200]"},
		"a body of a bad request":  {"POST /v1/nothing HTTP/1.1\r\nHost: localhost\r\n" + length(len(inside)) + "\r\n" + inside, "[404]"},
		"a NUL in a header":        {publish + "X: a\x00b\r\n" + length(0) + "\r\n", "[400]"},
		"a line feed in a name":    {publish + "X\n: a\r\n" + length(0) + "\r\n", "[400]"},
		"two hosts":                {"GET /v1/count/a HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", "[400]"},
		"no host":                  {"GET /v1/count/a HTTP/1.1\r\n\r\n", "[400]"},
		"a host in the path":       {"GET http://evil.example/v1/count/a HTTP/1.1\r\nHost: localhost\r\n\r\n", "[403]"},
		"HTTP/2":                   {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "[403]"},
		"upgrade to HTTP/2":        {"GET /v1/count/a HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", "[200]"},
		"a tunnel":                 {"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost:22\r\n\r\n", "[404]"},
		"a trace":                  {"TRACE / HTTP/1.1\r\nHost: localhost\r\nCookie: " + secret + "\r\n\r\n", "[404]"},
		"a trace of an operator's": {"TRACE /admin/metrics HTTP/1.1\r\nHost: localhost\r\nCookie: " + secret + "\r\n\r\n", "[405]"},
		"a trace of Gobbler's":     {"TRACE /api/message/a HTTP/1.1\r\nHost: localhost\r\nCookie: " + secret + "\r\n\r\n", "[405]"},
	} {
		statuses, echoed := answers(t, s, tt.sent, secret)
		if got := fmt.Sprint(statuses); got != tt.want {
			t.Errorf("%s: answered %s, want %s", name, got, tt.want)
		}
		if echoed {
			t.Errorf("%s: the request is repeated in the answer", name)
		}
	}
	unharmed(t, quiet(t, s))
}
