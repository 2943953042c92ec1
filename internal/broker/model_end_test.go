package broker_test

import (
	"fmt"

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
