package gobbler

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
)

func (c *Codec) appendConnected(dst []byte, e *broker.Welcome) []byte {
	p := append(c.scratch[:0], "#connected You are connected to the server.\n{\"ApplicationId\": "...)
	p = appendQuoted(p, e.Identity.Device)
	p = append(p, `, "UserId": `...)
	p = appendQuoted(p, e.Identity.User)
	p = append(p, `, "Time": "`...)
	if c.dialect == Documented {
		p = strconv.AppendInt(p, e.Time.Unix(), 10)
	} else {
		p = e.Time.UTC().AppendFormat(p, time.RFC3339)
	}
	return c.frame(dst, append(p, `"}`...))
}

// appendNotice appends a notification that is a name and a path.
func (c *Codec) appendNotice(dst []byte, name string, path parley.Topic) []byte {
	p := append(c.scratch[:0], name...)
	return c.frame(dst, append(p, path...))
}

func (c *Codec) appendFetchStart(dst []byte, e *broker.ReplayStart) []byte {
	p := append(c.scratch[:0], "#fetch-start "...)
	p = append(p, e.Sub.Topic...)
	p = append(p, ' ')
	return c.frame(dst, strconv.AppendInt(p, int64(e.Count), 10))
}

func (c *Codec) appendFetchEnd(dst []byte, e *broker.ReplayEnd) []byte {
	if c.dialect == Documented {
		return c.appendNotice(dst, "#fetch-done ", e.Sub.Topic)
	}
	return c.appendNotice(dst, "#fetch-end ", e.Sub.Topic)
}

// appendJump tells that a subscription goes on from elsewhere. Deployed clients
// do not know these two notifications; they show them as a status or ignore
// them, as they do with any name that is new to them.
func (c *Codec) appendJump(dst []byte, name string, path parley.Topic, from, to parley.Seq) []byte {
	p := append(c.scratch[:0], name...)
	p = append(p, path...)
	p = append(p, "\n{\"from\":\""...)
	p = strconv.AppendUint(p, uint64(from), 10)
	p = append(p, `","to":"`...)
	p = strconv.AppendUint(p, uint64(to), 10)
	return c.frame(dst, append(p, `"}`...))
}

// appendOutcome tells what became of one publish.
func (c *Codec) appendOutcome(dst []byte, m *broker.Publication) []byte {
	if m.Result.Err != nil {
		return c.appendSendError(dst, &sendError{string(m.Message.Topic), m.Message.ID, m.Result.Err})
	}
	p := append(c.scratch[:0], "#send"...)
	p = appendWord(p, m.Message.ID)
	p = append(p, "\n{\"sequenceId\":\""...)
	p = strconv.AppendUint(p, uint64(m.Result.Seq), 10)
	p = append(p, `","path":`...)
	p = appendQuoted(p, string(m.Message.Topic))
	p = append(p, `,"publisherMessageId":`...)
	p = appendQuoted(p, m.Message.ID)
	p = append(p, `,"messagePublishingTime":"`...)
	p = strconv.AppendInt(p, m.Message.Time.Unix(), 10)
	return c.frame(dst, append(p, `"}`...))
}

// appendSendError tells that a message is not stored. The JSON has the members
// of a success; what the message never got is "0".
func (c *Codec) appendSendError(dst []byte, e *sendError) []byte {
	p := append(c.scratch[:0], "!error-send"...)
	p = appendWord(p, e.id)
	p = appendWord(p, explain(e.err))
	p = append(p, "\n{\"sequenceId\":\"0\",\"path\":"...)
	p = appendQuoted(p, e.path)
	p = append(p, `,"publisherMessageId":`...)
	p = appendQuoted(p, e.id)
	return c.frame(dst, append(p, `,"messagePublishingTime":"0"}`...))
}

// appendFailed tells that a command was refused. Ref is the path of a receive
// command, and empty for what could not be read.
func (c *Codec) appendFailed(dst []byte, e *broker.Failed) []byte {
	if s, ok := errors.AsType[*sendError](e.Err); ok {
		return c.appendSendError(dst, s)
	}
	p := c.scratch[:0]
	switch {
	case !refused(e.Err):
		p = append(p, "!error-server-internal"...)
	case e.Ref != "" && c.dialect == Deployed:
		p = append(p, "!error-subscribed-to"...)
		p = appendWord(p, e.Ref)
	case e.Ref != "":
		p = append(p, "!error-bad-request cannot receive"...)
		p = appendWord(p, e.Ref)
		p = append(p, ':')
	default:
		p = append(p, "!error-bad-request"...)
	}
	p = append(p, ' ')
	return c.frame(dst, append(p, explain(e.Err)...))
}

// appendWord appends a space and s, if there is an s.
func appendWord(p []byte, s string) []byte {
	if s == "" {
		return p
	}
	p = append(p, ' ')
	return append(p, s...)
}

// explain is what a client may know of err, on one line: everything when it is
// of a known kind, and nothing about a fault of the server's own.
func explain(err error) string {
	if !refused(err) && !errors.Is(err, parley.ErrUnavailable) {
		return "internal error"
	}
	return strings.ReplaceAll(err.Error(), "\n", " ")
}

// refused reports whether the fault lies in the request, not in the server.
func refused(err error) bool {
	return slices.ContainsFunc([]error{
		parley.ErrInvalid, parley.ErrUnauthenticated, parley.ErrForbidden, parley.ErrNotFound, parley.ErrConflict,
	}, func(kind error) bool { return errors.Is(err, kind) })
}
