package security_test

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/server/servertest"
)

// titanDialect is one of Titan's two, in a world where Ann may send to Bob.
type titanDialect struct {
	name string
	dial func(t *testing.T) *rpc // as nobody
	// known is somebody who has connected, and what to say first; letter is a
	// letter to Bob as this dialect's clients write it.
	known  func(t *testing.T) (c *rpc, first string)
	letter func(text string) string
	// code is with which a connection ends, and tooBig for a frame that is; there
	// are none over TLS.
	code, tooBig uint16
}

// titanDialects are both, in one world.
func titanDialects(t *testing.T, options ...servertest.Option) (*world, []titanDialect) {
	t.Helper()
	dir, ca := servertest.NewAuthority(t)
	w := newWorld(t, append(options, servertest.WithDevastator(t, dir, ca))...)
	operate(t, w, "POST", "/v1/users", `{"user":"ann","grants":["send:/$inbox/bob"]}`)
	good := w.token(t, "ann")
	return w, []titanDialect{
		{
			"titan",
			func(t *testing.T) *rpc { return w.titan(t, "") },
			func(t *testing.T) (*rpc, string) {
				return w.titan(t, ""), `{"id":"s","method":"auth.jwt","params":{"token":"` + good + `"}}`
			},
			func(text string) string {
				return `{"id":"s","method":"msg.send","params":[{"to":"bob","message":"` + text + `"}]}`
			},
			wire.CloseNormal, wire.CloseTooBig,
		},
		{
			"devastator",
			func(t *testing.T) *rpc { return w.devastator(t, servertest.Holding(t, ca, "")) },
			func(t *testing.T) (*rpc, string) {
				return w.devastator(t, servertest.Holding(t, ca, "ann")), `{"id":"s","method":"auth.cert"}`
			},
			func(text string) string {
				return `{"id":"s","method":"msg.send","params":{"to":"bob","message":"` + text + `"}}`
			},
			0, 0,
		},
	}
}

// TestBeforeAuthenticationByTitan (S1): whoever has not said who they are gets
// nothing done by Titan's dialects either, and is sent away.
func TestBeforeAuthenticationByTitan(t *testing.T) {
	t.Parallel()
	w, dialects := titanDialects(t, quiet)
	for _, d := range dialects {
		letter := d.letter("before")
		_, first := d.known(t)
		for name, tt := range map[string]struct {
			frames []string
			told   string // in what is told before the end
		}{
			"a letter":             {[]string{letter}, `"code":-32001`},
			"a letter, no id":      {[]string{strings.Replace(letter, `"id":"s",`, "", 1)}, ""},
			"a batch":              {[]string{"[" + strings.Join(slices.Repeat([]string{letter}, 20), ",") + "]"}, ""},
			"a batch of one":       {[]string{"[" + letter + "]"}, ""},
			"an empty batch":       {[]string{"[]", letter}, ""},
			"echo":                 {[]string{`{"id":"s","method":"echo","params":{"message":"x"}}`}, `"code":-32001`},
			"ping":                 {[]string{`{"id":"s","method":"ping"}`, letter}, `"code":-32001`},
			"an acknowledgement":   {[]string{`{"id":"AAAAAAAAAAAAAAAAAAAAAA","result":"ACK"}`, letter}, ""},
			"nonsense":             {[]string{"nonsense", letter}, ""},
			"a wrong token":        {[]string{`{"id":"s","method":"auth.jwt","params":{"token":"a.b.c"}}`, letter}, `"error"`},
			"a wrong ID token":     {[]string{`{"id":"s","method":"auth.google","params":{"token":"a.b.c","accessToken":"a.b.c"}}`, letter}, `"error"`},
			"a claim":              {[]string{`{"id":"s","method":"auth.jwt","params":{"user":"ann","userid":"ann"}}`, letter}, `"error"`},
			"a certificate's name": {[]string{`{"id":"s","method":"auth.cert","params":{"cert":"ann"}}`, letter}, `"error"`},
			"too big":              {[]string{`{"id":"s","method":"ping","params":"` + strings.Repeat("x", 8<<10) + `"}`}, ""},
			"too big a letter":     {[]string{d.letter(strings.Repeat("x", 8<<10))}, ""},
		} {
			t.Run(d.name+", "+name, func(t *testing.T) {
				t.Parallel()
				c := d.dial(t)
				var all []byte
				for _, f := range tt.frames {
					all = c.conn.AppendFrame(all, true, []byte(f))
				}
				_ = c.conn.Write(all) // all at once; the server may have closed by the end of it
				began := time.Now()
				code, told := c.expectClose()
				if code != d.code && code != d.tooBig || !strings.Contains(told, tt.told) || strings.Contains(told, `"result"`) {
					t.Errorf("closed with %d after %s", code, told)
				}
				if took := time.Since(began); took > 3*time.Second { // what is wrong is not waited for
					t.Errorf("the end comes after %v", took)
				}
			})
		}
		// A good credential, and all that follows in the same packet, however large.
		t.Run(d.name+", pipelined", func(t *testing.T) {
			c, _ := d.known(t)
			var all []byte
			for _, f := range []string{first, d.letter("1"), d.letter(strings.Repeat("x", 100<<10)), `{"id":"s","method":"ping"}`} {
				all = c.conn.AppendFrame(all, true, []byte(f))
			}
			if err := c.conn.Write(all); err != nil {
				t.Fatal(err)
			}
			for range 4 {
				if p, err := c.read(); err != nil || string(p) != `{"id":"s","result":"ACK"}` {
					t.Fatalf("%.200s, %v", p, err)
				}
			}
		})
	}
	t.Cleanup(func() { // when all of these are over
		got := w.ask(t, "GET /v1/inbox", w.token(t, "bob"), "")
		if n := strings.Count(got.body, `"seq"`); n != 4 || strings.Contains(got.body, "before") {
			t.Errorf("bob has %d letters: %.500s", n, got.body)
		}
	})
}

// TestDeclaredBeforeAuthentication (S1, S7): a frame that is too large for a
// stranger is refused by its length, before it comes.
func TestDeclaredBeforeAuthentication(t *testing.T) {
	t.Parallel()
	dir, ca := servertest.NewAuthority(t)
	w := newWorld(t, quiet, servertest.WithDevastator(t, dir, ca))
	for _, length := range []uint32{8<<10 + 1, 1 << 20, 1 << 31, 1<<32 - 1} {
		c, err := tls.Dial("tcp", w.Devastator, servertest.Holding(t, ca, ""))
		if err != nil {
			t.Fatal(err)
		}
		if took, _ := overSlowly(c, bufio.NewReader(c), binary.LittleEndian.AppendUint32(nil, length), ""); took > 3*time.Second {
			t.Errorf("devastator waits %v for %d bytes", took, length)
		}
	}
	for _, path := range []string{"/", "/v1/rpc"} {
		c, r, err := handshake(strings.TrimPrefix(w.URL, "http://"), path)
		if err != nil {
			t.Fatal(err)
		}
		if took, _ := overSlowly(c, r, []byte("\x81\xfe\x20\x01\x00\x00\x00\x00"), ""); took > 3*time.Second {
			t.Errorf("%s waits %v", path, took)
		}
	}
}

// TestSilenceOverTLS (S1, S10): who says nothing to Devastator's listener, or says
// it slowly, has 5 seconds, whether or not a certificate was shown.
func TestSilenceOverTLS(t *testing.T) {
	t.Parallel()
	dir, ca := servertest.NewAuthority(t)
	w := newWorld(t, quiet, servertest.WithDevastator(t, dir, ca))
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for _, user := range []string{"", "ann"} {
		config := servertest.Holding(t, ca, user)
		for name, says := range map[string][2]string{
			"nothing": {}, "half a length": {"\x40\x00", ""}, "a message, byte by byte": {"\xff\x00\x00\x00", "x"},
		} {
			waiting.Go(func() {
				began := time.Now()
				c, err := tls.Dial("tcp", w.Devastator, config)
				if err != nil {
					t.Error(err)
					return
				}
				took, err := overSlowly(c, bufio.NewReader(c), []byte(says[0]), says[1])
				if all := time.Since(began); err != nil || all < 5*time.Second || took > 9*time.Second { // it looks every 2.5 s
					t.Errorf("%s by %q: the server ends it after %v, %v after it began: %v; want 5 s", name, user, took, all, err)
				}
			})
		}
	}
}
