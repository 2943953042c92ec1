package backendtest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// randomOperations does what nobody thought of, and compares with the model
// after every step.
func randomOperations(r *rig) {
	steps := 2000
	if testing.Short() {
		steps = 400
	}
	w := walk{rig: r, rand: random(r.T), start: time.Now().Truncate(time.Microsecond)}
	for range steps {
		w.step()
	}
	r.everything()
}

// walk is one random walk through a log's operations.
type walk struct {
	*rig
	rand  *rand.Rand
	start time.Time
	sent  []backend.Entry // entries with keys, to be repeated
}

func (w *walk) step() {
	switch n := w.rand.IntN(100); {
	case n < 45:
		w.appendSome()
	case n < 75:
		w.expect(w.query())
	case n < 90:
		q := w.query()
		w.count(q)
	case n < 93:
		w.bounds(w.stream())
	case n < 95:
		w.streams()
	default:
		w.trim(w.stream(), w.retention())
	}
}

func (w *walk) stream() parley.Stream {
	return []parley.Stream{"a", "ab", "b", "$inbox/ann"}[w.rand.IntN(4)]
}

// topic is a random topic of s: few names, so that topics meet, and now and
// then as deep as a topic may be.
func (w *walk) topic(s parley.Stream) parley.Topic {
	topic := s.Topic()
	depth := w.rand.IntN(4)
	if w.rand.IntN(20) == 0 {
		depth = parley.MaxTopicSegments - strings.Count(string(topic), "/")
	}
	for range depth {
		topic += parley.Topic([]string{"/x", "/xy", "/y", "/x-"}[w.rand.IntN(4)])
	}
	return topic
}

func (w *walk) appendSome() {
	var list []backend.Entry
	for range w.rand.IntN(20) {
		if len(w.sent) > 0 && w.rand.IntN(10) == 0 {
			list = append(list, w.again())
			continue
		}
		e := backend.Entry{Message: message(string(w.topic(w.stream())), strings.Repeat("x", w.rand.IntN(300)))}
		e.Message.Body = append(e.Message.Body, fmt.Sprint(w.rand.Uint64())...)
		if w.rand.IntN(4) == 0 {
			e.Message.Expires = w.start.Add(time.Duration(1+w.rand.IntN(5)) * time.Hour)
		}
		if w.rand.IntN(6) == 0 {
			e.Message.Filters = map[string]string{"user": []string{"ann", "bob", ""}[w.rand.IntN(3)]}
		}
		if w.rand.IntN(3) == 0 {
			e.Key = fmt.Sprint("key", w.rand.Uint64())
			w.sent = append(w.sent, e)
		}
		list = append(list, e)
	}
	w.append(list)
}

// again repeats an earlier entry's key, mostly with the same payload.
func (w *walk) again() backend.Entry {
	e := w.sent[w.rand.IntN(len(w.sent))]
	e.Message = clone(e.Message)
	if w.rand.IntN(4) == 0 {
		e.Message.Body = []byte("another payload")
	}
	return e
}

func (w *walk) query() backend.Query {
	s := w.stream()
	q := backend.Query{Stream: s, After: w.point(s), Before: w.point(s), Reverse: w.rand.IntN(2) == 0}
	if w.rand.IntN(2) == 0 {
		q.Topic = w.topic(s)
	}
	if w.rand.IntN(2) == 0 {
		q.Limit = 1 + w.rand.IntN(50)
	}
	if w.rand.IntN(3) == 0 {
		q.MaxBytes = 1 + w.rand.IntN(8000)
	}
	if messages := w.want.stream(s).messages; w.rand.IntN(3) == 0 && len(messages) > 0 {
		q.Since = messages[w.rand.IntN(len(messages))].Time
	}
	if w.rand.IntN(4) == 0 {
		q.Params = map[string]string{"user": []string{"ann", "bob"}[w.rand.IntN(2)]}
	}
	if w.rand.IntN(2) == 0 {
		q.Now = w.start.Add(time.Duration(w.rand.IntN(6*60)) * time.Minute)
	}
	return q
}

// point is a bound at, just beside or far from a message; mostly none.
func (w *walk) point(s parley.Stream) parley.Seq {
	messages := w.want.stream(s).messages
	if len(messages) == 0 || w.rand.IntN(2) == 0 {
		return 0
	}
	return messages[w.rand.IntN(len(messages))].Seq + parley.Seq(w.rand.IntN(3)) - 1
}

func (w *walk) retention() backend.Retention {
	s := w.stream()
	messages := w.want.stream(s).messages
	var r backend.Retention
	switch w.rand.IntN(5) {
	case 0:
		r.Through = w.point(s)
	case 1:
		r.Messages = 1 + w.rand.IntN(400)
	case 2:
		r.Bytes = 1 + w.rand.Int64N(100_000)
	case 3:
		if len(messages) > 0 {
			r.Before = messages[w.rand.IntN(len(messages))].Time
		}
	case 4:
		if w.rand.IntN(4) == 0 {
			r.Through = parley.MaxSeq - 1
		}
	}
	return r
}
