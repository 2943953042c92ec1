package broker_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley/internal/broker"
)

// A device that comes back and takes less at once than it has pending gets that
// as fast as it acknowledges.
func TestFewerInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startKV(t, broker.Config{})
		const n = 40
		for i := range n {
			send(t, b, "ann", fmt.Sprint(i))
		}
		c := device(t, b, "ann", "phone")
		c.inbox(broker.Delivery{})
		c.deliveries(n)
		c.Close()
		c = device(t, b, "ann", "phone")
		defer c.Close()
		u := c.inbox(broker.Delivery{MaxInFlight: 5})
		began := time.Now()
		for got := 0; got < n; {
			_, seqs, _ := c.deliveries(1)
			got += len(seqs)
			c.ack(u, seqs...)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("%d messages took %v", n, took)
		}
	})
}

// What waits for a later attempt takes room, but what is left of that is used.
func TestDelayedInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startKV(t, broker.Config{})
		const n, most, delayed = 40, 20, 19
		for i := range n {
			send(t, b, "ann", fmt.Sprint(i))
		}
		c := device(t, b, "ann", "phone")
		defer c.Close()
		u := c.inbox(broker.Delivery{MaxInFlight: most})
		_, seqs, _ := c.deliveries(most)
		for _, seq := range seqs[:delayed] {
			c.Acknowledge(&broker.Ack{Sub: u.ID, Ranges: []broker.SeqRange{{First: seq, Last: seq}}, Nak: true, Delay: time.Hour})
		}
		began := time.Now()
		c.ack(u, seqs[delayed:]...)
		for got := most; got < n; {
			_, seqs, _ := c.deliveries(1)
			got += len(seqs)
			c.ack(u, seqs...)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("the rest took %v", took)
		}
	})
}
