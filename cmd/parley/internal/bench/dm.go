package bench

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/parley-im/parley/internal/wire"
)

// DM measures messages on their way from user to user: each of the publishers
// sends to a user of its own, whose device acknowledges what it gets, and wants
// that confirmed. It checks that every message arrives, in order.
func DM(ctx context.Context, cfg Config) (Report, error) {
	return run(ctx, cfg, dm)
}

func dm(ctx context.Context, l *load) (Report, error) {
	cfg := &l.cfg
	dialect := l.dialect()
	receivers := make([]*receiver, cfg.Publishers)
	all := make([]*publisher, cfg.Publishers)
	err := each(ctx, len(all), connects, func(_ context.Context, i int) error {
		var err error
		if receivers[i], err = dialect.receiver(ctx, i); err != nil {
			return err
		}
		if all[i], err = dialect.sender(ctx, i); err == nil {
			all[i].taken, receivers[i].took = receivers[i].acked.Load, all[i].ring
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	before, start := inspect(ctx, cfg.URL), began()
	var stored histogram
	var refused int64
	err = each(ctx, len(all)+1, len(all)+1, func(ctx context.Context, i int) (err error) {
		if i < len(all) {
			receivers[i].clock = start
			return receivers[i].receive()
		}
		stored, refused, err = publish(ctx, all, start)
		if err == nil {
			err = reasons(all)
		}
		for i, p := range all {
			receivers[i].end(p.acked.Load())
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	elapsed := time.Since(start.start)
	after := inspect(ctx, cfg.URL)
	if err := each(ctx, len(receivers), connects, dialect.settled); err != nil {
		return nil, err
	}
	var r Report
	r.published(l, refused, elapsed)
	var latency histogram
	var acked, again int64
	for _, c := range receivers {
		latency.merge(&c.latency)
		acked += c.acked.Load()
		again += c.again
	}
	r.rate("acknowledged", acked, elapsed)
	r.add("delivered again", "%s", thousands(again))
	r.latency("send to stored", &stored)
	r.latency("send to delivery", &latency)
	r.server(before, after, acked)
	return r, nil
}

// receiver is the device of a user who acknowledges everything.
type receiver struct {
	clock  clock
	conn   wire.Conn
	totals *totals
	sub    uint64

	latency histogram
	got     int64 // each message once
	again   int64
	last    uint64 // the seq of the newest
	asked   int64  // requests for acknowledgement
	told    int64  // of them, how many were answered
	out     []byte

	acked atomic.Int64 // confirmed
	want  atomic.Int64 // how many there are, when it is known; -1 before

	took  func()                              // called when acked may have grown; nil is nobody
	frame func(frame []byte, now int64) error // of another protocol than the native one; nil is take
	check func(again bool, text []byte) error // of each message; nil is none
}

// receiver opens the inbox of user i.
func (l *load) receiver(ctx context.Context, i int) (*receiver, error) {
	auth, err := l.cfg.Signer.authRequest(l.cfg.user("r", i))
	if err != nil {
		return nil, err
	}
	conn, err := l.dialUser(ctx, auth)
	if err != nil {
		return nil, err
	}
	c := &receiver{conn: conn, totals: &l.totals}
	c.want.Store(-1)
	return c, c.open(l.cfg.InFlight)
}

// open opens the inbox. What is in it of earlier loads comes first and is not
// counted: it is acknowledged until the inbox is live.
func (c *receiver) open(inFlight int) error {
	request := `{"jsonrpc":"2.0","id":"open","method":"inbox.open","params":{`
	if inFlight > 0 {
		request += `"max_in_flight":` + strconv.Itoa(inFlight)
	}
	if err := c.conn.Write(c.conn.AppendFrame(nil, true, []byte(request+`}}`))); err != nil {
		return err
	}
	for live := false; !live || c.told < c.asked; {
		frames, err := c.conn.Read()
		if err != nil {
			return err
		}
		for _, f := range frames {
			switch {
			case bytes.HasPrefix(f.Payload, []byte(`{"jsonrpc":"2.0","id":"open","result":`)):
				c.sub, _ = number(f.Payload, `"sub":`, 0)
			case bytes.HasPrefix(f.Payload, []byte(`{"jsonrpc":"2.0","method":"live"`)):
				live = true
			}
			if err := c.take(f.Payload, 0); err != nil {
				return err
			}
		}
		if err := c.flush(); err != nil {
			return err
		}
	}
	c.got, c.again = 0, 0
	c.acked.Store(0)
	return nil
}

// end tells how many messages there are.
func (c *receiver) end(want int64) {
	c.want.Store(want)
	// The reader looks when it next reads: a ping sees to that.
	_ = c.conn.Write(c.conn.AppendFrame(nil, true, []byte(`{"jsonrpc":"2.0","id":"end","method":"ping"}`)))
}

// receive reads until everything is acknowledged.
func (c *receiver) receive() error {
	take := c.frame
	if take == nil {
		take = c.take
	}
	for {
		frames, err := c.conn.Read()
		if err != nil {
			return fmt.Errorf("after %d messages, %d acknowledged: %w", c.got, c.acked.Load(), err)
		}
		now, before := c.clock.now(), c.got
		for _, f := range frames {
			if err := take(f.Payload, now); err != nil {
				return err
			}
		}
		c.totals.delivered.Add(c.got - before)
		if c.took != nil {
			c.took()
		}
		if err := c.flush(); err != nil {
			return err
		}
		if want := c.want.Load(); want >= 0 && c.acked.Load() >= want {
			if c.got != want || c.acked.Load() != want {
				return fmt.Errorf("%d of %d messages were delivered, and %d acknowledged", c.got, want, c.acked.Load())
			}
			return c.conn.Close(wire.CloseNormal, "")
		}
	}
}

// take looks at one frame and asks for what it delivers to be acknowledged.
func (c *receiver) take(frame []byte, now int64) error {
	first := uint64(0)
	delivery, err := letters(frame, func(seq uint64, text []byte) error {
		if first == 0 {
			first = seq
		}
		if c.check != nil {
			if err := c.check(seq <= c.last, text); err != nil {
				return err
			}
		}
		if seq <= c.last {
			c.again++
			first = min(first, seq)
			return nil
		}
		c.last = seq
		c.got++
		if due, ok := stamp(text); ok && now > 0 {
			c.latency.add(now - due)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case delivery:
		c.ack(first, max(first, c.last))
		return nil
	}
	if err := failed(frame); err != nil {
		return err
	}
	if n, end := number(frame, `"result":{"count":`, 0); end > 0 {
		c.told++
		c.acked.Add(int64(n))
	}
	return nil
}

// ack appends a request to acknowledge everything from first to last.
func (c *receiver) ack(first, last uint64) {
	c.asked++
	b := []byte(`{"jsonrpc":"2.0","id":`)
	b = strconv.AppendInt(b, c.asked, 10)
	b = append(b, `,"method":"ack","params":{"sub":`...)
	b = strconv.AppendUint(b, c.sub, 10)
	b = append(b, `,"ranges":[[`...)
	b = strconv.AppendUint(b, first, 10)
	b = append(b, ',')
	b = strconv.AppendUint(b, last, 10)
	c.out = c.conn.AppendFrame(c.out, true, append(b, `]]}}`...))
}

func (c *receiver) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	err := c.conn.Write(c.out)
	c.out = c.out[:0]
	return err
}
