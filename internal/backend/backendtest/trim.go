package backendtest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

func trimThrough(r *rig) {
	seqs := r.fill("/a", 40)
	other := r.fill("/b", 10)
	for _, through := range []parley.Seq{seqs[0] - 1, seqs[0], seqs[0], seqs[9], seqs[20] - 1, seqs[20] + 1, seqs[5], seqs[38], other[3]} {
		r.trim("a", backend.Retention{Through: through})
	}
	r.publish("/a", "after")
	r.everything()
}

func trimBefore(r *rig) {
	r.fill("/a", 60)
	messages := slices.Clone(r.want.stream("a").messages)
	r.trim("a", backend.Retention{Before: messages[0].Time})
	r.trim("a", backend.Retention{Before: messages[20].Time})
	r.trim("a", backend.Retention{Before: messages[20].Time.Add(time.Nanosecond)})
	r.trim("a", backend.Retention{Before: messages[5].Time})
	r.trim("a", backend.Retention{Before: messages[59].Time})
	r.publish("/a", "after")
	r.everything()
	r.trim("a", backend.Retention{Before: time.Now().Add(time.Hour)})
	r.everything()
}

func trimMessages(r *rig) {
	r.fill("/a", 40)
	r.fill("/a/x", 10)
	for _, keep := range []int{51, 50, 49, 20, 30, 1} {
		r.trim("a", backend.Retention{Messages: keep})
	}
	r.fill("/a", 5)
	r.trim("a", backend.Retention{Messages: 3})
	r.everything()
}

func trimBytes(r *rig) {
	total := int64(0)
	for i := range 50 {
		m := message("/a", strings.Repeat("x", 37*i%700))
		r.append(entries(m))
		total += int64(m.Size())
	}
	newest := r.want.stream("a").messages[49].Size()
	for _, keep := range []int64{total, total - 1, total / 2, total/2 - 1, int64(newest), int64(newest) - 1} {
		r.trim("a", backend.Retention{Bytes: keep})
	}
	r.publish("/a", "after")
	r.everything()
}

// trimSeveral: every field that is set is met; none that is zero drops anything.
func trimSeveral(r *rig) {
	seqs := r.fill("/a", 60)
	messages := slices.Clone(r.want.stream("a").messages)
	r.trim("a", backend.Retention{})
	r.trim("a", backend.Retention{Through: seqs[5], Messages: 1000, Bytes: 1 << 40, Before: time.Unix(0, 0)})
	r.trim("a", backend.Retention{Through: seqs[2], Messages: 40})
	r.trim("a", backend.Retention{Before: messages[30].Time, Messages: 1000})
	r.trim("a", backend.Retention{Through: seqs[2], Bytes: 2000, Messages: 20})
	r.everything()
}

// trimEverything purges a stream. It goes on with higher seqs, above any floor
// that a reader was told, and no other stream is touched.
func trimEverything(r *rig) {
	r.fill("/a/x", 30)
	r.fill("/ab", 10)
	r.fill("/A", 10)
	for range 3 {
		r.trim("a", backend.Retention{Through: parley.MaxSeq - 1})
		r.everything()
		r.expect(backend.Query{Stream: "a", Topic: "/a/x"})
		r.fill("/a/x", 5)
		r.everything()
		r.expect(backend.Query{Stream: "a", Topic: "/a/x", Limit: 2})
	}
	r.trim("never", backend.Retention{Messages: 3})
	r.everything()
}

// trimTopics: what is trimmed is gone from every topic of the stream.
func trimTopics(r *rig) {
	for i := range 120 {
		r.publish(fmt.Sprintf("/a/b%d/c%d", i%3, i%2), fmt.Sprint(i))
	}
	messages := slices.Clone(r.want.stream("a").messages)
	for _, through := range []int{0, 1, 30, 77, 118} {
		r.trim("a", backend.Retention{Through: messages[through].Seq})
		for _, topic := range []parley.Topic{"/a/b0", "/a/b1", "/a/b2/c0", "/a/b2/c1"} {
			r.everyWay("a", topic)
		}
	}
	r.fill("/a/b0/c0", 7)
	r.everyWay("a", "/a/b0")
	r.everything()
}

// trimBelowTheFloor: a reader whose cursor is below the floor gets what is left
// and is told the floor, on every page and when nothing is left.
func trimBelowTheFloor(r *rig) {
	seqs := r.fill("/a/x", 40)
	r.trim("a", backend.Retention{Through: seqs[20]})
	for _, q := range []backend.Query{
		{After: 0}, {After: seqs[3]}, {After: seqs[20]}, {After: seqs[30]}, {Before: seqs[10]}, {After: seqs[2], Before: seqs[21]}, {Before: seqs[30]},
	} {
		for _, topic := range []parley.Topic{"", "/a/x", "/a/none"} {
			for _, reverse := range []bool{false, true} {
				q.Stream, q.Topic, q.Reverse, q.Limit = "a", topic, reverse, 6
				r.expect(q)
			}
		}
	}
	r.trim("a", backend.Retention{Through: seqs[39]})
	r.expect(backend.Query{Stream: "a", After: seqs[3]})
	r.everything()
}

// streamsNames: streams come in order of their names' bytes, once each, only
// while they hold messages; an iteration may be left early.
func streamsNames(r *rig) {
	topics := []string{"/b", "/a", "/ab", "/a-", "/a/x", "/A", "/", "/ä", "/\U0010ffff", "/$inbox/b", "/$inbox/a", "/$inbox/ab", "/$inbox", "/" + strings.Repeat("z", 254)}
	for round := range 3 {
		for _, topic := range topics {
			r.publish(topic, fmt.Sprint(round))
		}
	}
	for i := range 100 {
		r.publish(fmt.Sprintf("/many%d/x/y", i), "one")
	}
	r.everything()
	for s, err := range r.log.Streams(r.Context(), "") {
		if err != nil || s != "" {
			r.Errorf("first stream: %q, %v, want the one of /", s, err)
		}
		break
	}
	// A stream may be trimmed while they are listed: retention does that.
	for s, err := range r.log.Streams(r.Context(), "") {
		if err != nil {
			r.Fatal(err)
		}
		if strings.HasPrefix(string(s), "many") {
			r.trim(s, backend.Retention{Through: parley.MaxSeq - 1})
		}
	}
	r.everything()
}
