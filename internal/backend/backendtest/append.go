package backendtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

func appendOrder(r *rig) {
	for n := range 40 { // Batches of 0 to 39 beside single messages.
		var batch []*parley.Message
		for i := range n {
			batch = append(batch, message("/order", fmt.Sprintf("%d/%d", n, i)))
		}
		r.append(entries(batch...))
		r.publish("/order", fmt.Sprint("single ", n))
	}
	r.everything()
}

func appendSeveralStreams(r *rig) {
	var batch []*parley.Message
	for i := range 300 {
		batch = append(batch, message(fmt.Sprintf("/s%d/t%d", i%7, i%3), fmt.Sprint(i)))
	}
	r.append(entries(batch...))
	r.append(entries(clone(batch[0]), clone(batch[1]), clone(batch[0])))
	r.everything()
}

func appendEmpty(r *rig) {
	for _, list := range [][]backend.Entry{nil, {}} {
		if got := r.append(list); len(got) != 0 {
			r.Errorf("Append of nothing: %d results", len(got))
		}
	}
	r.streams()
}

func appendFields(r *rig) {
	expires := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	full := &parley.Message{
		Topic:   "/größe/日本/🙂",
		Seq:     42,              // The log's to set,
		Time:    time.Unix(1, 0), // both of them.
		Expires: expires,
		ID:      "id \x00\xff\n" + string(pattern(240)),
		Sender:  parley.Identity{User: "ann,\n\x00", Device: "phone\xff"},
		Header:  `{"Content-Type": "text/plain",  "x":"\u00e9"}` + "\r\t\x00",
		Body:    []byte("body"),
		Filters: map[string]string{"": "", "user": "ann", "\x00\xff": "\n", "empty": ""},
	}
	long := message("/"+string(slices.Repeat([]byte("x"), parley.MaxTopicBytes-1)), "")
	long.ID = string(pattern(parley.MaxIDBytes))
	long.Sender = parley.Identity{User: string(pattern(parley.MaxUserBytes)), Device: string(pattern(parley.MaxUserBytes))}
	long.Header = string(slices.Repeat([]byte("h"), parley.MaxHeaderBytes))
	user, device := message("/one", "user"), message("/one", "device")
	user.Sender.User, device.Sender.Device = "ann", "phone"
	header := message("/one", "")
	header.Header = "not JSON"
	r.append(entries(full, long, user, device, header, message("/one", "plain"), message("/", "the root alone")))
	r.everything()
}

func appendBodies(r *rig) {
	var batch []*parley.Message
	for _, n := range []int{0, 1, 2, 127, 128, 255, 256, 4095, 4096, 65535, 65536, 1 << 20} {
		batch = append(batch, message("/sizes", string(pattern(n))))
	}
	nothing := message("/sizes", "")
	nothing.Body = nil
	batch = append(batch, nothing, message("/sizes", "\x00"), message("/sizes", "\xff\xfe"))
	r.append(entries(batch...))
	for _, m := range batch {
		r.append(entries(clone(m)))
	}
	r.everything()
}

// cancelledContext: every method fails, and nothing is stored.
func cancelledContext(r *rig) {
	r.publish("/a", "before")
	ctx, cancel := context.WithCancel(r.Context())
	cancel()
	calls := map[string]func() error{
		"Append": func() error {
			_, err := r.log.Append(ctx, entries(message("/a", "never")))
			return err
		},
		"Read": func() error {
			_, err := r.log.Read(ctx, backend.Query{Stream: "a"})
			return err
		},
		"Count": func() error {
			_, err := r.log.Count(ctx, backend.Query{Stream: "a"})
			return err
		},
		"Bounds": func() error {
			_, _, err := r.log.Bounds(ctx, "a")
			return err
		},
		"Trim": func() error {
			_, err := r.log.Trim(ctx, "a", backend.Retention{Through: parley.MaxSeq - 1})
			return err
		},
		"Streams": func() error {
			for _, err := range r.log.Streams(ctx, "") {
				return err
			}
			return nil
		},
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, context.Canceled) {
			r.Errorf("%s with a cancelled context: %v, want context.Canceled", name, err)
		}
	}
	r.publish("/a", "after")
	r.everything()
}

// appendConcurrent: many callers append at once, to shared streams and their
// own. Every seq is given once, and each caller's messages keep their order.
func appendConcurrent(r *rig) {
	const callers, rounds = 16, 30
	appended := make([][]*parley.Message, callers)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for n := range rounds {
				batch := []*parley.Message{
					message("/shared/x", fmt.Sprintf("%d %d a", c, n)),
					message(fmt.Sprint("/own", c), fmt.Sprint(n)),
					message("/shared", fmt.Sprintf("%d %d b", c, n)),
				}
				results, err := r.log.Append(r.Context(), entries(batch...))
				if err != nil {
					r.Errorf("Append: %v", err)
					return
				}
				for i, m := range batch {
					if results[i].Seq != m.Seq || results[i].Err != nil || results[i].Duplicate {
						r.Errorf("caller %d: result %+v for a message with seq %d", c, results[i], m.Seq)
					}
				}
				appended[c] = append(appended[c], batch...)
			}
		})
	}
	wg.Wait()
	if r.Failed() {
		return
	}
	var all []*parley.Message
	for c, list := range appended {
		last := map[parley.Stream]parley.Seq{}
		for _, m := range list {
			if m.Seq <= last[m.Topic.Stream()] {
				r.Errorf("caller %d: seq %d after %d", c, m.Seq, last[m.Topic.Stream()])
			}
			last[m.Topic.Stream()] = m.Seq
		}
		all = append(all, list...)
	}
	// The model finds a seq that was given twice as a stream that does not grow.
	slices.SortFunc(all, func(a, b *parley.Message) int { return int(a.Seq) - int(b.Seq) })
	for _, m := range all {
		if m.Seq <= r.want.stream(m.Topic.Stream()).last {
			r.Fatalf("seq %d of stream %q was given twice", m.Seq, m.Topic.Stream())
		}
		r.want.add(backend.Entry{Message: m})
	}
	r.everything()
}

// readerSeesOneOrder: a reader that follows Next while others append sees the
// stream exactly as it is in the end: nothing appears behind its back, and what
// Append has confirmed, a read finds.
func readerSeesOneOrder(r *rig) {
	const callers, rounds = 8, 60
	var stopped atomic.Bool
	var writers, readers sync.WaitGroup
	for c := range callers {
		writers.Go(func() {
			for n := range rounds {
				m := message([]string{"/live", "/live/x"}[n%2], fmt.Sprint(c, " ", n))
				if _, err := r.log.Append(r.Context(), entries(m, message("/else", "noise"))); err != nil {
					r.Errorf("Append: %v", err)
					return
				}
				page, err := r.log.Read(r.Context(), backend.Query{Stream: "live", After: m.Seq - 1, Limit: 1})
				if err != nil || len(page.Messages) != 1 || page.Messages[0].Seq != m.Seq {
					r.Errorf("seq %d is confirmed, but Read finds %d messages, error %v", m.Seq, len(page.Messages), err)
				}
			}
		})
	}
	topics := []parley.Topic{"", "/live", "/live/x"}
	traces := make([][]*parley.Message, len(topics))
	for i, topic := range topics {
		readers.Go(func() { traces[i] = r.follow(backend.Query{Stream: "live", Topic: topic, Limit: 5}, stopped.Load) })
	}
	writers.Wait()
	stopped.Store(true)
	readers.Wait()
	for i, topic := range topics {
		final := r.readAllOf("live", topic)
		if fault := compare(traces[i], final); fault != "" {
			r.Errorf("reader of %q: %s", topic, fault)
		}
	}
	if got := len(traces[0]); got != callers*rounds && !r.Failed() {
		r.Errorf("the stream holds %d messages, want %d", got, callers*rounds)
	}
}

// follow reads pages until it is told to stop and no further page comes.
func (r *rig) follow(q backend.Query, stopped func() bool) []*parley.Message {
	var trace []*parley.Message
	for {
		last := stopped()
		page, err := r.log.Read(r.Context(), q)
		if err != nil {
			r.Errorf("Read: %v", err)
			return trace
		}
		trace = append(trace, page.Messages...)
		q.After = page.Next
		if last && !page.More {
			return trace
		}
	}
}

// readAllOf reads without a model.
func (r *rig) readAllOf(s parley.Stream, topic parley.Topic) []*parley.Message {
	return r.follow(backend.Query{Stream: s, Topic: topic}, func() bool { return true })
}
