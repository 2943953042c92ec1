package people_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley/internal/wire"
)

// oldClient is a client of Titan's or Devastator's. It reads a user's letters and
// acknowledges most of them, writes to another user, and judges what it gets.
type oldClient struct {
	t        *testing.T
	name, to string // the user's, and to whom they write
	dial     func(ctx context.Context) (wire.Conn, error)
	first    string // what it says first
	params   string // how it sends: a format
	random   *rand.Rand

	ids   map[string]string // of what it got, by text
	heard map[string]bool   // ids of which the server has heard the acknowledgement
	sent  []string          // what was acknowledged to it
	asked int               // how often it has sent
}

// newTitan is a client of Titan's.
func newTitan(s *server, user, to string, seed uint64) *oldClient {
	c := newOld(s.t, user, to, seed)
	c.first = `{"id":"j","method":"auth.jwt","params":{"token":"` + s.run("token", "issue", user) + `"}}`
	c.params = `[{"to":%q,"message":%q}]`
	c.dial = func(ctx context.Context) (wire.Conn, error) { return wire.Dial(ctx, "ws://"+s.address, nil) }
	return c
}

// newDevastator is a client of Devastator's, with a certificate of the CA in ca.
func newDevastator(s *server, ca, user, to string, seed uint64) *oldClient {
	t := s.t
	t.Helper()
	c := newOld(t, user, to, seed)
	c.first, c.params = `{"id":"j","method":"msg.recv"}`, `{"to":%q,"message":%q}`
	cert, key := filepath.Join(ca, user+".crt"), filepath.Join(ca, user+".key")
	command(t, "ca", "issue", user, "--dir", ca, "--cert", cert, "--key", key)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.ReadFile(filepath.Join(ca, "root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	d := tls.Dialer{Config: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}
	c.dial = func(ctx context.Context) (wire.Conn, error) {
		all := regexp.MustCompile(`devastator (\S+), with TLS`).FindAllStringSubmatch(s.log.String(), -1)
		conn, err := d.DialContext(ctx, "tcp", all[len(all)-1][1])
		if err != nil {
			return nil, err
		}
		return wire.NewLength(conn, &wire.LengthConfig{Keeper: &wire.Keeper{}}), nil
	}
	return c
}

func newOld(t *testing.T, user, to string, seed uint64) *oldClient {
	return &oldClient{
		t: t, name: user, to: to, random: rand.New(rand.NewPCG(seed, seed)),
		ids: map[string]string{}, heard: map[string]bool{},
	}
}

// oldFrame is a message of theirs.
type oldFrame struct {
	ID, Method string
	Result     json.RawMessage
	Error      json.RawMessage
	Params     json.RawMessage
}

// visit connects, and reads until the connection ends, with the error of that, or
// enough says so. It sends as long as sends says.
func (c *oldClient) visit(ctx context.Context, settle bool, sends int, enough func() bool) error {
	conn, err := c.dial(ctx)
	if err != nil {
		c.t.Errorf("%s: %v", c.name, err)
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close(wire.CloseNormal, "") })
	defer stop()
	defer func() { _ = conn.Close(wire.CloseNormal, "") }()
	say := func(texts ...string) {
		var p []byte
		for _, text := range texts {
			p = conn.AppendFrame(p, true, []byte(text))
		}
		_ = conn.Write(p) // if that fails, reading says why
	}
	send := func() {
		if sends--; sends >= 0 {
			text := fmt.Sprintf("%s-%d", c.name, c.asked)
			say(fmt.Sprintf(`{"id":"s %s","method":"msg.send","params":`+c.params+`}`, text, c.to, text))
			c.asked++
		}
	}
	say(c.first)
	send()
	for !enough() {
		frames, err := conn.Read()
		if err != nil {
			return err
		}
		for _, f := range frames {
			var m oldFrame
			if err := json.Unmarshal(f.Payload, &m); err != nil {
				return err
			}
			kind, what, _ := strings.Cut(m.ID, " ")
			switch {
			case m.Method == "msg.recv":
				if c.take(&m) && (settle || c.random.IntN(8) > 0) {
					say(fmt.Sprintf(`{"id":%q,"result":"ACK"}`, m.ID), fmt.Sprintf(`{"id":"p %s","method":"ping"}`, m.ID))
				}
			case string(m.Result) == `"ACK"` && kind == "s":
				c.sent = append(c.sent, what)
				send()
			case kind == "p" && (string(m.Result) == `"ACK"` || strings.Contains(string(m.Error), "-32601")): // Devastator has no ping
				c.heard[what] = true
			case kind == "s" && strings.Contains(string(m.Error), "-32005"): // it stops
			case m.ID != "j":
				c.t.Errorf("%s got %s", c.name, f.Payload)
			}
		}
	}
	return nil
}

// take judges a delivery, and reports whether it is one.
func (c *oldClient) take(m *oldFrame) bool {
	var one struct{ From, Message string }
	if err := json.Unmarshal([]byte(strings.Trim(string(m.Params), "[]")), &one); err != nil {
		c.t.Errorf("%s got %s, %v", c.name, m.Params, err)
		return false
	}
	switch id, again := c.ids[one.Message]; {
	case again && id != m.ID:
		c.t.Errorf("%s: %q came as %s and %s", c.name, one.Message, id, m.ID)
	case c.heard[m.ID]:
		c.t.Errorf("%s: %q came again although the server had heard its acknowledgement", c.name, one.Message)
	}
	c.ids[one.Message] = m.ID
	return true
}

// lacks is a text that it should have by now and has not, or empty.
func (c *oldClient) lacks(n int, from *oldClient) string {
	for i := range n {
		if text := fmt.Sprintf("letter %d", i); c.ids[text] == "" {
			return text
		}
	}
	for _, text := range from.sent {
		if c.ids[text] == "" {
			return text
		}
	}
	return ""
}

// stopped reports whether a connection ended as it does when the server stops.
func (c *oldClient) stopped(err error) bool {
	if closed, ok := errors.AsType[*wire.CloseError](err); ok {
		return closed.Code == wire.CloseRestart
	}
	return errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF)
}

// patience bounds each wait.
const patience = 30 * time.Second
