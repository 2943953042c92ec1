package broker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/internal/broker"
)

// TestConsumersAgainstModel sends, acknowledges, refuses, connects, disconnects
// and cuts the power at random, for an inbox with two devices and one without a
// name, and for a durable subscription with three members. What was stored reaches
// each consumer until it is acknowledged; what was confirmed never comes again;
// nothing comes that was not stored, or whose time has passed; in a session what
// comes for the first time is in order; and the books balance (R6, R7, R21).
func TestConsumersAgainstModel(t *testing.T) {
	worlds := 30
	switch {
	case os.Getenv("PARLEY_SOAK") == "1":
		worlds = 3000
	case testing.Short():
		worlds = 10
	}
	var total tally
	for n := 0; n < worlds || n < 20*worlds && !total.whole(); n++ {
		seed := rand.Uint64()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, seed)
			for range 300 {
				w.step()
			}
			w.finish()
			total.add(w.tally)
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("%+v", total)
	if !total.whole() {
		t.Error("this run shows nothing")
	}
}

// TestModelNoticesFaults: the model can fail.
func TestModelNoticesFaults(t *testing.T) {
	for _, fault := range []string{"forgets a confirmation", "loses a message", "repeats out of order", "delivers too late"} {
		h := &holder{name: "x", stored: map[parley.Seq]string{1: "a", 2: "b", 3: "c"}, expires: map[parley.Seq]time.Time{}, confirmed: map[parley.Seq]bool{}, got: map[parley.Seq]int{}}
		s := &seat{holder: h, out: map[parley.Seq]bool{}}
		s.note(&parley.Message{Seq: 1, Body: []byte("a")}, 1)
		s.note(&parley.Message{Seq: 2, Body: []byte("b")}, 1)
		h.confirmed[1] = true
		switch fault {
		case "forgets a confirmation":
			s.note(&parley.Message{Seq: 3, Body: []byte("c")}, 1)
			s.note(&parley.Message{Seq: 1, Body: []byte("a")}, 2)
		case "loses a message":
			h.complete()
		case "repeats out of order":
			s.note(&parley.Message{Seq: 3, Body: []byte("c")}, 1)
			s.note(&parley.Message{Seq: 2, Body: []byte("b")}, 1)
		case "delivers too late":
			h.expires[3] = time.Now().Add(-time.Second)
			s.note(&parley.Message{Seq: 3, Body: []byte("c")}, 1)
		}
		if len(h.faults) != 1 {
			t.Errorf("%s: %v", fault, h.faults)
		}
	}
}

type tally struct{ crashes, sent, delivered, redelivered, confirmed, dead, expired, missed int }

// whole reports whether everything has happened that is to be judged.
func (a *tally) whole() bool {
	return a.crashes > 0 && a.redelivered > 0 && a.confirmed > 0 && a.dead > 0 && a.expired > 0 && a.missed > 0
}

func (a *tally) add(b tally) {
	a.crashes += b.crashes
	a.sent += b.sent
	a.delivered += b.delivered
	a.redelivered += b.redelivered
	a.confirmed += b.confirmed
	a.dead += b.dead
	a.expired += b.expired
	a.missed += b.missed
}

// world is a broker, and what is known about its consumers.
type world struct {
	t       *testing.T
	rnd     *rand.Rand
	fs      *vfs.MemFS
	db      *pebble.DB
	broker  *broker.Broker
	stop    func()
	holders []*holder
	n       int
	tally   tally
}

// holder is a consumer as the model sees it.
type holder struct {
	name, user, device string
	topic              parley.Topic
	delivery           broker.Delivery
	stored             map[parley.Seq]string
	expires            map[parley.Seq]time.Time // of those that do
	got                map[parley.Seq]int
	confirmed          map[parley.Seq]bool
	refused            map[parley.Seq]bool // for good, confirmed
	seats              []*seat             // nil where nobody is connected
	faults             []string
}

// seat is a session of a holder.
type seat struct {
	holder *holder
	client *client
	sub    *broker.Subscription
	out    map[parley.Seq]bool
	last   parley.Seq // that came for the first time
	acks   map[string]*broker.Ack
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), fs: vfs.NewCrashableMem()}
	inbox := parley.InboxTopic("ann")
	for _, h := range []*holder{
		{name: "phone", user: "ann", device: "phone", topic: inbox, delivery: broker.Delivery{MaxInFlight: 20}, seats: make([]*seat, 1)},
		{name: "tablet", user: "ann", device: "tablet", topic: inbox, seats: make([]*seat, 1)},
		{name: "legacy", user: "ann", topic: inbox, seats: make([]*seat, 2)},
		{name: "billing", user: "shop", topic: "/orders", delivery: broker.Delivery{Name: "billing", MaxInFlight: 10}, seats: make([]*seat, 3)},
	} {
		h.delivery.AckWait = time.Second
		h.stored, h.got = map[parley.Seq]string{}, map[parley.Seq]int{}
		h.expires = map[parley.Seq]time.Time{}
		h.confirmed, h.refused = map[parley.Seq]bool{}, map[parley.Seq]bool{}
		w.holders = append(w.holders, h)
	}
	w.start()
	w.connect(w.holders[3], 0) // it stands from now on
	w.take(w.holders[3].seats[0])
	t.Cleanup(w.end)
	return w
}

func (w *world) start() {
	var err error
	if w.db, err = pebble.Open("store", pebble.Options{FS: w.fs}); err != nil {
		w.t.Fatal(err)
	}
	w.broker = broker.New(broker.Config{Log: w.db, KV: slowKV{w.db}})
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() {
		if err := w.broker.Run(ctx); err != nil {
			w.t.Error(err)
		}
	})
	w.stop = func() {
		cancel()
		run.Wait()
	}
}

// end stops the broker cleanly.
func (w *world) end() {
	for _, h := range w.holders {
		for i := range h.seats {
			w.disconnect(h, i)
		}
	}
	s := w.broker.Stats().Consumers
	w.tally.expired += int(s.Expired)
	w.tally.missed += int(s.Missed)
	w.stop()
	if err := w.db.Close(); err != nil {
		w.t.Error(err)
	}
}

// crash cuts the power; what was not synced is lost in part.
func (w *world) crash() {
	clone := w.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: w.rnd.IntN(101), RNG: w.rnd})
	w.end()
	w.fs = clone
	w.tally.crashes++
	w.start()
}

func (w *world) step() {
	h := w.holders[w.rnd.IntN(len(w.holders))]
	i := w.rnd.IntN(len(h.seats))
	switch w.rnd.IntN(20) {
	case 0, 1, 2:
		for range 1 + w.rnd.IntN(5) {
			w.send()
		}
	case 3, 4:
		w.connect(h, i)
	case 5:
		w.disconnect(h, i)
	case 6:
		switch w.rnd.IntN(4) {
		case 0:
			w.crash()
		case 1:
			if h.seats[i] != nil {
				w.ackAndCrash(h.seats[i])
			}
		}
	case 7:
		time.Sleep(time.Duration(w.rnd.IntN(1500)) * time.Millisecond)
	case 8, 9, 10, 11:
		if h.seats[i] != nil {
			w.ack(h.seats[i])
		}
	default:
		if h.seats[i] != nil {
			w.take(h.seats[i])
		}
	}
	for _, h := range w.holders {
		for _, fault := range h.faults {
			w.t.Errorf("%s: %s", h.name, fault)
		}
		h.faults = nil
	}
}

func (w *world) send() {
	w.n++
	w.tally.sent++
	m := text("/orders/eu", strconv.Itoa(w.n))
	if w.rnd.IntN(4) == 0 {
		m.Expires = time.Now().Add(time.Duration(w.rnd.IntN(3000)) * time.Millisecond)
	}
	var seq parley.Seq
	holders := w.holders[3:]
	if w.rnd.IntN(2) == 0 {
		seq = publish(w.t, w.broker, m)
	} else {
		seq = sendMessage(w.t, w.broker, "ann", parley.Message{Body: m.Body, Expires: m.Expires})
		holders = w.holders[:3]
	}
	for _, h := range holders {
		h.stored[seq] = string(m.Body)
		if !m.Expires.IsZero() {
			h.expires[seq] = m.Expires
		}
	}
}

func (w *world) connect(h *holder, i int) {
	if h.seats[i] != nil && w.rnd.IntN(2) == 0 {
		return // else a device is replaced
	}
	w.disconnect2(h, i)
	s := &seat{holder: h, client: device(w.t, w.broker, h.user, h.device), out: map[parley.Seq]bool{}, acks: map[string]*broker.Ack{}}
	d := h.delivery
	s.client.Subscribe(w.t.Context(), broker.Subscribe{Topic: h.topic, Delivery: &d})
	h.seats[i] = s
}

// disconnect2 lets go of a seat; half of the time the old session lives on, as
// behind a broken connection, until it is replaced.
func (w *world) disconnect2(h *holder, i int) {
	if h.seats[i] != nil && (h.device == "" || w.rnd.IntN(2) == 0) {
		w.disconnect(h, i)
	}
}

func (w *world) disconnect(h *holder, i int) {
	if s := h.seats[i]; s != nil {
		s.client.Close()
		h.seats[i] = nil
	}
}

// take takes what is due.
func (w *world) take(s *seat) {
	if w.rnd.IntN(2) == 0 {
		synctest.Wait()
	}
	w.takeNow(s)
}

// ackAndCrash cuts the power in the moment of a confirmation.
func (w *world) ackAndCrash(s *seat) {
	w.ack(s)
	for range 20 {
		if w.takeNow(s); len(s.acks) == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	w.crash()
}

// slowKV takes its time to save, so that a confirmation that does not wait for it
// is noticed.
type slowKV struct{ *pebble.DB }

func (kv slowKV) Put(ctx context.Context, r backend.Record) (uint64, error) {
	time.Sleep(5 * time.Millisecond)
	return kv.DB.Put(ctx, r)
}

func (w *world) takeNow(s *seat) {
	for _, e := range s.client.Next(w.t.Context(), nil) {
		switch e := e.(type) {
		case *broker.Subscribed:
			s.sub = e.Sub
		case *broker.Deliveries:
			for i, m := range e.Messages {
				attempt := 1
				if e.Attempts != nil {
					attempt = e.Attempts[i]
				}
				w.tally.delivered++
				if attempt > 1 {
					w.tally.redelivered++
				}
				s.note(m, attempt)
			}
		case *broker.Acked:
			w.confirm(s, e)
		case *broker.Failed:
			if s.acks[e.Ref] == nil {
				s.holder.fault("failed: %v", e.Err)
			}
			delete(s.acks, e.Ref)
		case *broker.ReplayStart, *broker.ReplayEnd, *broker.Live, *broker.ReadMarker:
		default:
			s.holder.fault("unexpected %#v", e)
		}
	}
}

func (h *holder) fault(format string, args ...any) {
	h.faults = append(h.faults, fmt.Sprintf(format, args...))
}

// note compares a delivery with what is known.
func (s *seat) note(m *parley.Message, attempt int) {
	h := s.holder
	switch {
	case h.stored[m.Seq] != string(m.Body):
		h.fault("%d is %q, not %q", m.Seq, m.Body, h.stored[m.Seq])
	case h.confirmed[m.Seq] || h.refused[m.Seq]:
		h.fault("%d comes again for the time %d after it was confirmed", m.Seq, attempt)
	case h.late(m.Seq):
		h.fault("%d comes after its time", m.Seq)
	case attempt == 1 && m.Seq <= s.last:
		h.fault("%d comes for the first time after %d", m.Seq, s.last)
	}
	if attempt == 1 {
		s.last = m.Seq
	}
	h.got[m.Seq]++
	s.out[m.Seq] = true
}

// late reports whether the time of a message has passed.
func (h *holder) late(seq parley.Seq) bool {
	at, expires := h.expires[seq]
	return expires && !at.After(time.Now())
}

// confirm notes what was confirmed. What another session has refused meanwhile
// may come again.
func (w *world) confirm(s *seat, e *broker.Acked) {
	a := s.acks[e.Ref]
	delete(s.acks, e.Ref)
	for _, r := range a.Ranges {
		switch {
		case a.Nak:
		case a.Dead && s.holder.late(r.First): // there may be nothing left to bury
		case a.Dead && e.Count == len(a.Ranges):
			s.holder.refused[r.First] = true
			w.tally.dead++
		case !a.Dead:
			s.holder.confirmed[r.First] = true
			w.tally.confirmed++
		}
	}
}

// ack acknowledges, or refuses, some of what is out.
func (w *world) ack(s *seat) {
	if s.sub == nil || len(s.out) == 0 {
		return
	}
	w.n++
	a := &broker.Ack{Sub: s.sub.ID}
	if w.rnd.IntN(3) > 0 {
		a.Ref = fmt.Sprint("ack ", w.n)
		s.acks[a.Ref] = a
	}
	seqs := make([]parley.Seq, 0, len(s.out))
	for seq := range s.out {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	w.rnd.Shuffle(len(seqs), func(i, j int) { seqs[i], seqs[j] = seqs[j], seqs[i] })
	seqs = seqs[:1+w.rnd.IntN(len(seqs))]
	switch w.rnd.IntN(12) {
	case 0, 1:
		a.Nak, a.Delay = true, time.Duration(w.rnd.IntN(500))*time.Millisecond
	case 2, 3:
		a.Dead, a.Reason = true, "the model says so"
		seqs = seqs[:1]
	}
	for _, seq := range seqs {
		a.Ranges = append(a.Ranges, broker.SeqRange{First: seq, Last: seq})
		delete(s.out, seq)
	}
	s.client.Acknowledge(a)
}

// finish lets everybody read and acknowledge to the end.
func (w *world) finish() {
	for _, h := range w.holders {
		for i := range h.seats {
			if i > 0 {
				w.disconnect(h, i)
			}
		}
		w.disconnect(h, 0)
		w.connect(h, 0)
	}
	for range 40 {
		time.Sleep(100 * time.Millisecond)
		for _, h := range w.holders {
			s := h.seats[0]
			w.take(s)
			a := &broker.Ack{Sub: s.sub.ID, Ref: "last", Ranges: []broker.SeqRange{{First: 1, Last: parley.MaxSeq}}}
			s.acks["last"] = &broker.Ack{}
			s.client.Acknowledge(a)
		}
	}
	for _, h := range w.holders {
		w.take(h.seats[0])
		h.complete()
		for _, fault := range h.faults {
			w.t.Errorf("%s: %s", h.name, fault)
		}
	}
	for _, owner := range []string{"ann", "shop"} {
		w.checkDead(owner)
	}
	s := balance(w.t, w.broker)
	if s.Pending != 0 {
		w.t.Errorf("in the end %+v", s)
	}
	stored := 0
	for _, h := range w.holders {
		stored += len(h.stored)
	}
	// After a crash consumers look again at some.
	if given := int(s.Taken + s.Missed); w.tally.crashes == 0 && given != stored {
		w.t.Errorf("%d messages for each of whom they are for, %d accounted for: %+v", stored, given, s)
	}
}
