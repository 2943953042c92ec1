package backendtest

import (
	"fmt"
	"strings"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// clone copies a message as it was before it was stored.
func clone(m *parley.Message) *parley.Message {
	c := *m
	c.Seq, c.Time = 0, time.Time{}
	return &c
}

// fill appends n messages to topic, in batches of several sizes, and returns
// their seqs.
func (r *rig) fill(topic string, n int) []parley.Seq {
	r.Helper()
	var seqs []parley.Seq
	for len(seqs) < n {
		var batch []*parley.Message
		for range min(1+len(seqs)%9, n-len(seqs)) {
			batch = append(batch, message(topic, fmt.Sprint(topic, " ", len(seqs)+len(batch))))
		}
		for _, result := range r.append(entries(batch...)) {
			seqs = append(seqs, result.Seq)
		}
	}
	return seqs
}

// readBounds: After and Before are exclusive, and need not be seqs of messages.
func readBounds(r *rig) {
	seqs := r.fill("/a", 30)
	r.fill("/b", 3)
	points := []parley.Seq{0, 1, seqs[0] - 1, seqs[0], seqs[0] + 1, seqs[7], seqs[7] + 1, seqs[8] - 1, seqs[29] - 1, seqs[29], seqs[29] + 1, parley.MaxSeq - 1}
	for _, after := range points {
		for _, before := range append(points, parley.MaxSeq) {
			for _, reverse := range []bool{false, true} {
				r.expect(backend.Query{Stream: "a", After: after, Before: before, Reverse: reverse})
				r.expect(backend.Query{Stream: "a", After: after, Before: before, Reverse: reverse, Limit: 4})
			}
		}
	}
}

// readPages: a page of a stream in which nothing is skipped is full as long as
// there are messages.
func readPages(r *rig) {
	r.fill("/a", 50)
	for _, limit := range []int{1, 2, 7, 49, 50, 51, 1000} {
		for _, reverse := range []bool{false, true} {
			q := backend.Query{Stream: "a", Limit: limit, Reverse: reverse}
			r.expect(q)
			page, err := r.log.Read(r.Context(), q)
			if err != nil || len(page.Messages) != min(limit, 50) || limit < 50 && !page.More {
				r.Errorf("Read %s: %d messages, more %v, error %v", describe(q), len(page.Messages), page.More, err)
			}
		}
	}
}

func readMaxBytes(r *rig) {
	for i := range 40 {
		r.publish("/a", strings.Repeat("x", i*i%1000))
	}
	r.publish("/a", strings.Repeat("x", 1<<20))
	r.publish("/a", "after the big one")
	for _, bytes := range []int{1, 256, 257, 1000, 5000, 1 << 20, 1 << 30} {
		for _, reverse := range []bool{false, true} {
			r.expect(backend.Query{Stream: "a", MaxBytes: bytes, Reverse: reverse})
			r.expect(backend.Query{Stream: "a", MaxBytes: bytes, Reverse: reverse, Limit: 3})
		}
	}
	page, err := r.log.Read(r.Context(), backend.Query{Stream: "a", MaxBytes: 600})
	if err != nil || len(page.Messages) != 3 { // 256 + 0, 256 + 1, and the one that reaches 600.
		r.Errorf("a page of 600 bytes: %d messages, error %v, want 3", len(page.Messages), err)
	}
}

func readSince(r *rig) {
	r.fill("/a/x", 20)
	r.fill("/a", 20)
	times := []time.Time{time.Unix(0, 0), time.Now().Add(time.Hour)}
	for _, m := range r.want.stream("a").messages {
		times = append(times, m.Time.Add(-time.Microsecond), m.Time, m.Time.Add(time.Nanosecond), m.Time.Add(time.Microsecond))
	}
	for i, since := range times {
		r.expect(backend.Query{Stream: "a", Since: since, Reverse: i%2 == 1})
		r.expect(backend.Query{Stream: "a", Topic: "/a/x", Since: since, Limit: 3, Reverse: i%3 == 1})
	}
}

func readUnknown(r *rig) {
	r.publish("/known", "x")
	for _, s := range []parley.Stream{"unknown", "know", "knownn", "", "$inbox/nobody"} {
		r.bounds(s)
		r.expect(backend.Query{Stream: s})
		r.expect(backend.Query{Stream: s, Topic: s.Topic() + "/below", After: 7, Reverse: true})
	}
	r.expect(backend.Query{Stream: "known", Topic: "/known/below"})
	r.everything()
}

// readExpired: what has expired is neither read nor counted, however it is
// asked for. Queries with one Now agree on what has expired.
func readExpired(r *rig) {
	now := time.Now().Truncate(time.Microsecond)
	for i := range 60 {
		m := message([]string{"/a", "/a/x"}[i%2], fmt.Sprint(i))
		switch i % 5 {
		case 0:
			m.Expires = now.Add(-time.Hour)
		case 1:
			m.Expires = now.Add(time.Duration(i) * time.Minute)
		case 2:
			m.Expires = now.Add(24 * time.Hour)
		}
		r.append(entries(m))
	}
	at := []time.Time{{}, now, now.Add(31 * time.Minute), now.Add(31*time.Minute - time.Microsecond), now.Add(2 * time.Hour), now.Add(48 * time.Hour)}
	for _, when := range at {
		for _, topic := range []parley.Topic{"", "/a/x"} {
			for _, reverse := range []bool{false, true} {
				for _, limit := range []int{0, 1, 10} {
					r.expect(backend.Query{Stream: "a", Topic: topic, Now: when, Reverse: reverse, Limit: limit})
				}
			}
		}
	}
	r.everything()
}

// readParams: a message with filters is for readers whose parameters satisfy
// all of them; a reader without parameters is shown everything.
func readParams(r *rig) {
	filters := []map[string]string{
		nil, {"user": "ann"}, {"user": "bob"}, {"user": "ann", "app": "x"}, {"app": ""}, {}, {"": ""}, {"user": ""},
	}
	for i := range 40 {
		m := message([]string{"/a", "/a/x"}[i%2], fmt.Sprint(i))
		m.Filters = filters[i*3%len(filters)]
		if i%5 == 0 {
			m.Filters = nil
		}
		r.append(entries(m))
	}
	for _, params := range []map[string]string{nil, {}, {"user": "ann"}, {"user": "bob"}, {"user": "ann", "app": "x"}, {"other": "y"}} {
		for _, topic := range []parley.Topic{"", "/a/x"} {
			for _, reverse := range []bool{false, true} {
				for _, limit := range []int{0, 1, 7} {
					r.expect(backend.Query{Stream: "a", Topic: topic, Params: params, Reverse: reverse, Limit: limit})
				}
			}
		}
	}
}

// readOwn: the slice of a page is the caller's.
func readOwn(r *rig) {
	r.fill("/a", 10)
	page, err := r.log.Read(r.Context(), backend.Query{Stream: "a"})
	if err != nil {
		r.Fatal(err)
	}
	clear(page.Messages)
	r.everything()
}

// countLimit: Count finds the lowest that many, in reverse the highest.
func countLimit(r *rig) {
	seqs := r.fill("/a", 25)
	r.fill("/a/x", 25)
	for _, limit := range []int{0, 1, 24, 25, 26, 49, 50, 51} {
		for _, reverse := range []bool{false, true} {
			for _, topic := range []parley.Topic{"", "/a", "/a/x"} {
				q := backend.Query{Stream: "a", Topic: topic, Limit: limit, Reverse: reverse}
				r.count(q)
				q.MaxBytes = 1
				r.count(q)
				q.After, q.Before = seqs[3], seqs[20]
				r.count(q)
			}
		}
	}
}

// countNewestN: the newest N are counted and then read forwards from the first
// of them, under one Now.
func countNewestN(r *rig) {
	now := time.Now().Truncate(time.Microsecond)
	for i := range 80 {
		m := message([]string{"/a", "/a/b", "/a/b/c"}[i%3], fmt.Sprint(i))
		if i%4 == 0 {
			m.Expires = now.Add(-time.Second)
		}
		r.append(entries(m))
	}
	for _, topic := range []parley.Topic{"/a", "/a/b", "/a/b/c"} {
		for _, n := range []int{1, 5, 20, 100} {
			q := backend.Query{Stream: "a", Topic: topic, Now: now, Limit: n, Reverse: true}
			span := r.count(q)
			newest := r.want.find(q)
			newest = newest[:min(n, len(newest))]
			got := r.expect(backend.Query{Stream: "a", Topic: topic, Now: now, After: span.First - 1})
			if len(got) != len(newest) || got[0] == nil || got[0].Seq != newest[len(newest)-1].Seq {
				r.Errorf("newest %d of %s: %d messages, want %d", n, topic, len(got), len(newest))
			}
		}
	}
}
