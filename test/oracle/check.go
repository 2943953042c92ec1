package oracle

import (
	"slices"

	"github.com/parley-im/parley"
)

// place is where a message is stored.
type place struct {
	stream parley.Stream
	seq    parley.Seq
}

func (m Message) place() place { return place{m.Stream, m.Seq} }

// Lost checks R1: every acknowledged message is in the log, in its stream, with
// its content, and where the acknowledgement said.
func Lost(acked, log []Message) error {
	f := faults{promise: "R1, acknowledged is kept"}
	byID := make(map[string][]Message, len(log))
	for _, m := range log {
		byID[m.ID] = append(byID[m.ID], m)
	}
	for _, a := range acked {
		stored := byID[a.ID]
		switch {
		case len(stored) == 0:
			f.add("%s (stream %q, seq %d) is lost", a.ID, a.Stream, a.Seq)
		case !slices.ContainsFunc(stored, func(m Message) bool { return agrees(a, m) }):
			f.add("%s (stream %q, seq %d) is stored otherwise: stream %q, seq %d, same content: %v",
				a.ID, a.Stream, a.Seq, stored[0].Stream, stored[0].Seq, stored[0].Sum == a.Sum)
		}
	}
	return f.err()
}

// agrees is whether the log's m is what the acknowledgement a promised.
func agrees(a, m Message) bool {
	return m.Stream == a.Stream && m.Sum == a.Sum && (a.Seq == 0 || m.Seq == a.Seq)
}

// Order checks R2: seqs grow strictly within each stream of the log, and each
// trace (what one reader of one whole stream got, in order) is a contiguous
// slice of it.
func Order(log []Message, traces ...[]Message) error {
	f := faults{promise: "R2, one order"}
	last := map[parley.Stream]parley.Seq{}
	streams := map[parley.Stream][]Message{}
	for _, m := range log {
		if m.Seq <= last[m.Stream] {
			f.add("stream %q: seq %d follows %d", m.Stream, m.Seq, last[m.Stream])
		}
		last[m.Stream] = m.Seq
		streams[m.Stream] = append(streams[m.Stream], m)
	}
	for i, trace := range traces {
		if len(trace) == 0 {
			continue
		}
		stream := streams[trace[0].Stream]
		start := slices.Index(stream, trace[0])
		if start < 0 {
			f.add("trace %d: its first message, seq %d of %q, is not stored", i, trace[0].Seq, trace[0].Stream)
			continue
		}
		follow(&f, i, stream[start:], trace)
	}
	return f.err()
}

// follow compares a trace with the stream from where the trace begins.
func follow(f *faults, name any, stream, trace []Message) {
	for i, m := range trace {
		if i == len(stream) {
			f.add("trace %v goes on after the stream's end with seq %d", name, m.Seq)
			return
		}
		if m != stream[i] {
			f.add("trace %v, message %d: seq %d (%s), want seq %d (%s)", name, i, m.Seq, m.ID, stream[i].Seq, stream[i].ID)
			return
		}
	}
}

// Unstable checks R3: whatever anybody was shown or promised at a place, before
// or after any crash, is what the log holds there, and nobody was shown
// anything else. Retention must not have trimmed the log.
func Unstable(log []Message, seen ...[]Message) error {
	f := faults{promise: "R3, durable before visible"}
	stored := make(map[place]Message, len(log))
	for _, m := range log {
		if other, ok := stored[m.place()]; ok && other != m {
			f.add("stream %q, seq %d holds both %s and %s", m.Stream, m.Seq, other.ID, m.ID)
		}
		stored[m.place()] = m
	}
	for _, list := range seen {
		for _, m := range list {
			if m.Seq == 0 {
				continue
			}
			is, ok := stored[m.place()]
			switch {
			case !ok:
				f.add("stream %q, seq %d: %s was seen and is gone", m.Stream, m.Seq, m.ID)
			case is != m:
				f.add("stream %q, seq %d: %s was seen, %s is stored", m.Stream, m.Seq, m.ID, is.ID)
			}
		}
	}
	return f.err()
}

// Broken checks R4: a subscription that began after the given seq of a stream
// got every message of the log above it, in order, without a gap or a
// repetition, as far as its trace goes. The log holds what the subscription
// selects, of its stream alone.
func Broken(log []Message, after parley.Seq, trace []Message) error {
	f := faults{promise: "R4, no gap and no repetition"}
	start := slices.IndexFunc(log, func(m Message) bool { return m.Seq > after })
	if start < 0 {
		start = len(log)
	}
	follow(&f, "of the subscription", log[start:], trace)
	return f.err()
}

// Repeated checks R5: no publish is stored twice, and all acknowledgements of
// one publish that told a seq told the same one.
func Repeated(acked, log []Message) error {
	f := faults{promise: "R5, an idempotent publish is stored once"}
	stored := make(map[string]Message, len(log))
	for _, m := range log {
		if first, ok := stored[m.ID]; ok {
			f.add("%s is stored at seq %d of %q and at seq %d of %q", m.ID, first.Seq, first.Stream, m.Seq, m.Stream)
			continue
		}
		stored[m.ID] = m
	}
	told := map[string]parley.Seq{}
	for _, a := range acked {
		if a.Seq == 0 {
			continue
		}
		if first, ok := told[a.ID]; ok && first != a.Seq {
			f.add("%s was acknowledged at seq %d and at seq %d", a.ID, first, a.Seq)
		}
		told[a.ID] = a.Seq
	}
	return f.err()
}
