package backendtest

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// reference is the model made into a log. It shows that the suites can be
// passed, and with a fault that they cannot be passed wrongly.
type reference struct {
	fault string

	mu    sync.Mutex // guards what follows
	last  parley.Seq
	model *model
}

func newReference(fault string) *reference {
	return &reference{fault: fault, model: newModel(), last: 1000}
}

func (l *reference) Append(ctx context.Context, list []backend.Entry) ([]backend.Result, error) {
	if err := ctx.Err(); err != nil && l.fault != "ignores the context" {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	results := make([]backend.Result, len(list))
	lead := backend.Result{}
	for i, e := range list {
		if e.Along && (lead.Duplicate || lead.Err != nil) && l.fault != "stores what goes along" {
			results[i] = backend.Result{Duplicate: lead.Duplicate, Err: lead.Err}
			continue
		}
		results[i] = l.append(e)
		if !e.Along {
			lead = results[i]
		}
	}
	if l.fault == "drops one of a batch" && len(list) > 3 {
		h := l.model.stream(list[0].Message.Topic.Stream())
		h.messages = h.messages[:len(h.messages)-1]
	}
	return results, nil
}

func (l *reference) append(e backend.Entry) backend.Result {
	if l.fault == "shares keys between streams" {
		for p, m := range l.model.keys {
			if p.key == e.Key && e.Key != "" {
				return backend.Result{Seq: m.Seq, Duplicate: true}
			}
		}
	}
	if first := l.model.first(e); first != nil && l.fault != "forgets keys" {
		if !samePayload(first, e.Message) && l.fault != "ignores another payload" {
			return backend.Result{Err: fmt.Errorf("key %q: %w", e.Key, parley.ErrConflict)}
		}
		return backend.Result{Seq: first.Seq, Duplicate: true}
	}
	l.last += 2
	e.Message.Seq, e.Message.Time = l.last, time.Now().Truncate(time.Microsecond)
	stored := *e.Message
	switch {
	case l.fault == "alters a body" && len(stored.Body) == 1:
		stored.Body = []byte("?")
	case l.fault == "loses filters":
		stored.Filters = nil
	case l.fault == "stores some twice" && stored.Seq%7 == 0:
		l.model.add(backend.Entry{Message: &stored})
	}
	l.model.add(backend.Entry{Message: &stored, Key: e.Key})
	h := l.model.stream(stored.Topic.Stream())
	if n := len(h.messages); l.fault == "reorders" && n%5 == 4 {
		h.messages[n-1], h.messages[n-2] = h.messages[n-2], h.messages[n-1]
	}
	return backend.Result{Seq: stored.Seq}
}

func (l *reference) Read(ctx context.Context, q backend.Query) (backend.Page, error) {
	if err := ctx.Err(); err != nil {
		return backend.Page{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	found := l.find(q)
	page := backend.Page{Floor: l.model.stream(q.Stream).floor}
	limit, size := q.Limit, 0
	if limit == 0 {
		limit = 100
	}
	for _, m := range found {
		if len(page.Messages) == limit || q.MaxBytes > 0 && size >= q.MaxBytes {
			page.More = true
			break
		}
		page.Messages = append(page.Messages, m)
		size += m.Size()
		page.Next = m.Seq
	}
	if !page.More {
		page.Next = q.After
		if !q.Reverse {
			page.Next = max(q.After, l.model.stream(q.Stream).last)
		}
		if !q.Reverse && q.Before != 0 {
			page.Next = max(q.After, min(page.Next, q.Before-1))
		}
	}
	switch l.fault {
	case "ends after a page":
		page.More = false
	case "forgets what it passed over":
		page.Next = q.After
		if n := len(page.Messages); n > 0 {
			page.Next = page.Messages[n-1].Seq
		}
	case "hides the floor":
		page.Floor = 0
	}
	return page, nil
}

// find is the model's, with the fault in it.
func (l *reference) find(q backend.Query) []*parley.Message {
	topic := q.Topic
	switch l.fault {
	case "takes After inclusively":
		q.After -= min(q.After, 1)
	case "ignores expiry":
		q.Now = time.Unix(0, 0)
	case "ignores filters":
		q.Params = nil
	case "ignores Since":
		q.Since = time.Time{}
	case "matches names by their beginning":
		q.Topic = ""
	}
	found := l.model.find(q)
	if l.fault == "matches names by their beginning" {
		found = slices.DeleteFunc(found, func(m *parley.Message) bool {
			return !strings.HasPrefix(string(m.Topic), string(topic))
		})
	}
	return found
}

func (l *reference) Count(ctx context.Context, q backend.Query) (backend.Span, error) {
	if err := ctx.Err(); err != nil {
		return backend.Span{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.fault {
	case "counts the expired":
		q.Now = time.Unix(0, 0)
	case "counts from the oldest":
		q.Reverse = false
	}
	return l.model.count(q), nil
}

func (l *reference) Bounds(ctx context.Context, s parley.Stream) (floor, last parley.Seq, err error) {
	if err := ctx.Err(); err != nil {
		return 0, 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.model.stream(s)
	if l.fault == "forgets the last of a purged stream" && len(h.messages) == 0 {
		return h.floor, h.floor - min(h.floor, 1), nil
	}
	return h.floor, h.last, nil
}

func (l *reference) Trim(ctx context.Context, s parley.Stream, r backend.Retention) (parley.Seq, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.fault {
	case "keeps one too many":
		r.Messages += min(r.Messages, 1)
	case "trims nothing by bytes":
		r.Bytes = 0
	case "raises the floor without end":
		l.model.stream(s).floor = max(l.model.stream(s).floor, r.Through)
	}
	l.model.trim(s, r)
	h := l.model.stream(s)
	h.last = max(h.last, h.floor)
	return h.floor, nil
}

func (l *reference) Streams(ctx context.Context, from parley.Stream) iter.Seq2[parley.Stream, error] {
	return func(yield func(parley.Stream, error) bool) {
		if err := ctx.Err(); err != nil {
			yield("", err)
			return
		}
		l.mu.Lock()
		names := l.model.names()
		if l.fault == "lists empty streams" {
			names = slices.Sorted(maps.Keys(l.model.streams))
		}
		l.mu.Unlock()
		for _, s := range names {
			if s < from && l.fault != "lists all streams" {
				continue
			}
			if !yield(s, nil) {
				return
			}
		}
	}
}

// racy gives out seqs in one step and stores in another, as a log without a
// common order would: its readers can pass over what is still on its way.
type racy struct{ *reference }

func (l racy) Append(ctx context.Context, list []backend.Entry) ([]backend.Result, error) {
	l.mu.Lock()
	l.last += 2
	seq := l.last
	l.mu.Unlock()
	if seq%6 == 0 { // Let others, and readers, overtake.
		for range 50 {
			page, err := l.Read(ctx, backend.Query{Stream: "live"})
			if err != nil || page.Next > seq {
				break
			}
		}
	}
	results := make([]backend.Result, len(list))
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, e := range list {
		e.Message.Seq, e.Message.Time = seq, time.Now().Truncate(time.Microsecond)
		results[i].Seq = seq
		h := l.model.stream(e.Message.Topic.Stream())
		at, _ := slices.BinarySearchFunc(h.messages, seq, func(m *parley.Message, s parley.Seq) int { return int(m.Seq) - int(s) })
		h.messages = slices.Insert(h.messages, at, e.Message)
		h.last = max(h.last, seq)
	}
	return results, nil
}
