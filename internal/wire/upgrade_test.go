package wire_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/parley-im/parley/internal/wire"
)

// TestHandshake sends requests as they are; replace edits the good one.
func TestHandshake(t *testing.T) {
	t.Parallel()
	const bad = http.StatusBadRequest
	good := request("")
	replace := func(old, replacement string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %q to replace", old)
		}
		return strings.Replace(good, old, replacement, 1)
	}
	const (
		upgrade = "Upgrade: websocket\r\n"
		conn    = "Connection: Upgrade\r\n"
		key     = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
		version = "Sec-WebSocket-Version: 13\r\n"
	)
	server := serve(t, &wire.Config{Policy: wire.Policy{Open: true}}, echo)
	for name, c := range map[string]struct {
		request string
		status  int
		body    string
	}{
		"good":                        {good, 101, ""},
		"HTTP/1.0":                    {replace("HTTP/1.1", "HTTP/1.0"), 101, ""},
		"header names in other cases": {strings.ReplaceAll(replace(upgrade, "UPGRADE: WebSocket\r\n"), "Sec-WebSocket", "sec-websocket"), 101, ""},
		"keep-alive, Upgrade":         {replace(conn, "Connection: keep-alive, Upgrade\r\n"), 101, ""},
		"Connection in two lines":     {replace(conn, "Connection: keep-alive\r\nConnection: upgrade\r\n"), 101, ""},
		"Upgrade twice":               {replace(upgrade, upgrade+upgrade), 101, ""},
		"Connection twice":            {replace(conn, conn+conn), 101, ""},
		"other upgrades offered":      {replace(upgrade, "Upgrade: h2c, websocket\r\n"), 101, ""},
		"load driver's origin":        {request("Origin: http://localhost/\r\n"), 101, ""},
		"1000 subprotocols":           {request("Sec-WebSocket-Protocol: " + strings.Repeat("p,", 1000) + "p\r\n"), 101, ""},
		"malformed subprotocols":      {request("Sec-WebSocket-Protocol: ,,\x01(,\"\r\n"), bad, ""},
		"extensions":                  {request("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=7, permessage-deflate; x\r\n"), 101, ""},
		"GET of a page":               {"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n", bad, "Bad Request\n"},
		"POST":                        {replace("GET", "POST"), http.StatusMethodNotAllowed, "Method Not Allowed\n"},
		"HEAD":                        {replace("GET", "HEAD"), http.StatusMethodNotAllowed, ""},
		"no Upgrade":                  {replace(upgrade, ""), bad, "Bad Request\n"},
		"Upgrade to something else":   {replace(upgrade, "Upgrade: h2c\r\n"), bad, "Bad Request\n"},
		"no Connection":               {replace(conn, ""), bad, "Bad Request\n"},
		"Connection: close":           {replace(conn, "Connection: close\r\n"), bad, "Bad Request\n"},
		"no key":                      {replace(key, ""), bad, "there must be one Sec-WebSocket-Key of 16 bytes in base64\n"},
		"two keys":                    {replace(key, key+key), bad, "there must be one Sec-WebSocket-Key of 16 bytes in base64\n"},
		"key of 15 bytes":             {replace(key, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA\r\n"), bad, "there must be one Sec-WebSocket-Key of 16 bytes in base64\n"},
		"key of 17 bytes":             {replace(key, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA=\r\n"), bad, "there must be one Sec-WebSocket-Key of 16 bytes in base64\n"},
		"key not base64":              {replace(key, "Sec-WebSocket-Key: ????????????????????????\r\n"), bad, "there must be one Sec-WebSocket-Key of 16 bytes in base64\n"},
		"key empty":                   {replace(key, "Sec-WebSocket-Key:\r\n"), bad, "there must be one Sec-WebSocket-Key of 16 bytes in base64\n"},
		"no version":                  {replace(version, ""), bad, "there must be one Sec-WebSocket-Version\n"},
		"two versions":                {replace(version, version+"Sec-WebSocket-Version: 8\r\n"), bad, "there must be one Sec-WebSocket-Version\n"},
		"version 8":                   {replace(version, "Sec-WebSocket-Version: 8\r\n"), 426, "Sec-WebSocket-Version must be 13\n"},
		"version 14":                  {replace(version, "Sec-WebSocket-Version: 14\r\n"), 426, "Sec-WebSocket-Version must be 13\n"},
		"body":                        {request("Content-Length: 4\r\n") + "body", bad, "an upgrade request has no body\n"},
		"chunked body":                {request("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", bad, "an upgrade request has no body\n"},
		"HTTP/1.0 without Host":       {strings.Replace(replace("Host: 127.0.0.1:8080\r\n", ""), "HTTP/1.1", "HTTP/1.0", 1), 403, ""},
		"HTTP/1.1 without Host":       {replace("Host: 127.0.0.1:8080\r\n", ""), bad, ""},
		"two Hosts":                   {request("Host: localhost\r\n"), bad, ""},
		"rebound Host":                {replace("127.0.0.1:8080", "evil.example:8080"), 403, "the host is not a loopback name or address: forbidden\n"},
		"foreign origin":              {request("Origin: https://evil.example\r\n"), 403, "the origin is not admitted: forbidden\n"},
		"two origins":                 {request("Origin: http://localhost\r\nOrigin: http://localhost\r\n"), 403, "more than one Origin: forbidden\n"},
		"null origin":                 {request("Origin: null\r\n"), 403, "the origin is none: forbidden\n"},
		"empty origin":                {request("Origin:\r\n"), 403, "the origin is none: forbidden\n"},
		"CRLF in the path":            {replace("/x", "/x%0d%0aX:y"), 101, ""},
		"space in the path":           {replace("/x", "/x y"), bad, ""},
		"more than 1 MB of header":    {request("X: " + strings.Repeat("x", 1<<20+1<<13) + "\r\n"), 431, ""},
		"10,000 headers":              {request(strings.Repeat("X: y\r\n", 10000)), 101, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, header, body := exchange(t, server, c.request)
			if status != c.status {
				t.Fatalf("got %d, want %d", status, c.status)
			}
			if status == http.StatusSwitchingProtocols {
				checkUpgraded(t, header)
			}
			if c.body != "" && body != c.body {
				t.Errorf("got body %q, want %q", body, c.body)
			}
			if got := header.Get("Sec-WebSocket-Version"); status == http.StatusUpgradeRequired && got != "13" {
				t.Errorf("426 offers version %q", got)
			}
			if got := header.Get("Allow"); status == http.StatusMethodNotAllowed && got != "GET" {
				t.Errorf("405 allows %q", got)
			}
		})
	}
}

// exchange sends a request and returns the answer.
func exchange(t *testing.T, server *served, request string) (status int, header http.Header, body string) {
	t.Helper()
	c := connect(t, server.addr)
	c.send(t, []byte(request))
	method, _, _ := strings.Cut(request, " ")
	res, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(all)
}

func checkUpgraded(t *testing.T, header http.Header) {
	t.Helper()
	for name, want := range map[string]string{
		"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
		"Sec-WebSocket-Protocol": "", "Sec-WebSocket-Extensions": "",
	} {
		if got := strings.Join(header.Values(name), "|"); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestSubprotocol(t *testing.T) {
	t.Parallel()
	agreed := make(chan string, 1)
	server := serve(t, &wire.Config{Subprotocols: []string{"parley.one", "parley.two"}}, func(c wire.Conn) error {
		agreed <- c.(*wire.WebSocket).Subprotocol()
		return c.Close(wire.CloseNormal, "")
	})
	for offer, want := range map[string]string{
		"":                         "",
		"other":                    "",
		"parley.one":               "parley.one",
		"other, parley.one ,third": "parley.one",
		"parley.two, parley.one":   "parley.two",
		"parley.one2":              "",
		"parley.ONE":               "",
		strings.Repeat("x,", 1000): "",
	} {
		var lines string
		if offer != "" {
			lines = "Sec-WebSocket-Protocol: " + offer + "\r\n"
		}
		_, header, _ := exchange(t, server, request(lines))
		if got := header.Get("Sec-WebSocket-Protocol"); got != want {
			t.Errorf("offer %q: the answer names %q, want %q", offer, got, want)
		}
		if got := <-agreed; got != want {
			t.Errorf("offer %q: Subprotocol is %q, want %q", offer, got, want)
		}
	}
}

// TestPipelined: what comes in the same segment as the request is not lost, a
// piece of a frame included.
func TestPipelined(t *testing.T) {
	t.Parallel()
	server := serve(t, &wire.Config{}, echo)
	var frames []byte
	var want []got
	for i := range 300 {
		s := fmt.Sprint("message ", i)
		frames = append(frames, text(s)...)
		want = append(want, echoed(s))
	}
	for _, cut := range []int{1, 3, 17, 3000, len(frames)} {
		c := server.dial(t, frames[:cut])
		c.send(t, frames[cut:])
		c.expect(t, want...)
		c.Close()
	}
}
