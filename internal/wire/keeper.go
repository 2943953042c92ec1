package wire

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Keeper watches the connections that name it in their Config, all with one
// goroutine, one clock and no timer of their own: it pings the silent, ends the
// dead, and ends those that never finish a message; event streams, whose peers
// are always silent, have rules of their own. It never waits for a peer. It also
// lends them their buffers and compressors. The zero Keeper is ready to use; its
// exported fields are set before that.
type Keeper struct {
	// PingInterval is how long a peer may be silent before it is pinged; 0 is
	// 25 s, which keeps the usual proxies from closing the connection.
	PingInterval time.Duration
	// IdleTimeout is how long a peer may be silent before the connection ends
	// with close code 1001; 0 is 60 s.
	IdleTimeout time.Duration
	// MessageTimeout is how long one message may take to arrive before the
	// connection ends with close code 1008; 0 is 30 s.
	MessageTimeout time.Duration

	buffers  buffers
	deflates deflates
	// clock is the time since Run began, as of its last tick, in ns.
	clock atomic.Int64

	mu    sync.Mutex
	conns map[*outlet]watched
}

// watched is a connection as the Keeper sees it.
type watched interface {
	// look does what is due at a time of the Keeper's. It must not wait for the
	// peer.
	look(now int64)
}

// Run watches until ctx ends, and returns nil. It is called once. What it does
// is late by at most a tenth of the shortest of its times.
func (k *Keeper) Run(ctx context.Context) error {
	began := time.Now()
	tick := time.NewTicker(min(k.pingInterval(), k.idleTimeout(), k.messageTimeout()) / 10)
	defer tick.Stop()
	var round []watched
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		k.clock.Store(int64(time.Since(began)))
		k.mu.Lock()
		round = slices.AppendSeq(round[:0], maps.Values(k.conns))
		k.mu.Unlock()
		for _, w := range round {
			w.look(k.now())
		}
		clear(round)
	}
}

// look does what is due for a WebSocket. While its owner is not reading,
// silence says nothing about the peer.
func (w *WebSocket) look(now int64) {
	seen := w.seen.Load()
	if seen == working {
		return
	}
	k, began := w.cfg.Keeper, w.began.Load()
	switch silent := time.Duration(now - seen); {
	case began != 0 && time.Duration(now-began) >= k.messageTimeout():
		w.expel(&CloseError{ClosePolicy, "message takes too long"})
	case silent >= cmp.Or(w.cfg.Idle, k.idleTimeout()):
		w.expel(&CloseError{CloseGoingAway, "idle"})
	case silent >= k.pingInterval() && time.Duration(now-w.pinged) >= k.pingInterval():
		w.pinged = now
		w.ping()
	}
}

func (k *Keeper) pingInterval() time.Duration   { return cmp.Or(k.PingInterval, 25*time.Second) }
func (k *Keeper) idleTimeout() time.Duration    { return cmp.Or(k.IdleTimeout, 60*time.Second) }
func (k *Keeper) messageTimeout() time.Duration { return cmp.Or(k.MessageTimeout, 30*time.Second) }

// now is the Keeper's time: coarse, and never 0.
func (k *Keeper) now() int64 { return k.clock.Load() + 1 }

func (k *Keeper) add(o *outlet, w watched) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conns == nil {
		k.conns = make(map[*outlet]watched)
	}
	k.conns[o] = w
}

func (k *Keeper) remove(o *outlet) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.conns, o)
}
