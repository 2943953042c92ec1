package native_test

import (
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/native"
	"github.com/parley-im/parley/internal/wire"
)

// lines is a framing that ends each frame with LF, which no JSON text holds
// here.
type lines struct{}

func (lines) AppendFrame(dst []byte, _ bool, payload []byte) []byte {
	return append(append(dst, payload...), '\n')
}

func (lines) Name() string { return "lines" }

func terms() native.Terms {
	return native.Terms{
		Server: "parley/0.1.0", Durable: true, FrameBytes: 2 << 20,
		BatchMessages: 10, Idle: time.Minute,
	}
}

func BenchmarkDecodePublish(b *testing.B) {
	c := native.New(lines{}, terms())
	frame := wire.Frame{Text: true, Payload: []byte(
		`{"jsonrpc":"2.0","id":123,"method":"publish","params":{"topic":"/orders/eu/42","text":"` +
			strings.Repeat("x", 100) + `","id":"m-123"}}`)}
	var requests []protocol.Request
	b.SetBytes(int64(len(frame.Payload)))
	b.ReportAllocs()
	for b.Loop() {
		var err error
		requests, err = c.Decode(requests[:0], frame)
		if _, ok := requests[0].(*protocol.Publish); !ok || err != nil {
			b.Fatal(requests[0], err)
		}
	}
}

func batch(n int) *broker.Batch {
	messages := make([]*parley.Message, n)
	for i := range messages {
		messages[i] = &parley.Message{
			Topic: "/orders/eu/42", Seq: parley.Seq(1795245935123456 + i), Time: time.Now(),
			ID: "m-123", Body: []byte(strings.Repeat("x", 100)),
		}
	}
	return broker.NewBatch(messages)
}

// One op is one batch of 64 messages: encoded for the first subscriber, or
// handed to one more.
func BenchmarkEncodeMessages(b *testing.B) {
	sub := &broker.Subscription{ID: 1, Topic: "/orders"}
	c := native.New(lines{}, terms())
	b.Run("first", func(b *testing.B) {
		messages := batch(64).Messages
		var dst []byte
		b.ReportAllocs()
		for b.Loop() {
			dst = c.Encode(dst[:0], &broker.Messages{Sub: sub, Batch: broker.NewBatch(messages)})
		}
		b.SetBytes(int64(len(dst)))
	})
	b.Run("further", func(b *testing.B) {
		e := &broker.Messages{Sub: sub, Batch: batch(64)}
		var dst []byte
		b.ReportAllocs()
		for b.Loop() {
			dst = c.Encode(dst[:0], e)
		}
		b.SetBytes(int64(len(dst)))
	})
}

func BenchmarkEncodePublished(b *testing.B) {
	c := native.New(lines{}, terms())
	p := &broker.Publish{Ref: "123", Messages: make([]broker.Publication, 1)}
	p.Messages[0].Message.Topic = "/orders/eu/42"
	p.Messages[0].Result.Seq = 1795245935123456
	e := &broker.Published{Publishes: []*broker.Publish{p}}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = c.Encode(dst[:0], e)
	}
}
