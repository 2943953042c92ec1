package wire_test

import (
	"bytes"
	"compress/flate"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/parley-im/parley/internal/wire"
)

// endless is a connection on which the same bytes arrive for ever.
type endless struct {
	net.Conn
	bytes []byte
	at    int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.bytes[e.at:])
	e.at = (e.at + n) % len(e.bytes)
	return n, nil
}

// many is a batch of n masked frames of size bytes each.
func many(n, size int) []byte {
	one := clientFrame(fin|opBinary, bytes.Repeat([]byte("x"), size))
	return bytes.Repeat(one, n)
}

// BenchmarkRead is a server's Read of small masked frames: without a socket,
// and over TCP on loopback (where the sender takes the other core).
func BenchmarkRead(b *testing.B) {
	batch := many(1000, 60)
	b.Run("memory", func(b *testing.B) {
		w := wire.NewServerEnd(&endless{bytes: batch}, &wire.Config{Keeper: new(wire.Keeper)})
		readFrames(b, w)
	})
	b.Run("tcp", func(b *testing.B) {
		client, server := tcpPair(b)
		w := wire.NewServerEnd(server, &wire.Config{Keeper: new(wire.Keeper)})
		var sender sync.WaitGroup
		sender.Go(func() {
			for {
				if _, err := client.Write(batch); err != nil {
					return
				}
			}
		})
		readFrames(b, w)
		client.Close()
		server.Close()
		sender.Wait()
	})
}

func readFrames(b *testing.B, w *wire.WebSocket) {
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		frames, err := w.Read()
		if err != nil {
			b.Fatal(err)
		}
		n += len(frames)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "frames/s")
	b.StopTimer()
}

func BenchmarkAppendFrame(b *testing.B) {
	payload := bytes.Repeat([]byte("x"), 60)
	for name, end := range map[string]*wire.WebSocket{
		"server": wire.NewServerEnd(&endless{}, &wire.Config{Keeper: new(wire.Keeper)}),
		"client": wire.NewClientEnd(&endless{}, &wire.Config{Keeper: new(wire.Keeper)}),
	} {
		b.Run(name, func(b *testing.B) {
			dst := make([]byte, 0, 64<<10)
			b.ReportAllocs()
			for b.Loop() {
				if len(dst) > 60<<10 {
					dst = dst[:0]
				}
				dst = end.AppendFrame(dst, false, payload)
			}
		})
	}
}

// deliveries is n bytes of what a server sends.
func deliveries(n int) []byte {
	var p []byte
	for i := range n {
		p = fmt.Appendf(p, `{"topic":"/rooms/%d","seq":%d,"time":"2026-11-28T14:40:%02d.%06dZ","text":"temperature %d"},`,
			i%7, 1000+i, i/10%60, i*7919%1000000, i*104729)
		if len(p) >= n {
			break
		}
	}
	return p[:n]
}

// BenchmarkDeflate is what compression costs: a frame, a frame for one more
// subscriber of a part that is compressed already, and a frame that is read.
func BenchmarkDeflate(b *testing.B) {
	for _, size := range []int{512, 1 << 10, 4 << 10, 64 << 10} {
		p := deliveries(size)
		w := deflating(nil, new(wire.Config))
		var dst []byte
		b.Run(fmt.Sprintf("%d/frame", size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				dst = w.AppendFrame(dst[:0], true, p)
			}
			b.ReportMetric(float64(len(dst))/float64(size)*100, "%")
		})
		b.Run(fmt.Sprintf("%d/shared", size), func(b *testing.B) {
			head, shared, tail := []byte(`{"jsonrpc":"2.0","method":"messages","params":{"sub":1,"messages":[`), w.Share(p), []byte("]}}")
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				dst = w.AppendShared(dst[:0], true, head, shared, tail)
			}
		})
		b.Run(fmt.Sprintf("%d/read", size), func(b *testing.B) {
			frame := clientFrame(fin|rsv1|opText, deflated(p, flate.BestCompression))
			w := wire.NewServerEnd(&endless{bytes: frame}, &wire.Config{Keeper: new(wire.Keeper), Compression: true})
			b.SetBytes(int64(size))
			readFrames(b, w)
		})
	}
}

// BenchmarkDeflater is what the pool of compressors costs when it is empty: the
// memory of one.
func BenchmarkDeflater(b *testing.B) {
	p := deliveries(1 << 10)
	b.ReportAllocs()
	for b.Loop() {
		deflating(nil, new(wire.Config)).AppendFrame(nil, true, p)
	}
}
