package gobbler_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/gobbler"
	"github.com/parley-im/parley/internal/wire"
)

// Each benchmark's figure is for one message.

func BenchmarkDecodeSend(b *testing.B) {
	for _, size := range []int{10, 100, 1024} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			b.ReportAllocs()
			c := codec()
			f := wire.Frame{Text: true, Payload: append([]byte("> /load0 123456\n\n"), make([]byte, size)...)}
			var requests []protocol.Request
			for b.Loop() {
				requests, _ = c.Decode(requests[:0], f)
			}
		})
	}
}

func BenchmarkEncodePublished(b *testing.B) {
	b.ReportAllocs()
	const n = 64
	e := &broker.Published{}
	for i := range n {
		seq := parley.Seq(1795245935123456 + i)
		e.Publishes = append(e.Publishes, &broker.Publish{Messages: []broker.Publication{{
			Message: parley.Message{Topic: "/load0", ID: "123456", Seq: seq, Time: time.Now()},
			Result:  backend.Result{Seq: seq},
		}}})
	}
	c := codec()
	var dst []byte
	for i := 0; i < b.N; i += n {
		dst = c.Encode(dst[:0], e)
	}
}

func BenchmarkEncodeMessages(b *testing.B) {
	for _, size := range []int{10, 1024} {
		b.Run(strconv.Itoa(size), func(b *testing.B) { benchmarkEncodeMessages(b, size, false) })
	}
	b.Run("shared", func(b *testing.B) { benchmarkEncodeMessages(b, 10, true) })
}

func benchmarkEncodeMessages(b *testing.B, size int, shared bool) {
	b.ReportAllocs()
	const n = 64
	var messages []*parley.Message
	for i := range n {
		messages = append(messages, &parley.Message{
			Topic: "/load0", Seq: parley.Seq(1795245935123456 + i), Time: time.Now(), ID: "123456",
			Sender: parley.Identity{User: "load10000", Device: "dc0kehb8di16nl0vcjfg"}, Body: make([]byte, size),
		})
	}
	c := codec()
	var dst []byte
	e := &broker.Messages{Batch: broker.NewBatch(messages)}
	for i := 0; i < b.N; i += n {
		if !shared {
			e.Batch = broker.NewBatch(messages)
		}
		dst = c.Encode(dst[:0], e)
	}
}

func BenchmarkDecodeSendDocumented(b *testing.B) {
	b.ReportAllocs()
	c := codecOf(gobbler.Documented)
	f := wire.Frame{Text: true, Payload: append([]byte("> /load0 123456\nContent-Type: text/plain\n\n"), make([]byte, 100)...)}
	var requests []protocol.Request
	for b.Loop() {
		requests, _ = c.Decode(requests[:0], f)
	}
}
