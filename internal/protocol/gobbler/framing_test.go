package gobbler_test

import (
	"encoding/binary"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/gobbler"
	"github.com/parley-im/parley/internal/wire"
)

// counted is a framing for tests: a byte for text, four for the length.
type counted struct{}

func (counted) Name() string { return "counted" }

func (counted) AppendFrame(dst []byte, text bool, payload []byte) []byte {
	kind := byte(0)
	if text {
		kind = 1
	}
	dst = binary.BigEndian.AppendUint32(append(dst, kind), uint32(len(payload)))
	return append(dst, payload...)
}

// unframe is the payloads of what a codec wrote, which must be binary frames.
func unframe(t testing.TB, p []byte) []string {
	t.Helper()
	var payloads []string
	for len(p) > 0 {
		if len(p) < 5 || p[0] != 0 {
			t.Fatalf("not a binary frame: %q", p)
		}
		n := int(binary.BigEndian.Uint32(p[1:]))
		if len(p) < 5+n {
			t.Fatalf("a frame of %d bytes in %q", n, p)
		}
		payloads = append(payloads, string(p[5:5+n]))
		p = p[5+n:]
	}
	return payloads
}

func codec() *gobbler.Codec { return codecOf(gobbler.Deployed) }

func codecOf(d gobbler.Dialect) *gobbler.Codec {
	return gobbler.New(counted{}, parley.Identity{User: "marvin", Device: "dc0kehb8di16nl0vcjfg"}, d)
}

// decode is the requests of one frame.
func decode(t testing.TB, c protocol.Codec, text bool, payload string) []protocol.Request {
	t.Helper()
	frame := []byte(payload)
	requests, err := c.Decode(nil, wire.Frame{Text: text, Payload: frame})
	if err != nil {
		t.Fatalf("Decode(%q): %v", payload, err)
	}
	for i := range frame {
		frame[i] = '!' // what a request keeps must be a copy
	}
	return requests
}

// encode is the frames that tell e.
func encode(t testing.TB, c protocol.Codec, e broker.Event) []string {
	t.Helper()
	const before = "before"
	p := c.Encode([]byte(before), e)
	if string(p[:len(before)]) != before {
		t.Fatalf("Encode of %T changed what was there: %q", e, p)
	}
	return unframe(t, p[len(before):])
}
