package security_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// patience bounds every wait for what should be at once.
const patience = 10 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a server that asks everybody for a credential.
type world struct {
	*servertest.Server

	log *logbook
}

func newWorld(t *testing.T, options ...servertest.Option) *world {
	t.Helper()
	log := new(logbook)
	all := append([]servertest.Option{func(c *server.Config) {
		c.Access.Required = true
		c.Logger = slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}}, options...)
	return &world{servertest.Start(t, all...), log}
}

// logbook is a log in memory.
type logbook struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// answer is what an HTTP request is answered.
type answer struct {
	status int
	header http.Header
	body   string
}

// ask makes one HTTP request, a method and a path, with a Bearer credential unless
// secret is empty.
func (w *world) ask(t testing.TB, what, secret, body string, headers ...string) answer {
	t.Helper()
	method, path, _ := strings.Cut(what, " ")
	r, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, w.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if secret != "" {
		r.Header.Set("Authorization", "Bearer "+secret)
	}
	if strings.HasPrefix(body, "{") {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	c := http.Client{
		Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return answer{resp.StatusCode, resp.Header, ""}
	}
	p, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, string(p)}
}

// eventually asks again and again until it is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !so(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("never: %s", what)
		}
	}
}

// key is an API key, made by an operator of this machine.
type key struct{ ID, Secret string }

func (w *world) key(t testing.TB, user string, grants []string, more string) key {
	t.Helper()
	list, err := json.Marshal(append([]string{}, grants...))
	if err != nil {
		t.Fatal(err)
	}
	got := w.ask(t, "POST /v1/keys", "", `{"user":"`+user+`","grants":`+string(list)+more+`}`)
	var made struct {
		Key    string `json:"key"`
		Secret string `json:"secret"`
	}
	if err := json.Unmarshal([]byte(got.body), &made); err != nil || made.Secret == "" {
		t.Fatalf("a key for %s is answered %d %s", user, got.status, got.body)
	}
	return key{made.Key, made.Secret}
}

// token is a token of a user, which this server has issued.
func (w *world) token(t testing.TB, user string) string {
	t.Helper()
	got := w.ask(t, "POST /v1/users/"+user+"/tokens", "", `{"ttl":"1h"}`)
	var made struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal([]byte(got.body), &made); err != nil || made.Token == "" {
		t.Fatalf("a token for %s is answered %d %s", user, got.status, got.body)
	}
	return made.Token
}

// rpc is a connection that speaks the native protocol in the raw.
type rpc struct {
	t    testing.TB
	conn wire.Conn
	next int
	rest [][]byte
}

// dial connects; the secret, unless it is empty, is shown at the handshake.
func (w *world) dial(t testing.TB, path, secret string) (*wire.WebSocket, error) {
	t.Helper()
	h := http.Header{}
	if secret != "" {
		h.Set("Authorization", "Bearer "+secret)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := wire.Dial(ctx, w.URL+path, h)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = c.Close(wire.CloseNormal, "") })
	stop := time.AfterFunc(9*patience, func() { _ = c.Close(wire.CloseNormal, "test took too long") })
	t.Cleanup(func() { stop.Stop() })
	return c, nil
}

func (w *world) rpc(t testing.TB, secret string) *rpc {
	t.Helper()
	c, err := w.dial(t, "/v1/rpc", secret)
	if err != nil {
		t.Fatal(err)
	}
	return &rpc{t: t, conn: c}
}

// say sends one frame of text.
func (c *rpc) say(text string) error {
	return c.conn.Write(c.conn.AppendFrame(nil, true, []byte(text)))
}

// message is a JSON-RPC message.
type message struct {
	ID     *int            `json:"id"`
	Method string          `json:"method"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Data    struct {
			Kind    string `json:"kind"`
			Code    string `json:"code"`
			RetryMS int    `json:"retry_ms"`
		} `json:"data"`
	} `json:"error"`
	Params json.RawMessage `json:"params"`
}

// read is the next frame.
func (c *rpc) read() ([]byte, error) {
	for len(c.rest) == 0 {
		frames, err := c.conn.Read()
		if err != nil {
			return nil, err
		}
		for _, f := range frames {
			c.rest = append(c.rest, []byte(string(f.Payload)))
		}
	}
	p := c.rest[0]
	c.rest = c.rest[1:]
	return p, nil
}

// call asks and waits for the answer; events meanwhile are forgotten.
func (c *rpc) call(method, params string) (message, error) {
	c.t.Helper()
	c.next++
	id := c.next
	ask, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": json.RawMessage(params)})
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.say(string(ask)); err != nil {
		return message{}, err
	}
	for {
		p, err := c.read()
		if err != nil {
			return message{}, err
		}
		var m message
		if err := json.Unmarshal(p, &m); err != nil {
			c.t.Fatalf("not JSON: %q", p)
		}
		if m.ID != nil && *m.ID == id {
			return m, nil
		}
	}
}

// kind is the kind of error of an answer, or empty.
func (m *message) kind() string {
	if m.Error == nil {
		return ""
	}
	return m.Error.Data.Kind
}

// expectClose reads until the server closes, and returns the code.
func (c *rpc) expectClose() (code uint16, told string) {
	c.t.Helper()
	var b strings.Builder
	for {
		p, err := c.read()
		if err == nil {
			b.Write(p)
			b.WriteByte('\n')
			continue
		}
		closed, ok := errors.AsType[*wire.CloseError](err)
		if !ok {
			return 0, b.String()
		}
		return closed.Code, b.String()
	}
}

// quiet keeps the log from being a test's bottleneck.
func quiet(c *server.Config) { c.Logger = slog.New(slog.DiscardHandler) }
