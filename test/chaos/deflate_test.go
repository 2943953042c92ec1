package chaos_test

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/json"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// deflateTail is what a sender leaves away, and an end.
const deflateTail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

// deflated is a compressed text frame.
func deflated(payload string) string {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestCompression)
	if err != nil {
		panic(err)
	}
	_, _ = io.WriteString(w, payload)
	_ = w.Flush()
	return compressedFrame(strings.TrimSuffix(out.String(), deflateTail[:4]))
}

func compressedFrame(payload string) string {
	f := frame(opText, payload)
	f[0] |= 0x40
	return string(f)
}

func inflated(payload []byte) ([]byte, error) {
	return io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(payload), strings.NewReader(deflateTail))))
}

// bomb is a frame of about size bytes that grows to a thousand times as much.
func bomb(size int) string {
	one := deflated(strings.Repeat("[", 1<<20))
	one = one[8:] + deflateTail[:4] // without the header, and ending at a byte
	return compressedFrame(strings.Repeat(one, size/len(one)+1) + "\x00")
}

// offering is a handshake that offers compression.
func offering(s *servertest.Server, path string) string {
	const offer = "\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
	return strings.Replace(upgrade(host(s), path), "\r\n\r\n", offer, 1)
}

func compressing(t *testing.T, s *servertest.Server, path string) *peer {
	t.Helper()
	p, err := shake(host(s), offering(s, path), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func withCompression(c *server.Config) { c.HTTP.Compression = true }

// TestNoCompression (S8): by default compression is not agreed to, and who
// compresses all the same breaks a rule.
func TestNoCompression(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t)
	for _, path := range []string{rpcPath, gobblerPath} {
		p := compressing(t, s, path)
		if p.extension != "" {
			t.Errorf("%s: the server agrees to %q", path, p.extension)
		}
		_, _ = io.WriteString(p, deflated(call(1, "ping", "{}")))
		if code, err := p.farewell(); err != nil || code != 1002 {
			t.Errorf("%s: a compressed message ends the connection with %d, %v; want 1002", path, code, err)
		}
	}
	unharmed(t, quiet(t, s))
}

// TestCompression (S8): where it is agreed to, clients of both protocols that
// compress and clients that do not understand each other.
func TestCompression(t *testing.T) {
	t.Parallel()
	const agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	s := servertest.Start(t, withCompression)
	small, plain := compressing(t, s, rpcPath), open(t, s, rpcPath)
	oldSmall, oldPlain := compressing(t, s, gobblerPath), open(t, s, gobblerPath)
	for _, p := range []*peer{small, oldSmall} {
		if p.extension != agreed {
			t.Errorf("the server agrees to %q, want %q", p.extension, agreed)
		}
	}
	for _, p := range []*peer{oldSmall, oldPlain} {
		expectText(t, p, "#connected")
		say(t, p, string(frame(opText, "+ /a")))
		expectText(t, p, "#subscribed-to /a")
	}
	for _, p := range []*peer{small, plain} {
		if a, err := p.ask(1, "subscribe", `{"topic":"/a"}`); err != nil || a.Error != nil {
			t.Fatalf("subscribe: %+v, %v", a, err)
		}
	}
	long := strings.Repeat("what is worth compressing. ", 1000)
	for _, text := range []string{"short", long, long + "again"} {
		say(t, small, deflated(publishing(2, "/a", text)))
		for _, p := range []*peer{small, plain} {
			if got := delivery(t, p); got != text {
				t.Errorf("%.100q arrives as %.100q", text, got)
			}
		}
		for _, p := range []*peer{oldSmall, oldPlain} {
			if got, err := p.next(); err != nil || !strings.HasSuffix(got, "\n"+text) {
				t.Errorf("%.100q arrives by Gobbler as %.100q, %v", text, got, err)
			}
		}
	}
	unharmed(t, scrape(t, s))
}

func say(t *testing.T, p *peer, frames string) {
	t.Helper()
	if _, err := io.WriteString(p, frames); err != nil {
		t.Fatal(err)
	}
}

func expectText(t *testing.T, p *peer, prefix string) {
	t.Helper()
	if got, err := p.next(); err != nil || !strings.HasPrefix(got, prefix) {
		t.Fatalf("got %q, %v, want %s…", got, err, prefix)
	}
}

// delivery is the text of the next message that is delivered.
func delivery(t *testing.T, p *peer) string {
	t.Helper()
	for {
		text, err := p.next()
		if err != nil {
			t.Fatal(err)
		}
		var a answer
		if err := json.Unmarshal([]byte(text), &a); err != nil {
			t.Fatalf("%.100q: %v", text, err)
		}
		if a.Method == "messages" {
			return a.Params.Messages[0].Text
		}
	}
}

// TestBombs (S8, R9): compressed messages that grow beyond what a message may
// have end their connections, and until then cost no more than it.
func TestBombs(t *testing.T) {
	s := servertest.Start(t, withCompression, func(c *server.Config) { c.Limits.Message = attackedMessage })
	good := behave(t, s)
	good.served(t)
	idle := memory()
	n := scale(20, 50, 400)
	grows := bomb(attackedMessage) // to a hundred megabytes
	var attacking sync.WaitGroup
	for range n {
		p := compressing(t, s, rpcPath)
		attacking.Go(func() {
			_, _ = io.WriteString(p, grows) // the server need not take all
			if code, err := p.farewell(); err != nil || code != 1009 {
				t.Errorf("a bomb ends its connection with %d, %v; want 1009", code, err)
			}
		})
	}
	most := watchMemory(t, &attacking) - idle
	t.Logf("%d bombs of %d KiB: %d KiB", n, len(grows)>>10, most>>10)
	const budget = restCost + 4*(2*attackedMessage+64<<10) // a frame of the native protocol, which doubles as it grows
	if allowed := n*budget + slack; most > allowed {
		t.Errorf("%d bombs make the server hold %d KiB, want at most %d", n, most>>10, allowed>>10)
	}
	good.served(t)
	m := scrape(t, s)
	unharmed(t, m)
	if got := m[`sessions_closed_total{reason="too_big"}`]; int(got) != n {
		t.Errorf("%v sessions were closed as too big, want %d", got, n)
	}
}

// watchMemory is the most memory that was in use until all are done.
func watchMemory(t *testing.T, all *sync.WaitGroup) int {
	t.Helper()
	ctx, done := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	defer waiting.Wait()
	waiting.Go(func() {
		all.Wait()
		done()
	})
	most := memory()
	for ctx.Err() == nil {
		most = max(most, memory())
	}
	return most
}

// TestSmallBombs (S8, R9): messages that just fit, hundreds in one read, and
// nobody takes the answers.
func TestSmallBombs(t *testing.T) {
	s := servertest.Start(t, withCompression, func(c *server.Config) { c.Limits.Message = attackedMessage })
	good := behave(t, s)
	good.served(t)
	idle := memory()
	n := scale(5, 20, 40)
	// Text that is answered with an error of a few bytes.
	fits := strings.Repeat(deflated(strings.Repeat("[", 2*attackedMessage)), 200)
	attack := flood(fits, scale(2, 10, 50))
	var attacking sync.WaitGroup
	for range n {
		p, err := shake(host(s), offering(s, rpcPath), 4<<10)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		var c net.Conn = p
		attacking.Go(func() { attack(0, c) })
	}
	most := watchMemory(t, &attacking) - idle
	t.Logf("%d connections: %d KiB each", n, most/n>>10)
	if allowed := n*sessionCost + slack; most > allowed {
		t.Errorf("%d connections make the server hold %d KiB, want at most %d", n, most>>10, allowed>>10)
	}
	good.served(t)
	unharmed(t, scrape(t, s))
}
