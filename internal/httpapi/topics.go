package httpapi

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
)

// Bounds of a list of topics.
const (
	listDefault = 1_000
	listMost    = 10_000
)

// topicsTimeout bounds one request: counting a large stream reads many keys.
const topicsTimeout = 30 * time.Second

// Topics serves what the log holds, by topic:
//
//	GET    /admin/topics?prefix=/or&after=/orders&limit=100
//	GET    /admin/topics/orders/eu
//	DELETE /admin/topics/orders
type Topics struct {
	// Log is what it looks into.
	Log backend.Log
	// Broker removes messages, from the log and from its memory.
	Broker *broker.Broker
	// Logger gets the errors that a client is not shown.
	Logger *slog.Logger
}

// Topic is what is stored at a topic and below it.
type Topic struct {
	Topic parley.Topic `json:"topic"`
	// Count is how many messages are stored and not expired.
	Count int `json:"count"`
	// First and Last are the lowest and the highest of their seqs, 0 when
	// there are none.
	First parley.Seq `json:"first"`
	Last  parley.Seq `json:"last"`
	// Floor is that of the whole stream: all up to it was trimmed.
	Floor parley.Seq `json:"floor"`
}

// List is one page of streams, in order of name.
type List struct {
	Topics []Topic `json:"topics"`
	// More says that there are further ones after the last.
	More bool `json:"more"`
}

// Purged says what a purge removed.
type Purged struct {
	Topic parley.Topic `json:"topic"`
	Count int          `json:"count"`
	Floor parley.Seq   `json:"floor"`
}

// Register adds the routes to mux. Each is wrapped by guard, which decides who
// may call it.
func (t *Topics) Register(mux *http.ServeMux, guard func(http.Handler) http.Handler) {
	for pattern, serve := range map[string]func(context.Context, *http.Request) (any, error){
		"GET /admin/topics":               t.list,
		"GET /admin/topics/{topic...}":    t.show,
		"DELETE /admin/topics/{topic...}": t.purge,
	} {
		mux.Handle(pattern, guard(t.serve(serve)))
	}
}

// serve turns a function that returns an answer or an error into a handler.
func (t *Topics) serve(fn func(context.Context, *http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), topicsTimeout)
		defer cancel()
		v, err := fn(ctx, r)
		if err != nil {
			fail(w, r, t.Logger, err)
			return
		}
		reply(w, v)
	})
}

// list answers with the streams whose topics begin with ?prefix= and follow
// ?after= in order of name. The server's own are listed only when the prefix
// asks for them.
func (t *Topics) list(ctx context.Context, r *http.Request) (any, error) {
	q := r.URL.Query()
	prefix, after := q.Get("prefix"), q.Get("after")
	limit, err := listLimit(q.Get("limit"))
	if err != nil {
		return nil, err
	}
	page := List{Topics: []Topic{}}
	for stream, err := range t.Log.Streams(ctx) {
		if err != nil {
			return nil, err
		}
		name := stream.Topic()
		if !strings.HasPrefix(string(name), prefix) || string(name) <= after ||
			name.Reserved() && !strings.HasPrefix(prefix, "/$") {
			continue
		}
		if len(page.Topics) == limit {
			page.More = true
			break
		}
		topic, err := t.look(ctx, name)
		if err != nil {
			return nil, err
		}
		page.Topics = append(page.Topics, topic)
	}
	return page, nil
}

// listLimit reads how many topics a page may have.
func listLimit(s string) (int, error) {
	if s == "" {
		return listDefault, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > listMost {
		return 0, fmt.Errorf("limit must be 1 to %d: %w", listMost, parley.ErrInvalid)
	}
	return n, nil
}

// show answers with one topic, which need not be a root.
func (t *Topics) show(ctx context.Context, r *http.Request) (any, error) {
	topic, err := parley.ParseTopic("/" + r.PathValue("topic"))
	if err != nil {
		return nil, err
	}
	return t.look(ctx, topic)
}

// purge removes every message that a stream has at this moment.
func (t *Topics) purge(ctx context.Context, r *http.Request) (any, error) {
	topic, err := parley.ParseTopic("/" + r.PathValue("topic"))
	if err != nil {
		return nil, err
	}
	if topic.Reserved() {
		return nil, fmt.Errorf("%s is the server's own: %w", topic, parley.ErrForbidden)
	}
	if topic != topic.Stream().Topic() {
		return nil, fmt.Errorf("only a whole stream can be purged: %s: %w", topic.Stream().Topic(), parley.ErrInvalid)
	}
	before, err := t.look(ctx, topic)
	if err != nil {
		return nil, err
	}
	_, last, err := t.Log.Bounds(ctx, topic.Stream())
	if err != nil {
		return nil, err
	}
	floor, err := t.Broker.Trim(ctx, topic.Stream(), backend.Retention{Through: last})
	if err != nil {
		return nil, err
	}
	t.Logger.InfoContext(ctx, "topic purged", "topic", string(topic), "messages", before.Count, "floor", uint64(floor))
	return Purged{Topic: topic, Count: before.Count, Floor: floor}, nil
}

// look finds out what is stored at and below a topic.
func (t *Topics) look(ctx context.Context, topic parley.Topic) (Topic, error) {
	floor, last, err := t.Log.Bounds(ctx, topic.Stream())
	if err != nil {
		return Topic{}, err
	}
	if last == 0 {
		return Topic{}, fmt.Errorf("nothing was ever published to %s: %w", topic.Stream().Topic(), parley.ErrNotFound)
	}
	span, err := t.Log.Count(ctx, backend.Query{Stream: topic.Stream(), Topic: topic})
	if err != nil {
		return Topic{}, err
	}
	return Topic{Topic: topic, Count: span.Count, First: span.First, Last: span.Last, Floor: floor}, nil
}
