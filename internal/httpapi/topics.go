package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
)

// Bounds of a list of topics.
const (
	listDefault = 100
	listMost    = 1_000
)

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
	// Retention is the rule in force for the stream; a list does not have it.
	Retention *Retention `json:"retention,omitempty"`
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

// list answers with the streams whose topics begin with ?prefix= and follow
// ?after= in order of name, without the server's own.
func (a *API) list(w http.ResponseWriter, r *request) error {
	limit, err := r.number("limit", listDefault, listMost)
	if err != nil {
		return err
	}
	select {
	case a.lists <- struct{}{}:
		defer func() { <-a.lists }()
	default: // each reads the whole list of streams, and counts a page of them
		return fmt.Errorf("too many lists are being made, try again: %w", parley.ErrUnavailable)
	}
	page := List{Topics: []Topic{}}
	for stream, err := range broker.TopicStreams(r.Context(), a.cfg.Log, parley.Stream(strings.TrimPrefix(r.query["after"], "/"))) {
		if err != nil {
			return err
		}
		name := stream.Topic()
		if !strings.HasPrefix(string(name), r.query["prefix"]) || string(name) <= r.query["after"] || name.Reserved() || r.principal().Allow(account.History, name) != nil {
			continue
		}
		if len(page.Topics) == limit {
			page.More = true
			break
		}
		topic, err := a.look(r.Context(), r.principal(), name)
		if err != nil {
			return err
		}
		page.Topics = append(page.Topics, topic)
	}
	return reply(w, http.StatusOK, page)
}

// show answers with one topic, which need not be a root.
func (a *API) show(w http.ResponseWriter, r *request) error {
	topic, err := r.topic()
	if err != nil {
		return err
	}
	t, err := a.look(r.Context(), r.principal(), topic)
	if err != nil {
		return err
	}
	rule := a.retentionOf(topic.Stream())
	t.Retention = &rule
	return reply(w, http.StatusOK, t)
}

// purge removes every message that a stream has at this moment.
func (a *API) purge(w http.ResponseWriter, r *request) error {
	topic, err := r.topic()
	if err != nil {
		return err
	}
	if topic.Reserved() {
		return account.ErrReserved
	}
	if topic != topic.Stream().Topic() {
		return invalid("only a whole stream can be purged: %s", topic.Stream().Topic())
	}
	before, err := a.look(r.Context(), r.principal(), topic)
	if err != nil {
		return err
	}
	_, last, err := a.cfg.Log.Bounds(r.Context(), topic.Stream())
	if err != nil {
		return err
	}
	floor, err := a.cfg.Broker.Trim(r.Context(), topic.Stream(), backend.Retention{Through: last})
	if err != nil {
		return err
	}
	a.cfg.Logger.InfoContext(r.Context(), "topic purged", "topic", string(topic), "messages", before.Count, "floor", uint64(floor))
	return reply(w, http.StatusOK, Purged{Topic: topic, Count: before.Count, Floor: floor})
}

// look finds out what is stored at and below a topic, for who's eyes.
func (a *API) look(ctx context.Context, who *account.Principal, topic parley.Topic) (Topic, error) {
	span, err := a.cfg.Broker.Count(ctx, who, backend.Query{Topic: topic})
	if err != nil {
		return Topic{}, err
	}
	floor, last, err := a.cfg.Log.Bounds(ctx, topic.Stream())
	if err != nil {
		return Topic{}, err
	}
	if last == 0 {
		return Topic{}, fmt.Errorf("nothing was ever published to %s: %w", topic.Stream().Topic(), parley.ErrNotFound)
	}
	return Topic{Topic: topic, Count: span.Count, First: span.First, Last: span.Last, Floor: floor}, nil
}
