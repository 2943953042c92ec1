package oracle_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/test/oracle"
)

// world is a run in which every promise was kept: three streams of ten messages,
// all acknowledged, read by all. Each test breaks one promise in it.
type world struct {
	log, acked, trace []oracle.Message // trace is of the stream "s1" after its third message
	after             parley.Seq
}

func newWorld() *world {
	w := &world{}
	for s := range 3 {
		for i := range 10 {
			m := &parley.Message{
				Topic: parley.Topic(fmt.Sprintf("/s%d/t", s)),
				Seq:   parley.Seq(100 + 7*i + s),
				ID:    fmt.Sprintf("id-%d-%d", s, i),
				Body:  fmt.Append(nil, "body ", s, i),
			}
			w.log = append(w.log, oracle.Of(m))
		}
	}
	w.acked = slices.Clone(w.log)
	w.acked[5].Seq = 0 // Not every protocol tells it.
	w.acked = append(w.acked, w.acked[3], w.acked[5])
	w.after = w.log[12].Seq
	w.trace = slices.Clone(w.log[13:18])
	return w
}

// check runs every checker and returns the text of all their errors.
func (w *world) check() string {
	var l oracle.Ledger
	for _, m := range w.acked {
		l.Ack(m)
	}
	for _, m := range w.trace {
		l.Show(m)
	}
	stream := slices.DeleteFunc(slices.Clone(w.log), func(m oracle.Message) bool { return m.Stream != "s1" })
	err := errors.Join(l.Check(w.log), oracle.Order(w.log, w.trace), oracle.Broken(stream, w.after, w.trace))
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestSound(t *testing.T) {
	if err := newWorld().check(); err != "" {
		t.Errorf("nothing is wrong, but: %v", err)
	}
	w := newWorld()
	w.acked, w.trace = w.acked[:4], nil
	if err := w.check(); err != "" {
		t.Errorf("the log may hold more than was acknowledged, and a reader may get nothing, but: %v", err)
	}
}

func TestCheckersFindFaults(t *testing.T) {
	tests := []struct {
		name   string
		want   string // the promise that must be named
		damage func(w *world)
	}{
		{"the log drops an acknowledged entry", "R1", func(w *world) { w.log = slices.Delete(w.log, 4, 5) }},
		{"the log drops its newest entry", "R1", func(w *world) { w.log = w.log[:len(w.log)-1] }},
		{"the log alters a payload", "R1", func(w *world) { w.log[4].Sum[0]++ }},
		{"the log moves an entry to another stream", "R1", func(w *world) { w.log[29].Stream = "s9" }},
		{"the log gives an entry another seq", "R1", func(w *world) { w.log[9].Seq++ }},
		{"the log renames an entry", "R1", func(w *world) { w.log[9].ID = "stranger" }},
		{"the log reorders two entries", "R2", func(w *world) { w.log[5], w.log[6] = w.log[6], w.log[5] }},
		{"the log gives one seq to two entries", "R2", func(w *world) {
			other := w.log[4]
			other.ID = "other"
			w.log = slices.Insert(w.log, 5, other)
		}},
		{"a publish is stored twice", "R5", func(w *world) {
			again := w.log[9]
			again.Seq++
			w.log = slices.Insert(w.log, 10, again)
		}},
		{"a retry is told another seq", "R5", func(w *world) {
			again := w.acked[9]
			again.Seq++
			w.acked = append(w.acked, again)
		}},
		{"a reader misses an entry", "R4", func(w *world) { w.trace = slices.Delete(w.trace, 2, 3) }},
		{"a reader misses the first entry", "R4", func(w *world) { w.trace = w.trace[1:] }},
		{"a reader gets an entry twice", "R4", func(w *world) { w.trace = slices.Insert(w.trace, 2, w.trace[2]) }},
		{"a reader gets an entry that it had", "R4", func(w *world) { w.trace = slices.Insert(w.trace, 0, w.log[12]) }},
		{"a reader gets two entries in another order", "R4", func(w *world) { w.trace[1], w.trace[2] = w.trace[2], w.trace[1] }},
		{"a reader gets an altered payload", "R3", func(w *world) { w.trace[2].Sum[31]++ }},
		{"an entry was delivered before it was durable, and lost", "R3", func(w *world) {
			lost := w.log[17]
			lost.Seq, lost.ID = lost.Seq+1, "lost in a crash"
			w.trace = append(w.trace, lost)
		}},
		{"an entry was delivered, lost, and its seq given again", "R3", func(w *world) {
			w.trace[4].ID, w.trace[4].Sum = "lost in a crash", oracle.SumOf("/s1/t", "", []byte("lost"))
		}},
		{"an entry was acknowledged at a seq that another one has", "R3", func(w *world) {
			w.acked = append(w.acked, oracle.Message{Stream: "s0", Seq: w.log[3].Seq, ID: "id-0-4", Sum: w.log[4].Sum})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld()
			tt.damage(w)
			if text := w.check(); !strings.Contains(text, tt.want+",") {
				t.Errorf("want a fault of %s, got %q", tt.want, text)
			}
		})
	}
}

// TestOrderOfTraces: R2 holds a reader's trace against the stream, wherever it
// began.
func TestOrderOfTraces(t *testing.T) {
	w := newWorld()
	if err := oracle.Order(w.log, w.log[:10], w.log[3:7], nil, w.log[25:]); err != nil {
		t.Errorf("contiguous slices: %v", err)
	}
	for name, trace := range map[string][]oracle.Message{
		"skips":   {w.log[1], w.log[3]},
		"repeats": {w.log[1], w.log[1]},
		"turns":   {w.log[2], w.log[1]},
		"crosses": {w.log[9], w.log[10]},
		"invents": {{Stream: "s0", Seq: 5, ID: "x"}},
	} {
		if err := oracle.Order(w.log, w.log[:10], trace); err == nil {
			t.Errorf("a trace that %s passes", name)
		}
	}
}

func TestSumTellsPartsApart(t *testing.T) {
	sums := map[oracle.Sum]string{}
	for _, parts := range [][3]string{{"/a", "b", "c"}, {"/ab", "", "c"}, {"/a", "", "bc"}, {"/a", "bc", ""}, {"", "/a", "bc"}} {
		sum := oracle.SumOf(parley.Topic(parts[0]), parts[1], []byte(parts[2]))
		if other, ok := sums[sum]; ok {
			t.Errorf("%q and %s have one sum", parts, other)
		}
		sums[sum] = fmt.Sprint(parts)
	}
}

// TestManyFaults: a broken run does not drown its reader.
func TestManyFaults(t *testing.T) {
	w := newWorld()
	err := oracle.Lost(w.acked, nil)
	if err == nil || !strings.Contains(err.Error(), "32 faults") || strings.Count(err.Error(), "\n") > 5 {
		t.Errorf("got %v", err)
	}
}
