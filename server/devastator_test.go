package server_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley/internal/wire"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// framed is frames as a client writes them.
func framed(payloads ...string) []byte {
	var p []byte
	for _, payload := range payloads {
		p = append(binary.LittleEndian.AppendUint32(p, uint32(len(payload))), payload...)
	}
	return p
}

// devastatorFrames is what comes until the connection ends.
func devastatorFrames(t *testing.T, conn net.Conn) []string {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	all, err := io.ReadAll(conn)
	if err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("it does not end: %v", err)
	}
	var frames []string
	for len(all) >= 4 {
		n := int(binary.LittleEndian.Uint32(all))
		if len(all) < 4+n {
			t.Fatalf("half a frame: %q", all)
		}
		frames, all = append(frames, string(all[4:4+n])), all[4+n:]
	}
	return frames
}

// Whatever killed the original costs nobody else anything: a client that is
// connected all the while is answered after each. Ended is what the culprit is
// told before its connection ends.
func TestDevastatorSurvives(t *testing.T) {
	dir, ca := authority(t)
	_, foreign := authority(t)
	s := servertest.Start(t, devastator(t, dir, ca))
	bystander := dialLength(t, s.Devastator, holding(t, ca, "2"))
	answered := func() {
		t.Helper()
		if got := say(t, bystander, true, titanProbe); !slices.Equal(got, []string{`{"id":"probe","result":"ACK"}`}) {
			t.Errorf("the bystander got %q", got)
		}
	}
	answered()
	raw := func() net.Conn {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Devastator)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	secure := func(config *tls.Config) net.Conn {
		c := tls.Client(raw(), config)
		if err := c.HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		return c
	}
	known := holding(t, ca, "1")
	const refused = `"error":{"code":-32602,`
	for name, test := range map[string]struct {
		connect func() net.Conn
		sends   []byte
		leaves  bool // the client does, at once
		told    string
	}{
		"plain HTTP":          {connect: raw, sends: []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")},
		"a port scan":         {connect: raw, leaves: true},
		"garbage":             {connect: raw, sends: bytes.Repeat([]byte{0xff, 0}, 5000)},
		"half a handshake":    {connect: raw, sends: []byte{0x16, 3, 1, 2, 0, 1}, leaves: true},
		"cut in the header":   {connect: func() net.Conn { return secure(known) }, sends: []byte{9, 0}, leaves: true},
		"cut in a frame":      {connect: func() net.Conn { return secure(known) }, sends: framed(`{"id":"1"}`)[:8], leaves: true},
		"the largest length":  {connect: func() net.Conn { return secure(known) }, sends: []byte{0xff, 0xff, 0xff, 0xff}},
		"without certificate": {connect: func() net.Conn { return secure(holding(t, ca, "")) }, sends: []byte{0, 0, 1, 0}},
		"no length":           {connect: func() net.Conn { return secure(known) }, sends: framed("")},
		"no JSON":             {connect: func() net.Conn { return secure(known) }, sends: framed("hello")},
		"an array as params":  {connect: func() net.Conn { return secure(known) }, sends: framed(`{"id":"1","method":"msg.send","params":[]}`), told: refused},
		"a number as to":      {connect: func() net.Conn { return secure(known) }, sends: framed(`{"id":"1","method":"msg.send","params":{"to":1}}`), told: refused},
		"Google":              {connect: func() net.Conn { return secure(holding(t, ca, "")) }, sends: framed(`{"id":"1","method":"auth.google","params":{"accessToken":"x"}}`), told: `"error":`},
		"a silent end":        {connect: func() net.Conn { return secure(known) }, sends: framed(titanProbe), leaves: true},
	} {
		t.Run(name, func(t *testing.T) {
			conn := test.connect()
			defer conn.Close()
			if _, err := conn.Write(test.sends); err != nil {
				t.Fatal(err)
			}
			if test.leaves {
				if c, ok := conn.(*tls.Conn); ok {
					conn = c.NetConn() // without TLS's goodbye
				}
				_ = conn.(*net.TCPConn).SetLinger(0)
				_ = conn.Close()
			} else if told := strings.Join(ended(t, conn), ""); !strings.Contains(told, test.told) || test.told == "" && told != "" {
				t.Errorf("told %q", told)
			}
			answered()
		})
	}
	for name, config := range map[string]*tls.Config{
		"a foreign certificate": {RootCAs: ca.Pool(), ServerName: "127.0.0.1", Certificates: holding(t, foreign, "1").Certificates},
		"TLS 1.1":               {RootCAs: ca.Pool(), ServerName: "127.0.0.1", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
		"CBC": {
			RootCAs: ca.Pool(), ServerName: "127.0.0.1", MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := tls.Client(raw(), config)
			defer c.Close()
			err := c.HandshakeContext(t.Context())
			if err == nil { // in TLS 1.3 a client learns it with the first answer
				_, err = c.Read(make([]byte, 1))
			}
			if err == nil || errors.Is(err, io.EOF) {
				t.Errorf("the handshake: %v", err)
			}
			answered()
		})
	}
	if !strings.Contains(body(t, s.URL+"/admin/metrics"), "\nparley_panics_total 0\n") {
		t.Error("there was a panic")
	}
}

// ended is what a connection that the server ends was told: whole frames, or
// for one that never was TLS whatever it is.
func ended(t *testing.T, conn net.Conn) []string {
	t.Helper()
	if _, ok := conn.(*tls.Conn); ok {
		return devastatorFrames(t, conn)
	}
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("it does not end: %v", err)
	}
	return nil
}

// body is what a GET answers.
func body(t *testing.T, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// A frame is read in whatever pieces it comes, and in big endian where the server
// is told so.
func TestDevastatorFrames(t *testing.T) {
	dir, ca := authority(t)
	s := servertest.Start(t, devastator(t, dir, ca))
	c, err := (&tls.Dialer{Config: holding(t, ca, "1")}).DialContext(t.Context(), "tcp", s.Devastator)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range framed(titanProbe) {
		if _, err := c.Write([]byte{b}); err != nil { // a record each
			t.Fatal(err)
		}
	}
	if _, err := c.Write(framed(titanProbe, `{"id":1,"method":"msg.echo","params":"`+strings.Repeat("x", 1_000_000)+`"}`, `{"method":"conn.close"}`)); err != nil {
		t.Fatal(err)
	}
	got := devastatorFrames(t, c)
	if len(got) != 3 || got[0] != `{"id":"probe","result":"ACK"}` || got[1] != got[0] {
		t.Errorf("got %d frames", len(got))
	}

	big := servertest.Start(t, devastator(t, dir, ca), func(c *server.Config) { c.Titan.DevastatorOrder = server.BigEndian })
	c, err = (&tls.Dialer{Config: holding(t, ca, "1")}).DialContext(t.Context(), "tcp", big.Devastator)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(append([]byte{0, 0, 0, byte(len(titanProbe))}, titanProbe...)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 4+len(`{"id":"probe","result":"ACK"}`))
	if _, err := io.ReadFull(c, answer); err != nil || answer[3] != byte(len(answer)-4) {
		t.Errorf("got %q and %v", answer, err)
	}
}

// A certificate is a device: what it has not acknowledged comes again under the
// same id, also after a restart, and a newer connection takes an older one's
// place. The answer to the request that announces the client comes first, even
// when it is a message. The ids are those that Titan's clients of the user see.
func TestDevastatorRedelivers(t *testing.T) {
	dir, ca := authority(t)
	store := t.TempDir()
	s := servertest.Start(t, devastator(t, dir, ca), servertest.Dir(store), titanTest)
	phone := holding(t, ca, "2")
	one := dialLength(t, s.Devastator, holding(t, ca, "1"))
	if got := say(t, one, true, `{"id":"s","method":"msg.send","params":{"to":"2","message":"a"}}`); !slices.Equal(got, []string{`{"id":"s","result":"ACK"}`}) {
		t.Fatalf("got %q", got)
	}
	delivery := regexp.MustCompile(`^\{"id":"([\w-]{22})","method":"msg.recv","params":\{"from":"1","message":"a"\}\}$`)
	announce := func(c *wire.Length) (id string) {
		t.Helper()
		got := say(t, c, true, `{"id":"x","method":"msg.send","params":{"to":"3","message":"b"}}`)
		if len(got) < 2 {
			frames, err := c.Read()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range frames {
				got = append(got, string(f.Payload))
			}
		}
		m := delivery.FindStringSubmatch(got[1])
		if len(got) != 2 || got[0] != `{"id":"x","result":"ACK"}` || m == nil {
			t.Fatalf("got %q", got)
		}
		return m[1]
	}
	first := dialLength(t, s.Devastator, phone)
	id := announce(first)
	if again := announce(dialLength(t, s.Devastator, phone)); again != id {
		t.Errorf("on another connection it comes as %s, not %s", again, id)
	}
	if _, err := first.Read(); err == nil {
		t.Error("the older connection of the same certificate goes on")
	}
	if other := titanAs(t, s.TitanTest, tokenOf2).delivery("a"); other != id {
		t.Errorf("over Titan it comes as %s, not %s", other, id)
	}
	s.Stop()
	s = servertest.Start(t, devastator(t, dir, ca), servertest.Dir(store))
	again := dialLength(t, s.Devastator, phone)
	if got := announce(again); got != id {
		t.Errorf("after a restart it comes as %s, not %s", got, id)
	}
	if err := again.Write(framed(`{"id":"` + id + `","result":"ACK"}`)); err != nil {
		t.Fatal(err)
	}
	if got := say(t, again, true, titanProbe); !slices.Equal(got, []string{`{"id":"probe","result":"ACK"}`}) {
		t.Errorf("after the acknowledgement: %q", got)
	}
	last := dialLength(t, s.Devastator, phone)
	for range 2 {
		if got := say(t, last, true, titanProbe); !slices.Equal(got, []string{`{"id":"probe","result":"ACK"}`}) {
			t.Errorf("what was acknowledged: %q", got)
		}
	}
}
