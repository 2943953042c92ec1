package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/auth"
	"github.com/parley-im/parley/internal/protocol/protocoltest"
	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
	"github.com/parley-im/parley/test/require"
)

// Tokens as Titan's tests sign them.
const (
	tokenOf1 = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJjcmVhdGVkIjoxNDU2MTQ5MjY0LCJ1c2VyaWQiOiIxIn0.wuKJ8CuDkCZYLmhgO-UlZd6v8nxKGk_PtkBwjalyjwA"
	tokenOf2 = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJjcmVhdGVkIjoxNDU2MTQ5MjY0LCJ1c2VyaWQiOiIyIn0.TtQbw8b7Njjp8GMxOgxH3TImiDieFGJK5LazzyZKNSI"
)

// titanTest serves Titan's tests.
func titanTest(c *server.Config) {
	c.Titan.Test, c.Titan.TestListen = true, "127.0.0.1:0"
}

// authority makes a CA in a directory of its own.
func authority(t *testing.T) (dir string, ca *auth.CA) {
	t.Helper()
	return servertest.NewAuthority(t)
}

// devastator serves Devastator's clients, with certificates of that CA; anybody may
// send to anybody.
func devastator(t *testing.T, dir string, ca *auth.CA) servertest.Option {
	t.Helper()
	listen := servertest.WithDevastator(t, dir, ca)
	return func(c *server.Config) {
		listen(c)
		c.Access.Grants = append(c.Access.Grants, account.Grant{Operations: account.Send, Pattern: "/$inbox/*"})
	}
}

// holding is how a client connects with a new certificate of a user; nobody has
// none.
func holding(t *testing.T, ca *auth.CA, user string) *tls.Config {
	t.Helper()
	return servertest.Holding(t, ca, user)
}

// dialLength connects to Devastator's listener.
func dialLength(t *testing.T, at string, config *tls.Config) *wire.Length {
	t.Helper()
	conn, err := dialTLS(t, at, config)
	if err != nil {
		t.Fatal(err)
	}
	l := wire.NewLength(conn, &wire.LengthConfig{Keeper: &wire.Keeper{}, MaxFrame: 16 << 20})
	t.Cleanup(func() { _ = l.Close(0, "") })
	return l
}

func dialTLS(t *testing.T, at string, config *tls.Config) (net.Conn, error) {
	t.Helper()
	return (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", at)
}

const titanProbe = `{"id":"probe","method":"ping"}`

func TestTitanTranscripts(t *testing.T) {
	protocoltest.Run(t, "../docs/protocol/titan.md", protocoltest.Dialect{
		Name: "titan", Text: true, Probe: titanProbe, Answer: `{"id":"probe","result":"ACK"}`,
		Start: func(t *testing.T) protocoltest.Open {
			s := servertest.Start(t, titanTest)
			return func(path string) (wire.Conn, error) { return wire.Dial(t.Context(), "ws://"+s.TitanTest+path, nil) }
		},
	})
}

func TestDevastatorTranscripts(t *testing.T) {
	dir, ca := authority(t)
	protocoltest.Run(t, "../docs/protocol/devastator.md", protocoltest.Dialect{
		Name: "devastator", Probe: titanProbe, Answer: `{"id":"probe","result":"ACK"}`,
		Start: func(t *testing.T) protocoltest.Open {
			s := servertest.Start(t, devastator(t, dir, ca))
			return func(path string) (wire.Conn, error) {
				return dialLength(t, s.Devastator, holding(t, ca, strings.TrimPrefix(path, "/"))), nil
			}
		},
	})
}

// titanClient is a client of Titan's.
type titanClient struct {
	wire.Conn

	t      testing.TB
	frames []string
}

func titanAs(t testing.TB, at, token string) *titanClient {
	t.Helper()
	conn, err := wire.Dial(t.Context(), "ws://"+at, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(wire.CloseNormal, "") })
	c := &titanClient{Conn: conn, t: t}
	c.ask(`{"id":"j","method":"auth.jwt","params":{"token":"` + token + `"}}`)
	c.want(`{"id":"j","result":"ACK"}`)
	return c
}

func (c *titanClient) ask(text string) {
	c.t.Helper()
	if err := c.Write(c.AppendFrame(nil, true, []byte(text))); err != nil {
		c.t.Fatal(err)
	}
}

func (c *titanClient) next() string {
	c.t.Helper()
	for len(c.frames) == 0 {
		stop := time.AfterFunc(20*time.Second, func() { _ = c.Close(wire.CloseNormal, "waited for too long") })
		frames, err := c.Read()
		stop.Stop()
		if err != nil {
			c.t.Fatal(err)
		}
		for _, f := range frames {
			c.frames = append(c.frames, string(f.Payload))
		}
	}
	first := c.frames[0]
	c.frames = c.frames[1:]
	return first
}

func (c *titanClient) want(text string) {
	c.t.Helper()
	if got := c.next(); got != text {
		c.t.Fatalf("got  %s\nwant %s", got, text)
	}
}

// delivery is the id of the next frame, which delivers that text.
func (c *titanClient) delivery(text string) (id string) {
	c.t.Helper()
	got := c.next()
	m := regexp.MustCompile(`^\{"id":"([\w-]{22})","method":"msg.recv","params":\[\{"from":"\w+","to":"\w+","time":"[\d-]+T[\d:]+Z","message":"(.*)"\}\]\}$`).FindStringSubmatch(got)
	if m == nil || m[2] != text {
		c.t.Fatalf("got %s, want a delivery of %q", got, text)
	}
	return m[1]
}

// send sends a text to user 2.
func (c *titanClient) send(text string) {
	c.t.Helper()
	c.ask(`{"id":"s","method":"msg.send","params":[{"to":"2","message":"` + text + `"}]}`)
	c.want(`{"id":"s","result":"ACK"}`)
}

func (c *titanClient) answer(id, result string) {
	c.t.Helper()
	c.ask(`{"id":"` + id + `","result":"` + result + `"}`)
}

// silence shows that nothing is on its way.
func (c *titanClient) silence() {
	c.t.Helper()
	c.ask(titanProbe)
	c.want(`{"id":"probe","result":"ACK"}`)
}

// R6: what is not acknowledged comes again, under the same id: at once on another
// connection and after a restart, and after the wait on the same one. A second
// acknowledgement does nothing.
func TestTitanRedelivers(t *testing.T) {
	dir := t.TempDir()
	quick := func(c *server.Config) { c.Titan.AckWait = time.Second }
	s := servertest.Start(t, titanTest, quick, servertest.Dir(dir))
	one := titanAs(t, s.TitanTest, tokenOf1)
	one.send("a")
	one.send("b")
	two := titanAs(t, s.TitanTest, tokenOf2)
	a, b := two.delivery("a"), two.delivery("b")
	two.answer(a, "ACK")
	two.answer(a, "ACK")
	two.answer(b, "NACK")
	if again := two.delivery("b"); again != b {
		t.Errorf("refused, it comes as %s, not %s", again, b)
	}
	if again := two.delivery("b"); again != b { // not answered
		t.Errorf("after the wait it comes as %s, not %s", again, b)
	}
	if err := two.Close(wire.CloseNormal, ""); err != nil {
		t.Fatal(err)
	}
	two = titanAs(t, s.TitanTest, tokenOf2)
	if again := two.delivery("b"); again != b {
		t.Errorf("on another connection it comes as %s, not %s", again, b)
	}
	s.Stop()
	s = servertest.Start(t, titanTest, quick, servertest.Dir(dir))
	two = titanAs(t, s.TitanTest, tokenOf2)
	if again := two.delivery("b"); again != b {
		t.Errorf("after a restart it comes as %s, not %s", again, b)
	}
	two.answer(b, "ACK")
	two.answer(a, "ACK")
	titanAs(t, s.TitanTest, tokenOf1).send("c")
	two.answer(two.delivery("c"), "ACK")
	two.silence()
}

// A user's connections are one device: all get a message, the first
// acknowledgement counts, and none takes another's place.
func TestTitanConnectionsShare(t *testing.T) {
	s := servertest.Start(t, titanTest, func(c *server.Config) { c.Titan.AckWait = time.Second })
	first, second := titanAs(t, s.TitanTest, tokenOf2), titanAs(t, s.TitanTest, tokenOf2)
	titanAs(t, s.TitanTest, tokenOf1).send("a")
	id := first.delivery("a")
	if other := second.delivery("a"); other != id {
		t.Errorf("two ids for one message: %s and %s", id, other)
	}
	second.answer(id, "ACK")
	second.silence()
	third := titanAs(t, s.TitanTest, tokenOf2)
	third.silence()
	first.answer(id, "ACK")
	titanAs(t, s.TitanTest, tokenOf1).send("b")
	for _, c := range []*titanClient{first, second, third} {
		c.delivery("b") // the next, so nobody got the first again
	}
}

// Nothing crosses users: neither messages nor acknowledgements.
func TestTitanKeepsUsersApart(t *testing.T) {
	s := servertest.Start(t, titanTest)
	one, two := titanAs(t, s.TitanTest, tokenOf1), titanAs(t, s.TitanTest, tokenOf2)
	one.send("for two")
	id := two.delivery("for two")
	one.answer(id, "ACK")
	one.silence()
	again := titanAs(t, s.TitanTest, tokenOf2)
	if got := again.delivery("for two"); got != id {
		t.Errorf("got %s, want %s", got, id)
	}
}

// Any path that nothing else has is Titan's, for a WebSocket only.
func TestTitanRoutes(t *testing.T) {
	s := servertest.Start(t, titanTest)
	base := strings.Replace(s.URL, "http", "ws", 1)
	for _, path := range []string{"", "/", "/any/path?x=1", "/nothing"} {
		c, err := wire.Dial(t.Context(), base+path, http.Header{"Origin": {"http://localhost"}})
		if err != nil {
			t.Errorf("%q: %v", path, err)
			continue
		}
		if got := say(t, c, true, `{"id":1,"method":"echo","params":{}}`); len(got) != 1 || !strings.HasPrefix(got[0], `{"id":1,"error":{"code":-32001,`) {
			t.Errorf("%q: got %q", path, got)
		}
		if _, err := c.Read(); !closedWith(err, wire.CloseNormal) {
			t.Errorf("%q: ended with %v", path, err)
		}
		_ = c.Close(0, "")
	}
	for _, path := range []string{"/", "/any/path", "/nothing"} {
		if status := get(t, s.URL+path); status != http.StatusNotFound {
			t.Errorf("a plain request for %s: %d", path, status)
		}
	}
	if c, err := wire.Dial(t.Context(), base+"/nothing", http.Header{"Origin": {"https://evil.example"}}); err == nil {
		_ = c.Close(0, "")
		t.Error("a page of another origin may connect")
	}
	off := servertest.Start(t, func(c *server.Config) { c.Titan.WebSocket = false })
	if c, err := wire.Dial(t.Context(), strings.Replace(off.URL, "http", "ws", 1), nil); err == nil {
		_ = c.Close(0, "")
		t.Error("it is switched off and yet there")
	}
}

func closedWith(err error, code uint16) bool {
	closed, ok := errors.AsType[*wire.CloseError](err)
	return ok && closed.Code == code
}

// get is the status of what a request gets, without following a redirect.
func get(t *testing.T, url string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// A frame of five megabytes, in one piece or in several, is echoed; a close frame
// with the code 0 is a goodbye; and the first that offers one subprotocol gets it.
func TestTitanFrames(t *testing.T) {
	s := servertest.Start(t, titanTest)
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.TitanTest)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mine\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
	head := make([]byte, 0, 512)
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		p := make([]byte, 1)
		if _, err := io.ReadFull(conn, p); err != nil {
			t.Fatal(err)
		}
		head = append(head, p...)
	}
	if text := string(head); !strings.HasPrefix(text, "HTTP/1.1 101 ") || !strings.Contains(text, "Sec-WebSocket-Protocol: mine\r\n") || strings.Contains(text, "Extensions") {
		t.Errorf("got %s", text)
	}
	masked := func(first byte, payload string) []byte {
		p := binary.BigEndian.AppendUint64([]byte{first, 0x80 | 127}, uint64(len(payload)))
		if len(payload) < 126 {
			p = []byte{first, 0x80 | byte(len(payload))}
		} else if len(payload) < 1<<16 {
			p = binary.BigEndian.AppendUint16([]byte{first, 0x80 | 126}, uint16(len(payload)))
		}
		return append(append(p, 0, 0, 0, 0), payload...)
	}
	big := strings.Repeat("x", 5_000_000)
	write := func(frames ...[]byte) {
		if _, err := conn.Write(bytes.Join(frames, nil)); err != nil {
			t.Error(err)
		}
	}
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() {
		write(
			masked(0x81, `{"id":"1","method":"auth.jwt","params":{"token":"`+tokenOf1+`"}}`),
			masked(0x02, `{"id":"2","method":"echo","params":"`), masked(0x00, big), masked(0x80, `"}`),
		)
	})
	want := "\x81\x19" + `{"id":"1","result":"ACK"}` + "\x81\x7f" + string(binary.BigEndian.AppendUint64(nil, 22+5_000_000)) + `{"id":"2","result":"` + big + `"}`
	got := make([]byte, len(want)-1)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want[:len(got)] {
		t.Fatalf("got %.100q and %v", got, err)
	}
	write(masked(0x88, "\x00\x00"))
	if rest, err := io.ReadAll(conn); err != nil || string(rest) != want[len(got):]+"\x88\x02\x03\xe8" {
		t.Errorf("got %q and %v in the end", rest, err)
	}
}

// With a known secret the server is for this machine only.
func TestTitanTestIsForThisMachine(t *testing.T) {
	for name, change := range map[string]func(*server.Config){
		"http":  func(c *server.Config) { c.HTTP.Listen, c.HTTP.OpenToNetwork = ":0", true },
		"admin": func(c *server.Config) { c.HTTP.Admin, c.HTTP.AdminOpen = ":0", true },
		"test":  func(c *server.Config) { c.Titan.TestListen = ":3001" },
	} {
		c := server.Default()
		c.Titan.Test = true
		change(&c)
		if err := c.Validate(); !errors.Is(err, parley.ErrInvalid) || !strings.Contains(err.Error(), "titan-test") {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := servertest.Start(t, titanTest)
	base := strings.Replace(s.URL, "http", "ws", 1)
	c, err := wire.Dial(t.Context(), base, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(0, "")
	if got := say(t, c, true, `{"id":"1","method":"auth.jwt","params":{"token":"`+tokenOf1+`"}}`); len(got) != 1 || !strings.Contains(got[0], `"error"`) {
		t.Errorf("at another listener: %q", got)
	}
}

// npm's ws is a client that is not ours.
func TestTitanForNPM(t *testing.T) {
	if err := exec.CommandContext(t.Context(), "node", "-e", "require('ws')").Run(); err != nil {
		require.Missing(t, "node", "node with the npm package ws in NODE_PATH: "+err.Error())
	}
	s := servertest.Start(t, titanTest)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "node", "testdata/titan.cjs", "ws://"+s.TitanTest, tokenOf1, tokenOf2).CombinedOutput()
	if err != nil || string(out) != "ok\n" {
		t.Errorf("%v\n%s", err, out)
	}
}

// The variables that the Titan server had are there.
func TestTitanVariables(t *testing.T) {
	s := servertest.Start(t, titanTest)
	titanAs(t, s.TitanTest, tokenOf1).send("a")
	two := titanAs(t, s.TitanTest, tokenOf2)
	two.delivery("a")
	got := body(t, "http://"+s.TitanTest+"/debug/vars")
	for _, want := range []string{`"conns":2,`, `"receivers":2,`, `"requests":0,`, `"responses":0,`, `"queue-length":1,`, `"users":2`} {
		if !strings.Contains(got, want) {
			t.Errorf("the variables lack %s", want)
		}
	}
}

// Among them are the answers of clients that are not durable yet: they come to
// that with others, soon, so one of many is seen.
func TestTitanVariableResponses(t *testing.T) {
	s := servertest.Start(t, titanTest)
	one, two := titanAs(t, s.TitanTest, tokenOf1), titanAs(t, s.TitanTest, tokenOf2)
	responses := func() string {
		t.Helper()
		m := regexp.MustCompile(`"responses":(\d+),`).FindStringSubmatch(body(t, "http://"+s.TitanTest+"/debug/vars"))
		if m == nil {
			t.Fatal("the variables lack the responses")
		}
		return m[1]
	}
	eventually(t, "an answer is seen on its way", func() bool {
		one.send("a")
		two.answer(two.delivery("a"), "ACK")
		two.silence() // it has been heard
		return responses() != "0"
	})
	eventually(t, "all answers are durable", func() bool { return responses() == "0" })
}
