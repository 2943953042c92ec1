package wire_test

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/parley-im/parley/internal/wire"
)

// deflating is a server's end of a connection that compresses, which reads in
// and then the end.
func deflating(in []byte, cfg *wire.Config) *wire.WebSocket {
	cfg.Compression = true
	if cfg.Keeper == nil {
		cfg.Keeper = new(wire.Keeper)
	}
	return wire.NewServerEnd(&script{in: in}, cfg)
}

// frameOf is the one frame that w makes of a text.
func frameOf(t *testing.T, w wire.Framing, payload string) got {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(w.AppendFrame(nil, true, []byte(payload))))
	g, err := serverFrame(r)
	if err != nil || r.Buffered() > 0 {
		t.Errorf("a frame of %d bytes: %v, and %d bytes more", len(payload), err, r.Buffered())
	}
	return g
}

// TestDeflatedFrames: a message is compressed when it is long enough, and when
// that makes it smaller, and means the same.
func TestDeflatedFrames(t *testing.T) {
	t.Parallel()
	w := deflating(nil, new(wire.Config))
	noise := make([]byte, 100_000)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	like := strings.Repeat(`{"topic":"/rooms/kitchen","seq":12345,"text":"hello"},`, 20_000)
	for name, c := range map[string]struct {
		payload    string
		compressed bool
	}{
		"nothing":          {"", false},
		"a byte":           {"x", false},
		"too short":        {like[:wire.MinDeflate-1], false},
		"just long enough": {like[:wire.MinDeflate], true},
		"a pooled buffer":  {like[:64<<10], true},
		"a megabyte":       {like[:1<<20], true},
		"noise":            {string(noise), false},
		"a little noise":   {string(noise[:wire.MinDeflate]), false},
		"noise and zeros":  {string(noise[:5000]) + strings.Repeat("\x00", 5000), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := frameOf(t, w, c.payload)
			if !c.compressed {
				if want := echoed(c.payload); g != want {
					t.Errorf("got %v, want %v", g, want)
				}
				return
			}
			if g.op != rsv1|opText || len(g.payload) >= len(c.payload) {
				t.Fatalf("got %v of %d bytes, want it smaller and marked so", g, len(c.payload))
			}
			if inflated(t, g.payload) != c.payload {
				t.Error("it means something else")
			}
		})
	}
}

// TestDeflatedFramesAreShared: what connections that compress write is the same
// whatever each wrote before and whoever else writes, so that one encoding can
// be sent to all; and it has another name than what the others write.
func TestDeflatedFramesAreShared(t *testing.T) {
	t.Parallel()
	cfg := new(wire.Config)
	first, second := deflating(nil, cfg), deflating(nil, cfg)
	plain := wire.NewServerEnd(&script{}, &wire.Config{Keeper: new(wire.Keeper)})
	if first.Name() != second.Name() || first.Name() == plain.Name() {
		t.Errorf("the names are %q, %q and, without compression, %q", first.Name(), second.Name(), plain.Name())
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			mine := strings.Repeat(fmt.Sprintf("writer %d says hello. ", i), 100)
			shared := strings.Repeat("everybody says hello. ", 100)
			want := first.AppendFrame(nil, true, []byte(shared))
			for range 20 {
				if g := frameOf(t, first, mine); inflated(t, g.payload) != mine {
					t.Errorf("writer %d wrote something else", i)
				}
				// As codecs do it: the payload is in the buffer before its frame.
				buf := append(make([]byte, 0, 8192), shared...)
				if out := second.AppendFrame(buf, true, buf); !bytes.Equal(out[len(buf):], want) || string(out[:len(buf)]) != shared {
					t.Errorf("writer %d wrote the shared message in another way", i)
				}
			}
		})
	}
	all.Wait()
}

// zeros is a compressed message of n zeros.
func zeros(n int) []byte {
	return clientFrame(fin|rsv1|opBinary, deflated(make([]byte, n), flate.BestCompression))
}

// TestManyBombs: one read brings at most 64 KiB, which may stand for a thousand
// times as much. Of that, no more than one message above 64 KiB is there at a
// time.
func TestManyBombs(t *testing.T) {
	t.Parallel()
	const n, most = 100, 1 << 18
	w := deflating(bytes.Repeat(zeros(most), n), &wire.Config{MaxFrame: most})
	seen := 0
	for seen < n {
		frames, err := w.Read()
		if err != nil {
			t.Fatalf("after %d: %v", seen, err)
		}
		total := 0
		for _, f := range frames {
			if len(f.Payload) != most {
				t.Fatalf("message %d has %d bytes", seen, len(f.Payload))
			}
			total += len(f.Payload)
			seen++
		}
		if total > wire.MaxBuffer+most {
			t.Fatalf("one Read returned %d bytes", total)
		}
	}
}

// TestBombCost: a bomb is stopped at the bound, and costs what is allowed for
// one message, not what it claims to be. It does not run beside other tests,
// because it counts what is allocated.
func TestBombCost(t *testing.T) {
	const most, n = 1 << 16, 20
	// 64 KiB that become 64 MiB.
	block := string(deflated(make([]byte, 1<<20), flate.BestCompression)) + "\x00\x00\xff\xff"
	bomb := clientFrame(fin|rsv1|opText, []byte(strings.Repeat(block, most/len(block))))
	keeper := new(wire.Keeper)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		w := deflating(bomb, &wire.Config{Keeper: keeper, MaxFrame: most})
		_, err := w.Read()
		endedWith(t, err, wire.CloseTooBig, "message too big")
	}
	runtime.ReadMemStats(&after)
	// The buffer doubles, there is a copy of what came, and the pools are filled
	// at first.
	cost := (after.TotalAlloc - before.TotalAlloc) / n
	t.Logf("a bomb of %d bytes costs %d KiB", len(bomb), cost>>10)
	if cost > 8*most {
		t.Errorf("a bomb costs %d KiB where a message may have %d KiB", cost>>10, most>>10)
	}
}

// TestRestartFlood: a message of nothing but last blocks makes the decompressor
// begin anew for each; that many are harmless.
func TestRestartFlood(t *testing.T) {
	t.Parallel()
	in := clientFrame(fin|rsv1|opText, append(bytes.Repeat([]byte("\x03\x00"), 1<<17-1), 0))
	w := deflating(in, new(wire.Config))
	if frames, err := w.Read(); err != nil || len(frames) != 1 || len(frames[0].Payload) != 0 {
		t.Errorf("got %d frames, %v", len(frames), err)
	}
}

// TestDeflateAtRest: a connection that waits, or waits for the rest of a
// compressed message, holds no decompressor and no more than has come.
func TestDeflateAtRest(t *testing.T) {
	t.Parallel()
	near, far := tcpPair(t)
	w := wire.NewServerEnd(far, &wire.Config{Keeper: new(wire.Keeper), Compression: true})
	waits := watch(w)
	var reader sync.WaitGroup
	defer reader.Wait()
	defer near.Close()
	reader.Go(func() { _ = echo(w) })
	c := &client{near, bufio.NewReader(near)}
	for range 2 {
		frame := zeros(1 << 19)
		c.send(t, frame[:len(frame)-1])
		if held := waits.held(t, len(frame)-1); held > 1<<10 {
			t.Errorf("with %d bytes it holds %d", len(frame)-1, held)
		}
		c.send(t, frame[len(frame)-1:])
		if g, err := serverFrame(c.r); err != nil || g.op != rsv1|opBinary || inflated(t, g.payload) != string(make([]byte, 1<<19)) {
			t.Fatalf("got %v, %v", g, err)
		}
		if held := waits.held(t, 0); held > 0 {
			t.Errorf("at rest it holds %d", held)
		}
	}
}

// FuzzDeflate: whatever a compressed message is, however it is cut, it is
// understood in one way, within the bound, and as another implementation
// understands it; and what it says, compressed by us, says it again.
func FuzzDeflate(f *testing.F) {
	for _, cases := range [][]rfcCase{examples(), malformed()} {
		for _, c := range cases {
			// The payload of a single frame, for the mask is known.
			if s := c.send[0]; s[0] == fin|rsv1|opText && s[1] < 0x80|126 {
				f.Add(clientFrame(0, s[6:])[6:], uint16(3))
			}
		}
	}
	f.Add(deflated(make([]byte, fuzzMax), 9), uint16(1))
	f.Add(deflated(make([]byte, fuzzMax+1), 9), uint16(5))
	f.Fuzz(func(t *testing.T, payload []byte, cut uint16) {
		if len(payload) > fuzzMax {
			return
		}
		at := int(cut) % (len(payload) + 1)
		whole, wholeErr := hearDeflated(t, clientFrame(fin|rsv1|opBinary, payload))
		parts, partsErr := hearDeflated(t, append(clientFrame(rsv1|opBinary, payload[:at]), clientFrame(fin|opMore, payload[at:])...))
		if whole != parts || wholeErr != partsErr {
			t.Errorf("in one piece: %q, %d\nin two:       %q, %d", whole, wholeErr, parts, partsErr)
		}
		theirs, theirErr := referenceInflate(payload)
		if wholeErr != theirErr || whole != theirs {
			t.Errorf("we say %d, %d bytes, another decompressor %d, %d bytes", wholeErr, len(whole), theirErr, len(theirs))
		}
		if wholeErr != 0 {
			return
		}
		answer := deflating(nil, new(wire.Config)).AppendFrame(nil, false, []byte(whole))
		g, err := serverFrame(bufio.NewReader(bytes.NewReader(answer)))
		if err != nil {
			t.Fatal(err)
		}
		if g.op == rsv1|opBinary {
			g.payload = inflated(t, g.payload)
		}
		if g.payload != whole {
			t.Errorf("%q became %q", whole, g.payload)
		}
	})
}

// hearDeflated is the message that in makes, or the code that it is refused
// with.
func hearDeflated(t *testing.T, in []byte) (message string, code uint16) {
	s := &script{in: bytes.Clone(in)}
	w := wire.NewServerEnd(s, &wire.Config{Keeper: new(wire.Keeper), MaxFrame: fuzzMax, Compression: true})
	frames, err := w.Read()
	switch {
	case err == nil && len(frames) == 1:
		return string(frames[0].Payload), 0
	case err == nil:
		t.Fatalf("got %d messages", len(frames))
	}
	g, err := serverFrame(bufio.NewReader(&s.out))
	if err != nil || g.op != opClose {
		t.Fatalf("the answer is %v, %v", g, err)
	}
	return "", binary.BigEndian.Uint16([]byte(g.payload))
}

// referenceInflate is what the standard library makes of a compressed message.
func referenceInflate(payload []byte) (message string, code uint16) {
	const tail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"
	src := bytes.NewReader(append(bytes.Clone(payload), tail...))
	var out []byte
	for {
		part, err := io.ReadAll(io.LimitReader(flate.NewReader(src), fuzzMax+1))
		switch out = append(out, part...); {
		case len(out) > fuzzMax:
			return "", wire.CloseTooBig
		case err != nil:
			return "", wire.CloseInvalidText
		case src.Len() == 0 || src.Len() == len(tail):
			return string(out), 0
		}
	}
}
