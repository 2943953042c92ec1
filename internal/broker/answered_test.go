package broker_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
)

// lingering is a log whose appends return a while after they can be read.
type lingering struct {
	backend.Log
	appended chan struct{} // has room for one
	slow     atomic.Bool
}

func (l *lingering) Append(ctx context.Context, entries []backend.Entry) ([]backend.Result, error) {
	results, err := l.Log.Append(ctx, entries)
	if !l.slow.Load() {
		return results, err
	}
	select {
	case l.appended <- struct{}{}:
	default:
	}
	<-time.After(50 * time.Millisecond)
	return results, err
}

// Who sends to itself is answered first, also when it reads its inbox from the log
// at that moment.
func TestAnsweredBeforeDelivered(t *testing.T) {
	log := &lingering{Log: openLog(t), appended: make(chan struct{}, 1)}
	b := start(t, log, broker.Config{})
	c := connect(t, b, broker.SessionConfig{Principal: account.Anyone(parley.Identity{User: "ann"})})
	send := func() {
		c.Send(&broker.Send{Letters: []broker.Letter{{To: []string{"ann"}, Message: parley.Message{Body: []byte("x")}}}})
	}
	send()
	expect[*broker.Sent](c)
	c.Subscribe(t.Context(), broker.Subscribe{Topic: "/$inbox/ann", Delivery: &broker.Delivery{}})
	log.slow.Store(true)
	send()
	<-log.appended // both can be read, and the second has no answer yet
	sent, delivered := false, 0
	for delivered < 2 {
		switch e := c.next().(type) {
		case *broker.Sent:
			sent = true
		case *broker.Deliveries:
			if delivered += len(e.Messages); delivered == 2 && !sent {
				t.Error("it was delivered before it was answered")
			}
		case *broker.Failed:
			t.Fatal(e.Err)
		default:
		}
	}
}
