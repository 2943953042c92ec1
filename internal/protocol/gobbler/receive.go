package gobbler

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
)

// receive decodes the command "+", whose argument is a path and optionally
// where to start and how many messages to fetch at most. With a maximum it only
// fetches; without, it subscribes too and so takes the place of an earlier
// subscription to the path.
func receive(arg string) protocol.Request {
	path, numbers, fetch := strings.Cut(arg, " ")
	if path == "" || path[0] != '/' {
		return bad("command requires at least a path argument, but non given")
	}
	topic, err := parley.ParseTopic(path)
	if err != nil {
		return bad(err.Error())
	}
	r := &protocol.Subscribe{Subscribe: broker.Subscribe{Ref: path, Topic: topic, Replace: true}}
	if !fetch {
		return r
	}
	start, limit, limited := strings.Cut(numbers, " ")
	if !limited {
		start, limit, limited = strings.Cut(numbers, ",")
	}
	if r.Start, err = parseStart(start); err != nil {
		return bad(numberError("startid", start, err))
	}
	if !limited {
		return r
	}
	n, err := strconv.Atoi(limit)
	if err != nil {
		// Deployed servers name the start here, not the maximum; the text is
		// kept for whoever compares it.
		return bad(`maxCount has to be empty or int, but was ` + strconv.Quote(clip(start)) +
			`: strconv.Atoi: ` + parseFault(limit, err))
	}
	bound(&r.Subscribe, n)
	return r
}

// parseStart reads a start: an id to begin with, or the negative of how many of
// the newest messages. Ids of 2^63 and more are not ours, but old servers gave
// them out.
func parseStart(s string) (broker.Start, error) {
	if first, err := strconv.ParseUint(strings.TrimPrefix(s, "+"), 10, 64); err == nil {
		// A start names the first message, a cursor the last one before it. None
		// has MaxSeq, so that any larger start is beyond the end too.
		after := min(max(parley.Seq(first), 1), parley.MaxSeq) - 1
		return broker.Start{Kind: broker.AfterSeq, Seq: after}, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err != nil:
		return broker.Start{}, err
	case n == 0: // "-0"
		return broker.Start{Kind: broker.AfterSeq}, nil
	}
	return broker.Start{Kind: broker.NewestN, Last: int(min(-max(n, -math.MaxInt64), math.MaxInt))}, nil
}

// bound makes r fetch at most n messages and no more: all when n is 0, none
// when it is negative. From the newest, n takes the place of the start's number.
func bound(r *broker.Subscribe, n int) {
	r.ReplayOnly = true
	r.Replace = false
	switch {
	case n < 0:
		r.Start = broker.Start{Kind: broker.NewestN}
	case n > 0 && r.Start.Kind == broker.NewestN:
		r.Start.Last = n
	default:
		r.Max = n
	}
}

func numberError(name, s string, err error) string {
	return name + " has to be empty or int, but was " + strconv.Quote(clip(s)) +
		": strconv.ParseInt: " + parseFault(s, err)
}

// parseFault is the part of a strconv error's text that follows the function,
// with the number cut to what an error may repeat.
func parseFault(s string, err error) string {
	return "parsing " + strconv.Quote(clip(s)) + ": " + errors.Unwrap(err).Error()
}
