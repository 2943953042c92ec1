package sse

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/units"
)

// The parameters of a request.
const (
	afterParam      = "after"
	sinceParam      = "since"
	lastParam       = "last"
	replayOnlyParam = "replay_only"
	maxParam        = "max"
	lastIDParam     = "lastEventId"
)

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, parley.ErrInvalid)...)
}

// Parse reads what a client asks for: a topic, the query of the URL, and the
// Last-Event-ID of a client that comes back, which decides where to begin
// whatever the query says. The query may have
//
//	after=SEQ          begin with the first message above SEQ; 0 is the oldest
//	since=TIME|AGE     begin at an RFC 3339 time, or so long before now: 90s, 12h, 7d
//	last=N             begin with the newest N
//	replay_only=true   end after what is stored; it needs one of the three
//	max=N              end after N messages; it needs replay_only
//	lastEventId=SEQ    for clients that cannot send a header
//
// each at most once, and at most one of the first three. The error wraps
// parley.ErrInvalid. Whether the client may have the topic is not asked here.
func Parse(topic, query, lastEventID string, now time.Time) (broker.Subscribe, error) {
	var r broker.Subscribe
	var err error
	if r.Topic, err = parley.ParseTopic(topic); err != nil {
		return r, err
	}
	q, err := parameters(query)
	if err != nil {
		return r, err
	}
	if r.Start, err = start(q, now); err != nil {
		return r, err
	}
	if v, ok := q[replayOnlyParam]; ok {
		if r.ReplayOnly = v == "true"; !r.ReplayOnly && v != "false" {
			return r, invalid("%s is true or false", replayOnlyParam)
		}
	}
	if v, ok := q[maxParam]; ok {
		if r.Max, err = positive(maxParam, v); err != nil {
			return r, err
		}
	}
	if err := resume(&r, lastEventID, q[lastIDParam]); err != nil {
		return r, err
	}
	switch {
	case r.ReplayOnly && r.Start.Kind == broker.FromNow:
		return r, invalid("%s needs %s, %s or %s", replayOnlyParam, afterParam, sinceParam, lastParam)
	case r.Max > 0 && !r.ReplayOnly:
		return r, invalid("%s needs %s=true", maxParam, replayOnlyParam)
	}
	return r, nil
}

// parameters reads a query in which each parameter is known and stands once.
func parameters(query string) (map[string]string, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, invalid("the query is malformed")
	}
	known := []string{afterParam, sinceParam, lastParam, replayOnlyParam, maxParam, lastIDParam}
	q := make(map[string]string, len(values))
	for name, all := range values {
		switch {
		case !slices.Contains(known, name):
			return nil, invalid("unknown parameter %.40q; there are %s", name, strings.Join(known, ", "))
		case len(all) > 1:
			return nil, invalid("%s is given %d times", name, len(all))
		}
		q[name] = all[0]
	}
	return q, nil
}

// start is where the query says to begin.
func start(q map[string]string, now time.Time) (broker.Start, error) {
	s := broker.Start{Kind: broker.FromNow}
	var err error
	given := 0
	if v, ok := q[afterParam]; ok {
		given++
		s.Kind = broker.AfterSeq
		if s.Seq, err = seq(afterParam, v); err != nil {
			return s, err
		}
	}
	if v, ok := q[sinceParam]; ok {
		given++
		s.Kind = broker.SinceTime
		if s.Time, err = since(v, now); err != nil {
			return s, err
		}
	}
	if v, ok := q[lastParam]; ok {
		given++
		s.Kind = broker.NewestN
		if s.Last, err = positive(lastParam, v); err != nil {
			return s, err
		}
	}
	if given > 1 {
		return s, invalid("only one of %s, %s and %s", afterParam, sinceParam, lastParam)
	}
	return s, nil
}

// resume begins where a client that comes back left off. Its header is newer
// than the URL, which browsers repeat; one that has nothing to say may be empty.
func resume(r *broker.Subscribe, header, parameter string) error {
	name, id := "Last-Event-ID", header
	if id == "" {
		name, id = lastIDParam, parameter
	}
	if id == "" {
		return nil
	}
	at, err := seq(name, id)
	if err == nil {
		r.Start = broker.Start{Kind: broker.AfterSeq, Seq: at}
	}
	return err
}

func seq(name, s string) (parley.Seq, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || parley.Seq(n) > parley.MaxSeq {
		return 0, invalid("%s must be a seq, 0 to 2^53", name)
	}
	return parley.Seq(n), nil
}

func positive(name, s string) (int, error) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 1 {
		return 0, invalid("%s must be a number from 1 to 2147483647", name)
	}
	return int(n), nil
}

// since reads a time, or how long ago it was, such as 90s, 12h or 7d.
func since(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.UTC(), nil
	}
	age, err := units.ParseDuration(s)
	if err != nil {
		return time.Time{}, invalid("%s must be a time such as 2026-01-31T12:00:00Z or an age such as 90s, 12h or 7d", sinceParam)
	}
	return now.Add(-age).UTC(), nil
}
