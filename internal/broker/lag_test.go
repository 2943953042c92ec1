package broker_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
)

// lags are those that a look tells.
func lags(t *testing.T, b *broker.Broker, wantMore bool) []broker.Lag {
	t.Helper()
	got, more := b.Lags(t.Context())
	if more != wantMore {
		t.Errorf("more is %v", more)
	}
	return got
}

// TestLags: the lags of durable subscriptions are told, in use or not, and those of
// inboxes are not; telling them is no use of them.
func TestLags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startKV(t, broker.Config{})
		id := broker.ConsumerID{Topic: "/orders", Owner: "shop", Name: "billing"}
		phone := device(t, b, "ann", "phone")
		phone.inbox(broker.Delivery{})
		send(t, b, "ann", "hi")
		phone.deliveries(1)
		c := device(t, b, "shop", "")
		u := c.durable("/orders", broker.Delivery{Name: "billing", MaxInFlight: 3})
		c.quiet()
		publishN(t, b, "/orders", 10)
		_, seqs, _ := c.deliveries(3)
		c.ack(u, seqs[1])
		c.deliveries(1)
		check := func(want ...broker.Lag) {
			t.Helper()
			if got := lags(t, b, false); !slices.Equal(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		}
		check(broker.Lag{ConsumerID: id, Messages: 9})
		c.Close()
		synctest.Wait()
		before := b.Stats().Consumers
		publishN(t, b, "/orders/eu", 5)
		check(broker.Lag{ConsumerID: id, Messages: 14})
		if after := b.Stats().Consumers; after != before {
			t.Errorf("the books went from %+v to %+v", before, after)
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		publishN(t, b, "/orders", 1)
		if got, _ := b.Lags(over); len(got) != 1 || got[0].Messages != 14 {
			t.Errorf("without time, got %+v", got)
		}
		check(broker.Lag{ConsumerID: id, Messages: 15})
		if err := b.DeleteConsumer(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		check()
	})
}

// TestManyLags: of a million records a look reads 20,000, of durable subscriptions
// 1,000 are told, and it is said that there are more.
func TestManyLags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openLog(t)
		b := start(t, db, broker.Config{KV: db})
		c := device(t, b, "shop", "")
		c.durable("/orders", broker.Delivery{Name: "billing"})
		c.Close()
		synctest.Wait()
		var value []byte
		for r, err := range db.Scan(t.Context(), "consumer/") {
			if err != nil {
				t.Fatal(err)
			}
			value = r.Value
		}
		add := func(key string) {
			t.Helper()
			if _, err := db.Put(t.Context(), backend.Record{Key: "consumer/" + key, Value: value}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 20_000 {
			add(fmt.Sprintf("ann/phone%d%s", i, parley.InboxTopic("ann")))
		}
		add("damaged")
		if got := lags(t, b, false); len(got) != 0 {
			t.Errorf("the first look tells %+v", got)
		}
		if got := lags(t, b, false); len(got) != 1 || got[0].Owner != "shop" {
			t.Errorf("the second look tells %+v", got)
		}
		for i := range 1200 {
			add(fmt.Sprintf("zoe/s%d/orders", i))
		}
		lags(t, b, false)
		got := lags(t, b, true)
		if len(got) != 1000 || !slices.IsSortedFunc(got, func(x, y broker.Lag) int { return strings.Compare(x.Name, y.Name) }) {
			t.Errorf("of too many %d are told", len(got))
		}
	})
}
