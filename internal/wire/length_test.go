package wire_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"io"
	"math/big"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/parley-im/parley/internal/wire"
)

// lengthFrame is a frame as a client writes it.
func lengthFrame(payload string) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(payload))), payload...)
}

// oneByte is a connection that gives one byte at a time.
type oneByte struct {
	net.Conn
	r io.Reader
}

func (c oneByte) Read(p []byte) (int, error) { return c.r.Read(p) }

// readLength is what a connection makes of what a peer sends before it closes.
func readLength(t testing.TB, sent []byte, cfg wire.LengthConfig, slowly bool) ([]string, error) {
	t.Helper()
	ours, theirs := net.Pipe()
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() {
		_, _ = theirs.Write(sent)
		_ = theirs.Close()
	})
	defer ours.Close()
	conn := ours
	if slowly {
		conn = oneByte{ours, iotest.OneByteReader(ours)}
	}
	if cfg.Keeper == nil {
		cfg.Keeper = &wire.Keeper{}
	}
	l := wire.NewLength(conn, &cfg)
	if _, err := l.Handshake(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer l.Close(0, "")
	var got []string
	for {
		frames, err := l.Read()
		if err != nil {
			return got, err
		}
		for _, f := range frames {
			got = append(got, string(f.Payload))
		}
	}
}

func TestLengthFrames(t *testing.T) {
	long := strings.Repeat("x", 300_000)
	whole := slices.Concat(lengthFrame("a"), lengthFrame(""), lengthFrame(long), lengthFrame("é"))
	for _, slowly := range []bool{false, true} {
		got, err := readLength(t, whole, wire.LengthConfig{}, slowly)
		if !errors.Is(err, io.EOF) || !slices.Equal(got, []string{"a", "", long, "é"}) {
			t.Errorf("slowly %v: got %d frames and %v", slowly, len(got), err)
		}
	}
}

func TestLengthRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		sent   []byte
		frames int
		code   uint16
		err    error
	}{
		"the largest length":     {sent: []byte{0xff, 0xff, 0xff, 0xff}, code: wire.CloseTooBig},
		"one byte too long":      {sent: lengthFrame(strings.Repeat("x", 101)), code: wire.CloseTooBig},
		"too long, later":        {sent: append(lengthFrame("a"), 0, 0, 0, 1), frames: 1, code: wire.CloseTooBig},
		"cut in the header":      {sent: []byte{1, 0}, err: io.ErrUnexpectedEOF},
		"cut in the frame":       {sent: lengthFrame("abc")[:6], err: io.ErrUnexpectedEOF},
		"nothing":                {err: io.EOF},
		"a first that is longer": {sent: lengthFrame(strings.Repeat("x", 51)), code: wire.CloseTooBig},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := readLength(t, test.sent, wire.LengthConfig{MaxFrame: 100, MaxFirst: 50}, false)
			var closed *wire.CloseError
			if len(got) != test.frames || test.err != nil && !errors.Is(err, test.err) ||
				test.code != 0 && (!errors.As(err, &closed) || closed.Code != test.code) {
				t.Errorf("got %q and %v", got, err)
			}
		})
	}
}

// What is declared costs nothing before it arrives.
func TestLengthDeclaredCostsNothing(t *testing.T) {
	sent := append(binary.LittleEndian.AppendUint32(nil, 1<<30), "abc"...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := readLength(t, sent, wire.LengthConfig{MaxFrame: 1 << 30}, false)
	runtime.ReadMemStats(&after)
	if cost := after.TotalAlloc - before.TotalAlloc; !errors.Is(err, io.ErrUnexpectedEOF) || cost > 1<<20 {
		t.Errorf("%d bytes and %v", cost, err)
	}
}

func TestLengthBigEndian(t *testing.T) {
	sent := append(binary.BigEndian.AppendUint32(nil, 2), "hi"...)
	got, err := readLength(t, sent, wire.LengthConfig{BigEndian: true}, false)
	if !errors.Is(err, io.EOF) || !slices.Equal(got, []string{"hi"}) {
		t.Errorf("got %q and %v", got, err)
	}
	l := wire.NewLength(nil, &wire.LengthConfig{Keeper: &wire.Keeper{}, BigEndian: true})
	if frame := l.AppendFrame(nil, true, []byte("hi")); !bytes.Equal(frame, sent) {
		t.Errorf("got % x", frame)
	}
}

// Who says nothing, never finishes, or falls silent is ended.
func TestLengthDeadlines(t *testing.T) {
	for name, test := range map[string]struct {
		sent   []byte
		cfg    wire.LengthConfig
		reason string
	}{
		"nothing": {cfg: wire.LengthConfig{First: time.Millisecond, Idle: time.Hour}, reason: "said nothing"},
		"half a first frame": {
			sent: lengthFrame("abc")[:6], cfg: wire.LengthConfig{First: time.Millisecond, Idle: time.Hour}, reason: "said nothing",
		},
		"half a frame": {
			sent: append(lengthFrame("a"), 9, 0), cfg: wire.LengthConfig{First: time.Hour, Idle: time.Hour}, reason: "message takes too long",
		},
		"silence": {sent: lengthFrame("a"), cfg: wire.LengthConfig{First: time.Hour, Idle: time.Millisecond}, reason: "idle"},
	} {
		t.Run(name, func(t *testing.T) {
			keeper := &wire.Keeper{MessageTimeout: 20 * time.Millisecond, PingInterval: 20 * time.Millisecond}
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() { _ = keeper.Run(ctx) })
			defer running.Wait()
			defer cancel()
			ours, theirs := net.Pipe()
			defer theirs.Close()
			test.cfg.Keeper = keeper
			l := wire.NewLength(ours, &test.cfg)
			defer l.Close(0, "")
			_, _ = l.Handshake(t.Context())
			running.Go(func() { _, _ = theirs.Write(test.sent) })
			var err error
			for err == nil {
				_, err = l.Read()
			}
			var closed *wire.CloseError
			if !errors.As(err, &closed) || closed.Reason != test.reason {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The first frame has all of its time, whenever in the Keeper's rounds the
// connection comes.
func TestLengthFirstInFull(t *testing.T) {
	keeper := &wire.Keeper{PingInterval: time.Second} // which is a round of 100 ms
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = keeper.Run(ctx) })
	defer running.Wait()
	defer cancel()
	const first, conns = 150 * time.Millisecond, 20
	next := time.NewTicker(10 * time.Millisecond)
	defer next.Stop()
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for range conns {
		<-next.C
		ours, theirs := net.Pipe()
		defer theirs.Close()
		l := wire.NewLength(ours, &wire.LengthConfig{Keeper: keeper, First: first})
		began := time.Now()
		_, _ = l.Handshake(t.Context())
		waiting.Go(func() {
			defer l.Close(0, "")
			if _, err := l.Read(); err == nil || time.Since(began) < first {
				t.Errorf("it is over after %v with %v, before %v", time.Since(began), err, first)
			}
		})
	}
	waiting.Wait()
}

// selfSigned is a certificate for 127.0.0.1.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	made := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{{127, 0, 0, 1}},
	}
	der, err := x509.CreateCertificate(rand.Reader, made, made, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Over TLS, a peer that closes its socket without a word of TLS between two
// frames has left; inside one, the frame is cut. What is said before Close
// arrives, and TLS's goodbye behind it.
func TestLengthOverTLS(t *testing.T) {
	certificate := selfSigned(t)
	for name, test := range map[string]struct {
		sent []byte
		err  error
	}{
		"between frames": {lengthFrame("a"), io.EOF},
		"inside a frame": {append(lengthFrame("a"), 1, 0), io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			var peer sync.WaitGroup
			defer peer.Wait()
			peer.Go(func() {
				raw, err := net.Dial("tcp", listener.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				defer raw.Close()
				c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true}) // a certificate for itself
				_, _ = c.Write(test.sent)
				answer := make([]byte, len(lengthFrame("bye")))
				if _, err := io.ReadFull(c, answer); err != nil || !bytes.Equal(answer, lengthFrame("bye")) {
					t.Errorf("got %q and %v", answer, err)
				}
			})
			raw, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			l := wire.NewLength(tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{certificate}}), &wire.LengthConfig{Keeper: &wire.Keeper{}})
			defer l.Close(0, "")
			if _, err := l.Handshake(t.Context()); err != nil {
				t.Fatal(err)
			}
			if frames, err := l.Read(); err != nil || len(frames) != 1 {
				t.Fatalf("got %d frames and %v", len(frames), err)
			}
			if err := l.Write(l.AppendFrame(nil, false, []byte("bye"))); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Read(); !errors.Is(err, test.err) {
				t.Errorf("got %v, want %v", err, test.err)
			}
		})
	}
}

// Whatever arrives, and in whatever pieces, is read as the frames that it says,
// up to the first that is too long.
func FuzzLength(f *testing.F) {
	f.Add(slices.Concat(lengthFrame("a"), lengthFrame(""), lengthFrame("bc")))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{1, 0, 0})
	f.Fuzz(func(t *testing.T, sent []byte) {
		const most = 1000
		var want []string
		rest, big := sent, false
		for len(rest) >= 4 && !big {
			n := int(binary.LittleEndian.Uint32(rest))
			if big = n > most; big || len(rest) < 4+n {
				break
			}
			want = append(want, string(rest[4:4+n]))
			rest = rest[4+n:]
		}
		for _, slowly := range []bool{false, true} {
			got, err := readLength(t, sent, wire.LengthConfig{MaxFrame: most}, slowly)
			var closed *wire.CloseError
			if !slices.Equal(got, want) || errors.As(err, &closed) != big || errors.Is(err, io.EOF) != (!big && len(rest) == 0) {
				t.Fatalf("slowly %v: got %q and %v, want %q", slowly, got, err, want)
			}
		}
	})
}
