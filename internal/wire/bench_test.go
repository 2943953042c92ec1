package wire_test

import (
	"bytes"
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
