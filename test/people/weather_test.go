package people_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
)

// groupSize is how many users one letter goes to.
const groupSize = 50

// weather is what happens to the devices of many users, whom Bob writes to: letter n
// goes to all of group n modulo the number of groups.
type weather struct {
	t         *testing.T
	groups    int
	victims   []*victim
	bystander *victim      // another device of the last victim's user
	next      atomic.Int64 // the number of the next letter
}

func newWeather(t *testing.T, id *issuer, devices int) *weather {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	w := &weather{t: t, groups: (devices + groupSize - 1) / groupSize}
	for i := range devices {
		w.victims = append(w.victims, w.victim(id, i, "phone", seed))
	}
	w.bystander = w.victim(id, devices-1, "tablet", seed+1)
	return w
}

// victim is one user's device.
type victim struct {
	*device

	user   string
	at     string // the device
	group  int
	groups int
	newest atomic.Int64 // number of a letter that has come; -1 before
	late   atomic.Int64 // the greatest delay of a letter, in microseconds
	told   atomic.Int64 // what its client has said about the connection
}

func (w *weather) victim(id *issuer, i int, name string, seed uint64) *victim {
	v := &victim{user: fmt.Sprintf("ann%d", i), at: name, group: i / groupSize, groups: w.groups}
	v.device = &device{
		t: w.t, name: v.user + "'s " + name, token: id.token(v.user), random: rand.New(rand.NewPCG(seed, uint64(i))),
		got: map[string]parley.Seq{}, confirmed: map[parley.Seq]bool{},
	}
	v.newest.Store(-1)
	return v
}

// Enabled, Handle, WithAttrs and WithGroup count what the client logs.
func (*victim) Enabled(context.Context, slog.Level) bool { return true }

func (v *victim) Handle(context.Context, slog.Record) error {
	v.told.Add(1)
	return nil
}

func (v *victim) WithAttrs([]slog.Attr) slog.Handler { return v }
func (v *victim) WithGroup(string) slog.Handler      { return v }

// stay connects and reads the user's inbox until ctx ends.
func (v *victim) stay(ctx context.Context, address string) {
	var c *client.Client
	if !poll(ctx, func() (ok bool) {
		var err error
		c, err = dial(ctx, address, v.token, v.at, slog.New(v))
		return err == nil
	}) {
		return
	}
	defer func() { _ = c.Close() }()
	for m, err := range c.Inbox(ctx, client.AckWait(5*time.Second)) {
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			v.t.Errorf("%s: %v", v.name, err)
		default:
			v.judge(ctx, m)
		}
	}
}

// judge takes one delivery.
func (v *victim) judge(ctx context.Context, m *client.Delivery) {
	var n, sent int64
	if _, err := fmt.Sscanf(m.ID+" "+string(m.Body), "letter-%d %d", &n, &sent); err != nil {
		v.t.Errorf("%s got %q with id %s: %v", v.name, m.Body, m.ID, err)
		return
	}
	if owner, _ := m.Topic.Inbox(); owner != v.user || n%int64(v.groups) != int64(v.group) {
		v.t.Errorf("misdelivered: %s got letter %d of %s's", v.name, n, owner)
	}
	if err := v.take(ctx, m); err != nil && ctx.Err() == nil && !errors.Is(err, parley.ErrUnavailable) {
		v.t.Errorf("%s acknowledges %s: %v", v.name, m.ID, err)
	}
	v.late.Store(max(v.late.Load(), time.Now().UnixMicro()-sent))
	v.newest.Store(max(v.newest.Load(), n))
}

// send writes letters until it is enough, each group having the same number.
func (w *weather) send(ctx context.Context, s *server, token string, enough <-chan struct{}) {
	c, err := s.dial(ctx, token, "pen")
	if err != nil {
		w.t.Error(err)
		return
	}
	defer func() { _ = c.Close() }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := int64(0); ; n++ {
		group := int(n) % w.groups
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		select {
		case <-enough:
			if group == 0 {
				return
			}
		default:
		}
		w.next.Store(n + 1)
		l := client.Letter{ID: fmt.Sprintf(firstID, n), Body: fmt.Append(nil, time.Now().UnixMicro())}
		for _, v := range w.victims[group*groupSize : min((group+1)*groupSize, len(w.victims))] {
			l.To = append(l.To, v.user)
		}
		if _, err := c.Send(ctx, l); err != nil {
			w.t.Errorf("letter %d: %v", n, err)
			return
		}
	}
}

// reach waits until all devices have a letter of that number, or a greater one.
func (w *weather) reach(ctx context.Context, what string, n int64) {
	w.t.Helper()
	missing := 0
	if !poll(ctx, func() bool {
		missing = 0
		for _, v := range append(w.victims, w.bystander) {
			if v.newest.Load() < n {
				missing++
			}
		}
		return missing == 0
	}) {
		w.t.Fatalf("not in time: %s; %d have not", what, missing)
	}
}

// expectWithin says how long it took until all devices had resumed, which must not
// be too long.
func (w *weather) expectWithin(began time.Time, what string) {
	w.t.Helper()
	took := time.Since(began)
	w.t.Logf("%d devices had letters from after %s in %v", len(w.victims), what, took.Round(time.Millisecond))
	if took > back {
		w.t.Errorf("it took longer than %v after %s", back, what)
	}
}

// expectUnaffected: who was not cut has not lost the connection, and had each letter
// soon.
func (w *weather) expectUnaffected() {
	w.t.Helper()
	const soon = 5 * time.Second
	late := time.Duration(w.bystander.late.Load()) * time.Microsecond
	if w.t.Logf("the client that was not cut had each letter within %v", late); late > soon {
		w.t.Errorf("that is more than %v", soon)
	}
	if n := w.bystander.told.Load(); n > 0 {
		w.t.Errorf("the client that was not cut has told of %d faults", n)
	}
}

// check is called when nothing runs any more: every device has each letter once.
func (w *weather) check() {
	w.t.Helper()
	rounds := int(w.next.Load()) / w.groups
	for _, v := range append(w.victims, w.bystander) {
		if len(v.got) != rounds {
			w.t.Errorf("%s has %d letters of %d", v.name, len(v.got), rounds)
		}
	}
	w.t.Logf("each has its %d letters", rounds)
}
