package wire_test

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/parley-im/parley/internal/wire"
)

// TestShared: a part that is compressed once means the same between any head
// and tail, on any connection that compresses, and is not compressed where that
// is of no use.
func TestShared(t *testing.T) {
	t.Parallel()
	cfg := new(wire.Config)
	first, second := deflating(nil, cfg), deflating(nil, cfg)
	plain := wire.NewServerEnd(&script{}, &wire.Config{Keeper: new(wire.Keeper)})
	client := wire.NewClientEnd(&script{}, &wire.Config{Keeper: new(wire.Keeper)})
	if !first.Shares() || plain.Shares() || client.Shares() {
		t.Error("not exactly those that compress share")
	}
	noise := make([]byte, 10_000)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	like := strings.Repeat(`{"topic":"/rooms/kitchen","seq":12345,"text":"hello"},`, 20_000)
	for name, c := range map[string]struct {
		part       string
		compressed bool
	}{
		"nothing":          {"", false},
		"too short":        {like[:wire.MinDeflate-1], false},
		"just long enough": {like[:wire.MinDeflate], true},
		"a megabyte":       {like[:1<<20], true},
		"noise":            {string(noise), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shared := first.Share([]byte(c.part))
			var all sync.WaitGroup
			for _, head := range []string{"", "{", `{"sub":17,"messages":[`, strings.Repeat("x", 65535), strings.Repeat("x", 200_000)} {
				for _, tail := range []string{"", "]}}"} {
					all.Go(func() { checkShared(t, second, head, c.part, tail, shared, c.compressed) })
				}
			}
			all.Wait()
		})
	}
	whole := plain.AppendShared(nil, true, []byte("a"), plain.Share([]byte(like)), []byte("c"))
	if want := plain.AppendFrame(nil, true, []byte("a"+like+"c")); !bytes.Equal(whole, want) {
		t.Error("without compression it is another frame")
	}
}

func checkShared(t *testing.T, w *wire.WebSocket, head, part, tail string, shared []byte, compressed bool) {
	// As codecs do it: the head is in the buffer.
	buf := append([]byte("before"), head...)
	out := w.AppendShared(buf, true, buf[len("before"):], shared, []byte(tail))
	if !bytes.HasPrefix(out, buf) {
		t.Error("what was in the buffer has changed")
	}
	g, err := serverFrame(bufio.NewReader(bytes.NewReader(out[len(buf):])))
	if err != nil {
		t.Errorf("head of %d bytes: %v", len(head), err)
		return
	}
	if got := g.op&rsv1 != 0; got != compressed {
		t.Errorf("head of %d bytes: compressed is %v, want %v", len(head), got, compressed)
	}
	if compressed {
		if limit := len(head) + len(part)/2 + 300; len(g.payload) > limit {
			t.Errorf("head of %d bytes, part of %d: the frame has %d bytes", len(head), len(part), len(g.payload))
		}
		g.payload = inflated(t, g.payload)
	}
	if g.payload != head+part+tail {
		t.Errorf("head of %d bytes: it means something else", len(head))
	}
}
