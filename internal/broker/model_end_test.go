package broker_test

import (
	"fmt"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
)

// complete reports what never came in its time.
func (h *holder) complete() {
	for seq, body := range h.stored {
		if h.got[seq] == 0 && !h.late(seq) {
			h.fault("%d, %q, never came", seq, body)
		}
	}
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

// checkDead: what was refused for good is among the dead letters.
func (w *world) checkDead(owner string) {
	letters, _, err := w.broker.DeadLetters(w.t.Context(), owner, 0, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	there := map[string]bool{}
	for _, l := range letters {
		key := fmt.Sprint(l.Consumer.Name, " ", l.Message.Seq)
		if there[key] {
			w.t.Errorf("%s is a dead letter twice", key)
		}
		there[key] = true
	}
	for _, h := range w.holders {
		name := h.name
		if name == "legacy" {
			name = broker.LegacyDevice
		}
		for seq := range h.refused {
			if h.user == owner && !there[fmt.Sprint(name, " ", seq)] {
				w.t.Errorf("%s: %d was refused and is no dead letter", h.name, seq)
			}
		}
	}
}
