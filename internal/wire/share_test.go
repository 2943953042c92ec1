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
					all.Go(func() {
						// As codecs do it: the head is in the buffer.
						buf := append([]byte("before"), head...)
						out := second.AppendShared(buf, true, buf[len("before"):], shared, []byte(tail))
						frame, ok := bytes.CutPrefix(out, buf)
						if !ok {
							t.Error("what was in the buffer has changed")
						}
						if compressed := frame[0]&rsv1 != 0; compressed != c.compressed {
							t.Errorf("compressed is %v, want %v", compressed, c.compressed)
						}
						if limit := len(head) + len(c.part)/2 + 300; c.compressed && len(frame) > limit {
							t.Errorf("head of %d bytes, part of %d: the frame has %d bytes", len(head), len(c.part), len(frame))
						}
						if meaning(t, frame) != head+c.part+tail {
							t.Errorf("head of %d bytes: it means something else", len(head))
						}
					})
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

// meaning is what one frame says.
func meaning(t *testing.T, frame []byte) string {
	g, err := serverFrame(bufio.NewReader(bytes.NewReader(frame)))
	if err != nil {
		t.Error(err)
	}
	if g.op&rsv1 != 0 {
		return inflated(t, g.payload)
	}
	return g.payload
}
