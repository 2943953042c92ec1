package broker_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
)

// numbering gives seqs and stores nothing, so that what is measured is the
// broker.
type numbering struct {
	backend.Log
	last parley.Seq
}

func (n *numbering) Append(_ context.Context, entries []backend.Entry) ([]backend.Result, error) {
	results := make([]backend.Result, len(entries))
	for i := range entries {
		n.last++
		entries[i].Message.Seq, results[i].Seq = n.last, n.last
	}
	return results, nil
}

// BenchmarkPublish hands messages of one session over, a hundred at a time.
func BenchmarkPublish(b *testing.B) {
	br := start(b, &numbering{}, broker.Config{})
	c := connect(b, br, broker.SessionConfig{})
	const batch = 100
	body := []byte("0123456789abcdef0123456789abcdef")
	b.ReportAllocs()
	for n := 0; n < b.N; n += batch {
		requests := make([]*broker.Publish, batch)
		for i := range requests {
			requests[i] = &broker.Publish{Messages: []broker.Publication{{Message: parley.Message{Topic: "/orders/eu/42", Body: body}}}}
		}
		c.Publish(requests)
		expect[*broker.Published](c)
	}
}

// BenchmarkSend sends letters to one recipient each, a hundred at a time.
func BenchmarkSend(b *testing.B) {
	for _, ids := range []bool{false, true} {
		b.Run(fmt.Sprintf("ids=%v", ids), func(b *testing.B) {
			br := start(b, &numbering{}, broker.Config{})
			c := signIn(b, br, "ann", "phone")
			const batch = 100
			to, body := []string{"bob"}, []byte("0123456789abcdef0123456789abcdef")
			b.ReportAllocs()
			for n := 0; n < b.N; n += batch {
				for i := range batch {
					l := broker.Letter{To: to, Message: parley.Message{Body: body}}
					if ids {
						l.Message.ID = strconv.Itoa(n + i)
					}
					c.Send(&broker.Send{Letters: []broker.Letter{l}})
				}
				for range batch {
					expect[*broker.Sent](c)
				}
			}
		})
	}
}
