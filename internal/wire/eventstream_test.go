package wire_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/wire"
)

// streams serves event streams that run session, and notes how each ended.
type streams struct {
	addr  string
	ended chan error
}

func serveStreams(t *testing.T, cfg *wire.Config, secure bool, session func(*wire.EventStream) error) *streams {
	t.Helper()
	if cfg.Keeper == nil {
		cfg.Keeper = new(wire.Keeper)
	}
	s := &streams{ended: make(chan error, 1000)}
	var running sync.WaitGroup
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Around", "kept")
		conn, err := wire.OpenEventStream(w, r, cfg)
		if err != nil {
			if errors.Is(err, parley.ErrForbidden) || errors.Is(err, parley.ErrInvalid) {
				http.Error(w, err.Error(), http.StatusTeapot)
			}
			s.ended <- err
			return
		}
		running.Go(func() {
			defer conn.Close(wire.CloseInternal, "")
			s.ended <- session(conn)
		})
	}))
	if secure {
		server.StartTLS()
	} else {
		server.Start()
	}
	s.addr = server.Listener.Addr().String()
	t.Cleanup(func() {
		running.Wait()
		server.Close()
		if n := cfg.Keeper.Watched(); n != 0 {
			t.Errorf("the Keeper still watches %d connections", n)
		}
	})
	return s
}

// err is how the next stream ended.
func (s *streams) err(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("the stream goes on")
		return nil
	}
}

// ask sends a request by hand.
func (s *streams) ask(t *testing.T, request string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

func get(version, header string) string {
	return "GET / HTTP/" + version + "\r\nHost: 127.0.0.1\r\n" + header + "\r\n"
}

// tellHello writes two events and then reads.
func tellHello(s *wire.EventStream) error {
	out := s.AppendFrame(nil, true, []byte("data: hello\n\n"))
	out = s.AppendFrame(out, true, nil) // nothing, and not the end
	if err := s.Write(s.AppendFrame(out, true, []byte("data: again\n\n"))); err != nil {
		return err
	}
	_, err := s.Read()
	return err
}

// Both versions of HTTP get the same events, each in its own framing, and the
// header says what browsers and proxies have to know.
func TestEventStreamAnswers(t *testing.T) {
	t.Parallel()
	server := serveStreams(t, &wire.Config{}, false, func(s *wire.EventStream) error {
		if err := s.Write(s.AppendFrame(nil, true, []byte("data: hello\n\n"))); err != nil {
			return err
		}
		return s.Close(wire.CloseNormal, "")
	})
	for version, encoding := range map[string]string{"1.0": "", "1.1": "chunked"} {
		conn, r := server.ask(t, get(version, "Origin: http://127.0.0.1\r\n"))
		res, err := http.ReadResponse(r, nil) //nolint:bodyclose // the connection is closed instead
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || string(body) != "data: hello\n\n" {
			t.Errorf("HTTP/%s: body %q, %v", version, body, err)
		}
		if got := strings.Join(res.TransferEncoding, ","); got != encoding || res.Proto != "HTTP/"+version || !res.Close || res.StatusCode != http.StatusOK {
			t.Errorf("HTTP/%s: %s %d, encoding %q, close %v", version, res.Proto, res.StatusCode, got, res.Close)
		}
		for name, want := range map[string]string{
			"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff",
			"Access-Control-Allow-Origin": "http://127.0.0.1", "Vary": "Origin", "X-Around": "kept",
		} {
			if got := res.Header.Get(name); got != want {
				t.Errorf("HTTP/%s: %s is %q, want %q", version, name, got, want)
			}
		}
		if _, err := http.ParseTime(res.Header.Get("Date")); err != nil {
			t.Errorf("HTTP/%s: %v", version, err)
		}
		conn.Close()
		if err := server.err(t); err != nil {
			t.Errorf("HTTP/%s: %v", version, err)
		}
	}
}

// What is refused is left to the caller to answer.
func TestEventStreamRefuses(t *testing.T) {
	t.Parallel()
	server := serveStreams(t, &wire.Config{Policy: wire.Policy{Open: true}}, false, tellHello)
	for request, want := range map[string]error{
		get("1.1", "Origin: https://evil.example\r\n"):                 parley.ErrForbidden,
		get("1.1", "Origin: null\r\n"):                                 parley.ErrForbidden,
		"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n":                 parley.ErrForbidden,
		get("1.1", "Content-Length: 1\r\n") + "x":                      parley.ErrInvalid,
		get("1.1", "Transfer-Encoding: chunked\r\n") + "0\r\n\r\n":     parley.ErrInvalid,
		get("1.1", "Origin: http://localhost\r\nOrigin: http://a\r\n"): parley.ErrForbidden,
	} {
		_, r := server.ask(t, request)
		res, err := http.ReadResponse(r, nil) //nolint:bodyclose // the connection is closed instead
		if err != nil || res.StatusCode != http.StatusTeapot {
			t.Errorf("%q: %+v, %v", request, res, err)
		}
		if err := server.err(t); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", request, err, want)
		}
	}
}

// The peer has gone when its connection has, whatever it sent before; only so
// much of that is borne.
func TestEventStreamPeerLeaves(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		server := serveStreams(t, &wire.Config{}, secure, tellHello)
		for name, c := range map[string]struct {
			more string
			want string
		}{
			"at once":                {"", "wire: closed with 1005"},
			"after another request":  {get("1.1", ""), "wire: closed with 1005"},
			"after more than enough": {strings.Repeat("x", wire.MaxUnasked+1), `wire: closed with 1008 "sends what nobody asked for"`},
		} {
			res, conn := openOver(t, server, secure)
			got := make([]byte, len("data: hello\n\ndata: again\n\n"))
			if _, err := io.ReadFull(res, got); err != nil || string(got) != "data: hello\n\ndata: again\n\n" {
				t.Fatalf("%s: %q, %v", name, got, err)
			}
			if _, err := io.WriteString(conn, c.more); err != nil {
				t.Fatal(err)
			}
			if len(c.more) <= wire.MaxUnasked {
				conn.Close()
			}
			if err := server.err(t); err == nil || err.Error() != c.want {
				t.Errorf("%s, TLS %v: %v, want %s", name, secure, err, c.want)
			}
		}
	}
}

// openOver asks for a stream, and returns its body and the connection.
func openOver(t *testing.T, server *streams, secure bool) (io.Reader, net.Conn) {
	t.Helper()
	var conn net.Conn
	var r *bufio.Reader
	if secure {
		var err error
		if conn, err = tls.Dial("tcp", server.addr, &tls.Config{InsecureSkipVerify: true}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := io.WriteString(conn, get("1.1", "")); err != nil {
			t.Fatal(err)
		}
		r = bufio.NewReader(conn)
	} else {
		conn, r = server.ask(t, get("1.1", ""))
	}
	res, err := http.ReadResponse(r, nil) //nolint:bodyclose // the connection is closed instead
	if err != nil {
		t.Fatal(err)
	}
	return res.Body, conn
}

// A body that ends whole says so; one that breaks off is known to.
func TestEventStreamEnds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code uint16
		want error
	}{
		{wire.CloseNormal, nil},
		{wire.CloseRestart, nil},
		{wire.CloseInternal, io.ErrUnexpectedEOF},
		{wire.ClosePolicy, io.ErrUnexpectedEOF},
	} {
		server := serveStreams(t, &wire.Config{}, false, func(s *wire.EventStream) error {
			var reading sync.WaitGroup
			defer reading.Wait()
			reading.Go(func() {
				_, err := s.Read()
				if closed, ok := errors.AsType[*wire.CloseError](err); !ok || closed.Code != c.code || closed.Reason != "why" {
					t.Errorf("Read fails with %v", err)
				}
			})
			if err := s.Write(s.AppendFrame(nil, true, []byte("data: hello\n\n"))); err != nil {
				return err
			}
			return errors.Join(s.Close(c.code, "why"), s.Close(wire.CloseNormal, "too late"))
		})
		body, conn := openOver(t, server, false)
		got, err := io.ReadAll(body)
		if string(got) != "data: hello\n\n" || !errors.Is(err, c.want) {
			t.Errorf("%d: %q, %v, want %v", c.code, got, err, c.want)
		}
		conn.Close()
		if err := server.err(t); err != nil {
			t.Error(err)
		}
	}
}

// A peer that does not read is closed after the write deadline, and what it got
// is cut short.
func TestEventStreamSlowPeer(t *testing.T) {
	t.Parallel()
	server := serveStreams(t, &wire.Config{WriteTimeout: 300 * time.Millisecond}, false, func(s *wire.EventStream) error {
		piece := s.AppendFrame(nil, true, []byte("data: "+strings.Repeat("x", 1<<20)+"\n\n"))
		for {
			if err := s.Write(piece); err != nil {
				return errors.Join(err, s.Write(piece))
			}
		}
	})
	_, r := server.ask(t, get("1.1", ""))
	if err := server.err(t); !errors.Is(err, wire.ErrSlow) {
		t.Errorf("%v, want %v", err, wire.ErrSlow)
	}
	res, err := http.ReadResponse(r, nil) //nolint:bodyclose // the connection is closed instead
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the body ends with %v", err)
	}
}

// beats runs fn in a bubble with a stream under a running Keeper.
func beats(t *testing.T, fn func(t *testing.T, s *wire.EventStream, peer net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		keeper := new(wire.Keeper)
		ctx, stop := context.WithCancel(t.Context())
		var tasks sync.WaitGroup
		tasks.Go(func() { _ = keeper.Run(ctx) })
		s := wire.NewEventStream(far, &wire.Config{Keeper: keeper}, true)
		fn(t, s, near)
		near.Close()
		_ = s.Close(wire.CloseNormal, "")
		stop()
		tasks.Wait()
	})
}

// Comments come when nothing else does, and not when something does.
func TestEventStreamHeartbeat(t *testing.T) {
	t.Parallel()
	beats(t, func(t *testing.T, s *wire.EventStream, peer net.Conn) {
		begun := time.Now()
		const beat = "3\r\n:\n\n\r\n"
		got := make([]byte, len(beat))
		for i := range 5 {
			if _, err := io.ReadFull(peer, got); err != nil || string(got) != beat {
				t.Fatalf("%q, %v", got, err)
			}
			if passed := time.Since(begun); passed < 25*time.Second || passed > 31*time.Second {
				t.Errorf("comment %d after %v", i, passed)
			}
			begun = time.Now()
		}
		// While something is said every 20 seconds there are none.
		var telling sync.WaitGroup
		defer telling.Wait()
		telling.Go(func() {
			for range 6 {
				time.Sleep(20 * time.Second)
				if err := s.Write(s.AppendFrame(nil, true, []byte("data\n\n"))); err != nil {
					t.Error(err)
				}
			}
			_ = s.Close(wire.CloseNormal, "")
		})
		all, err := io.ReadAll(peer)
		if want := strings.Repeat("6\r\ndata\n\n\r\n", 6) + "0\r\n\r\n"; err != nil || string(all) != want {
			t.Errorf("%q, %v, want %q", all, err, want)
		}
	})
}

// A peer that has no room for a comment for a minute has gone.
func TestEventStreamDeadPeer(t *testing.T) {
	t.Parallel()
	beats(t, func(t *testing.T, s *wire.EventStream, _ net.Conn) {
		begun := time.Now()
		_, err := s.Read() // a pipe has no room at all
		closed, ok := errors.AsType[*wire.CloseError](err)
		if passed := time.Since(begun); !ok || closed.Code != wire.CloseGoingAway || passed < 60*time.Second || passed > 90*time.Second {
			t.Errorf("%v after %v", err, passed)
		}
	})
}

// A comment that was cut short is not followed by anything.
func TestEventStreamTornHeartbeat(t *testing.T) {
	t.Parallel()
	beats(t, func(t *testing.T, s *wire.EventStream, peer net.Conn) {
		var reading sync.WaitGroup
		defer reading.Wait()
		reading.Go(func() {
			if _, err := io.ReadFull(peer, make([]byte, 2)); err != nil {
				t.Error(err)
			}
		})
		if _, err := s.Read(); err == nil {
			t.Error("the stream goes on")
		}
		if err := s.Write([]byte("more")); err == nil {
			t.Error("something follows half a comment")
		}
	})
}

// A thousand streams come and go and leave nothing; goleak watches.
func TestEventStreamChurn(t *testing.T) {
	t.Parallel()
	server := serveStreams(t, &wire.Config{}, false, tellHello)
	var coming sync.WaitGroup
	for worker := range 10 {
		coming.Go(func() {
			for i := range 100 {
				conn, err := net.Dial("tcp", server.addr)
				if err != nil {
					t.Errorf("%d.%d: %v", worker, i, err)
					return
				}
				fmt.Fprint(conn, get("1.1", ""))
				if i%2 == 0 {
					_, _ = bufio.NewReader(conn).ReadString('\n')
				}
				_ = conn.(*net.TCPConn).SetLinger(i%3 - 1) // some with a reset
				conn.Close()
			}
		})
	}
	coming.Wait()
	for range 1000 {
		if err := server.err(t); err == nil {
			t.Error("a stream ended without a reason")
		}
	}
}
