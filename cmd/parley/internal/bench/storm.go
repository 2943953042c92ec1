package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/parley-im/parley/internal/wire"
)

// Storm connects a device for each of many users, sends them messages all the
// while, cuts all connections at once, and measures how long it takes until
// every device is back. It checks that each gets every message that was sent to
// its user, in order, and no other.
func Storm(ctx context.Context, cfg Config) (Report, error) {
	return run(ctx, cfg, storm)
}

func storm(ctx context.Context, l *load) (Report, error) {
	cfg := &l.cfg
	devices, before := make([]*device, cfg.Connections), inspect(ctx, cfg.URL)
	err := each(ctx, len(devices), connects, func(_ context.Context, i int) (err error) {
		devices[i], err = l.device(i)
		if err == nil {
			err = devices[i].connect(ctx)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	w := &weather{l: l, devices: devices, over: make(chan struct{})}
	// The sender and the weather are two more tasks beside the devices.
	err = each(ctx, len(devices)+2, len(devices)+2, func(ctx context.Context, i int) error {
		switch {
		case i < len(devices):
			return devices[i].stay(ctx, w.over)
		case i == len(devices):
			return w.send(ctx)
		}
		return w.cutAll(ctx)
	})
	if err != nil {
		return nil, err
	}
	after := inspect(ctx, cfg.URL)
	var r Report
	var lost, again, tries int64
	var back histogram
	for _, d := range devices {
		lost += d.sent.Load() - d.got
		again += d.again
		tries += d.tries
		back.add(d.back)
	}
	r.add("devices", "%s", thousands(int64(len(devices))))
	r.add("sent", "%s", thousands(w.count))
	r.add("all back after", "%.2f s", back.quantile(1).Seconds())
	r.latency("cut to resumed", &back)
	r.add("attempts to connect", "%s", thousands(tries))
	r.add("delivered again", "%s", thousands(again))
	r.add("lost", "%s", thousands(lost))
	r.perConnection(before, after, len(devices))
	if lost != 0 {
		return r, fmt.Errorf("%d messages were lost", lost)
	}
	return r, nil
}

// weather is what happens to all devices.
type weather struct {
	l       *load
	devices []*device
	count   int64
	over    chan struct{} // closed when all are cut: before that nobody comes back
}

// send sends messages to all users in turn until the load's time is over and
// every device is back, and then says how many there were.
func (w *weather) send(ctx context.Context) error {
	auth, err := w.l.cfg.Signer.authRequest(w.l.cfg.user("s", 0))
	if err != nil {
		return err
	}
	conn, err := w.l.dialUser(ctx, auth)
	if err != nil {
		return err
	}
	start := began()
	rate := w.l.cfg.Rate
	if rate == 0 {
		rate = 1000
	}
	unique := strconv.FormatInt(time.Now().UnixMicro(), 36) + "-"
	for n := int64(0); ; n++ {
		if start.now() >= w.l.cfg.Duration.Microseconds() && w.back() {
			break
		}
		due := time.Duration(float64(n) / rate * float64(time.Second))
		if wait := due - time.Since(start.start); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		d := w.devices[n%int64(len(w.devices))]
		id := strconv.FormatInt(n, 10)
		request := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"msg.send","params":{"to":"%s","id":"%s%s","text":"%s %d"}}`,
			id, d.user, unique, id, d.user, d.sent.Load()+1)
		if err := ask(conn, []byte(request), id); err != nil {
			return err
		}
		d.sent.Add(1)
		w.count++
		w.l.totals.published.Add(1)
	}
	for _, d := range w.devices {
		d.finish()
	}
	return conn.Close(wire.CloseNormal, "")
}

// back reports whether every device has resumed after the cut.
func (w *weather) back() bool {
	for _, d := range w.devices {
		if !d.resumed.Load() {
			return false
		}
	}
	return true
}

// cutAll cuts all connections when half of the load's time is over.
func (w *weather) cutAll(ctx context.Context) error {
	select {
	case <-time.After(w.l.cfg.Duration / 2):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	now := time.Now().UnixMicro()
	for _, d := range w.devices {
		d.cutAt.Store(now)
	}
	defer close(w.over)
	return each(ctx, len(w.devices), connects, func(_ context.Context, i int) error {
		w.devices[i].cut()
		return nil
	})
}

// device is one device of a user.
type device struct {
	l    *load
	user string
	auth []byte

	conn    atomic.Pointer[wire.Conn]
	cutAt   atomic.Int64 // when the cutting of all began, in microseconds since 1970; 0 before
	resumed atomic.Bool
	sent    atomic.Int64 // to its user
	ended   atomic.Bool  // sent is final

	r          *receiver
	got, again int64
	back       int64 // microseconds from the beginning of the cut until it was resumed
	tries      int64
}

func (l *load) device(i int) (*device, error) {
	user := l.cfg.user("d", i)
	auth, err := l.cfg.Signer.authRequest(user)
	return &device{l: l, user: user, auth: auth}, err
}

// connect opens the inbox and waits until it is live.
func (d *device) connect(ctx context.Context) error {
	d.tries++
	conn, err := d.l.dialUser(ctx, d.auth)
	if err != nil {
		return err
	}
	d.conn.Store(&conn)
	r := &receiver{conn: conn, totals: &d.l.totals}
	if d.r != nil {
		r.last = d.r.last
	}
	r.check = d.check
	if d.r == nil {
		r.check = nil // what is left of an earlier load
	}
	d.r = r
	err = r.open(d.l.cfg.InFlight)
	r.check = d.check
	return err
}

// check takes one message.
func (d *device) check(again bool, text []byte) error {
	user, count, _ := bytes.Cut(text, []byte{' '})
	n, err := strconv.ParseInt(string(count), 10, 64)
	switch {
	case err != nil || string(user) != d.user:
		return fmt.Errorf("misdelivered: %s got %.100q", d.user, text)
	case again:
		d.again++
	case n != d.got+1:
		return fmt.Errorf("%s got message %d after %d", d.user, n, d.got)
	default:
		d.got++
		d.l.totals.delivered.Add(1)
	}
	return nil
}

// stay reads until everything has come, and connects again when it, and all the
// others, are cut.
func (d *device) stay(ctx context.Context, over <-chan struct{}) error {
	for ctx.Err() == nil {
		err := d.read()
		if err == nil {
			return (*d.conn.Load()).Close(wire.CloseNormal, "")
		}
		if d.cutAt.Load() == 0 || d.resumed.Load() {
			return fmt.Errorf("%s: %w", d.user, err)
		}
		d.l.totals.connected.Add(-1)
		select {
		case <-over:
		case <-ctx.Done():
		}
		if err := d.resume(ctx); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// resume connects again, as often as it takes within patience.
func (d *device) resume(ctx context.Context) error {
	const patience = time.Minute
	cut := clock{time.UnixMicro(d.cutAt.Load())}
	for {
		err := d.connect(ctx)
		if err == nil {
			d.back = cut.now()
			d.resumed.Store(true)
			return nil
		}
		if time.Since(cut.start) > patience || ctx.Err() != nil {
			return fmt.Errorf("%s does not come back: %w", d.user, errors.Join(err, ctx.Err()))
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// read takes what comes until it was all.
func (d *device) read() error {
	for {
		if d.ended.Load() && d.got >= d.sent.Load() {
			return nil
		}
		frames, err := d.r.conn.Read()
		if err != nil {
			return err
		}
		for _, f := range frames {
			if err := d.r.take(f.Payload, 0); err != nil {
				return err
			}
		}
		if err := d.r.flush(); err != nil {
			return err
		}
	}
}

// cut breaks the connection without a word.
func (d *device) cut() {
	_ = (*d.conn.Load()).Close(wire.CloseGoingAway, "")
}

// finish says that no more is sent.
func (d *device) finish() {
	d.ended.Store(true)
	conn := *d.conn.Load()
	_ = conn.Write(conn.AppendFrame(nil, true, []byte(`{"jsonrpc":"2.0","id":"end","method":"ping"}`)))
}
