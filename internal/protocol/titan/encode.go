package titan

import (
	"encoding/base64"
	"errors"
	"slices"
	"strconv"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol/jsonform"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

// The codes of errors: JSON-RPC's own, these in the range that it leaves to
// servers, and the one that the original had for whatever is wrong with a proof.
const (
	codeUnauthenticated = -32001
	codeForbidden       = -32002
	codeNotFound        = -32003
	codeConflict        = -32004
	codeUnavailable     = -32005
	codeBadProof        = 666
)

// Last reports whether there is nothing more to say after e.
func (c *Codec) Last(e broker.Event) bool {
	if failed, ok := e.(*broker.Failed); ok {
		return parseRef(failed.Ref).ends()
	}
	_, ok := e.(*broker.Ended)
	return ok // without its inbox a client would wait for ever
}

// Encode appends the frames that tell e to dst; nothing for what this protocol
// has no word for.
func (c *Codec) Encode(dst []byte, e broker.Event) []byte {
	switch e := e.(type) {
	case *broker.Deliveries:
		return c.deliver(dst, e)
	case *broker.Sent:
		r := parseRef(e.Send.Ref)
		if err := failure(e.Send); err != nil {
			dst = c.fail(dst, r, err)
		} else {
			dst = c.result(dst, r, []byte(`"ACK"`))
		}
		if r.kind == announce {
			close(c.told)
		}
		return dst
	case *broker.Echo:
		r := parseRef(e.Ref)
		if r.kind == notice {
			return c.framing.AppendFrame(dst, true, e.Payload)
		}
		return c.result(dst, r, e.Payload)
	case *broker.Authenticated:
		return c.authenticated(dst, parseRef(e.Ref), e.Login)
	case *broker.Failed:
		return c.fail(dst, parseRef(e.Ref), e.Err)
	case *broker.Subscribed:
		owner, _ := e.Sub.Topic.Inbox()
		c.mine.Store(&mailbox{c.terms.IDs.inbox(owner), e.Sub.ID, owner})
		return dst
	case *broker.Welcome, *broker.Published, *broker.ReplayStart, *broker.Messages, *broker.ReplayEnd, *broker.Live, *broker.Gap, *broker.Reset,
		*broker.Ended, *broker.Unsubscribed, *broker.History, *broker.Counted, *broker.Pong, *broker.Acked, *broker.ReadMarker, *broker.Sessions,
		*broker.Bye:
		// A client of this protocol asks for none of them, and takes the close frame
		// for a goodbye.
	}
	return dst
}

// failure is why not all of s was stored, or nil.
func failure(s *broker.Send) error {
	for i := range s.Letters {
		l := &s.Letters[i]
		if l.Err != nil {
			return l.Err
		}
		for _, r := range l.Results {
			if r.Err != nil {
				return r.Err
			}
		}
	}
	return nil
}

// deliver appends a request for each message, or in Devastator one array of them
// for a client that has sent one.
func (c *Codec) deliver(dst []byte, e *broker.Deliveries) []byte {
	box := c.mine.Load()
	array := c.batched.Load() && len(e.Messages) > 1
	p := c.scratch[:0]
	defer func() { c.keep(p) }()
	for _, m := range e.Messages {
		if !box.tells(m) {
			continue
		}
		size := 2*len(m.Body) + 256
		if !array {
			p = c.appendDelivery(slices.Grow(p[:0], size), box, m)
			dst = c.framing.AppendFrame(slices.Grow(dst, size), true, p)
			continue
		}
		before := byte('[')
		if len(p) > 0 {
			before = ','
		}
		p = c.appendDelivery(append(p, before), box, m)
	}
	if array && len(p) > 0 {
		dst = c.framing.AppendFrame(dst, true, append(p, ']'))
	}
	return dst
}

// tells reports whether clients have a word for m: not for the copy of what their
// user has sent from elsewhere, and not for a receipt.
func (b *mailbox) tells(m *parley.Message) bool {
	_, peer := m.Topic.Inbox()
	return broker.ReceiptOf(m) == broker.NoReceipt && (m.Sender.User != b.user || peer == b.user)
}

// Skipped is what of e the client is not told.
func (c *Codec) Skipped(e *broker.Deliveries) []broker.SeqRange {
	box := c.mine.Load()
	var ranges []broker.SeqRange
	for _, m := range e.Messages {
		if !box.tells(m) {
			ranges = append(ranges, broker.SeqRange{First: m.Seq, Last: m.Seq})
		}
	}
	return ranges
}

func (c *Codec) appendDelivery(dst []byte, box *mailbox, m *parley.Message) []byte {
	dst = append(dst, `{"id":"`...)
	dst = box.appendID(dst, m.Seq)
	dst = append(dst, `","method":"msg.recv","params":`...)
	titan := c.terms.Dialect == Titan
	if titan {
		dst = append(dst, '[')
	}
	dst = append(dst, '{')
	from := m.Sender.User
	if m.Header == botHeader && from == box.user {
		from = bot
	}
	if from != "" {
		dst = append(dst, `"from":`...)
		dst = jsonrpc.AppendString(dst, from)
		dst = append(dst, ',')
	}
	if titan {
		dst = append(dst, `"to":`...)
		dst = jsonrpc.AppendString(dst, box.user)
		// There are clients that read neither fractions nor another zone.
		dst = append(dst, `,"time":"`...)
		dst = m.Time.UTC().AppendFormat(dst, "2006-01-02T15:04:05Z")
		dst = append(dst, `",`...)
	}
	dst = append(dst, `"message":`...)
	dst = jsonrpc.AppendString(dst, string(m.Body))
	dst = append(dst, '}')
	if titan {
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// result appends the answer to r.
func (c *Codec) result(dst []byte, r ref, p []byte) []byte {
	whole := append(append(appendHead(c.scratch[:0], r.id), `,"result":`...), p...)
	whole = append(whole, '}')
	c.keep(whole)
	return c.answer(dst, r, whole)
}

// maxScratch is how much memory a connection keeps for writing its next frame.
const maxScratch = 4 << 10

// keep has the next frame put together where p was.
func (c *Codec) keep(p []byte) {
	if c.scratch = p[:0]; cap(p) > maxScratch {
		c.scratch = nil
	}
}

// appendHead appends the beginning of an answer. Who gave no id gets an empty one.
func appendHead(dst []byte, id string) []byte {
	if id == "" {
		id = `""`
	}
	return append(append(dst, `{"id":`...), id...)
}

// answer appends the frame of an answer, or puts it with the others of its batch.
func (c *Codec) answer(dst []byte, r ref, p []byte) []byte {
	if r.batch != 0 {
		if p = c.batches.answer(r.batch, p, r.ends()); p == nil {
			return dst
		}
	}
	return c.framing.AppendFrame(dst, true, p)
}

// fail appends the answer to r that says what went wrong.
func (c *Codec) fail(dst []byte, r ref, err error) []byte {
	if r.kind == quit || r.kind == opening {
		return dst
	}
	code, message := c.explain(r, err)
	p := append(appendHead(c.scratch[:0], r.id), `,"error":{"code":`...)
	p = strconv.AppendInt(p, int64(code), 10)
	p = append(p, `,"message":`...)
	p = append(jsonrpc.AppendString(p, message), `}}`...)
	c.keep(p)
	return c.answer(dst, r, p)
}

// explain is the number and the words for err.
func (c *Codec) explain(r ref, err error) (code int, message string) {
	f := jsonform.Explain(err)
	if f.Kind == "unauthenticated" {
		switch {
		case r.kind == google && c.terms.Dialect == Devastator:
			return codeBadProof, "Failed to authenticated user with Google+ OAuth access token."
		case r.kind == google:
			return codeBadProof, "Failed to authenticated with the given Google oauth access token."
		case r.kind == badCert:
			return codeBadProof, "Invalid client certificate."
		}
	}
	switch f.Kind {
	case "invalid":
		if e, ok := errors.AsType[*jsonrpc.Error](err); ok {
			return e.Code, f.Message
		}
		return jsonrpc.CodeInvalidParams, f.Message
	case "unauthenticated":
		return codeUnauthenticated, f.Message
	case "forbidden":
		return codeForbidden, f.Message
	case "not_found":
		return codeNotFound, f.Message
	case "conflict":
		return codeConflict, f.Message
	case "unavailable":
		return codeUnavailable, f.Message
	}
	return jsonrpc.CodeInternal, f.Message
}

// authenticated tells a client that it is known, if it asked that.
func (c *Codec) authenticated(dst []byte, r ref, l *account.Login) []byte {
	switch {
	case r.kind == jwt:
		return c.result(dst, r, []byte(`"ACK"`))
	case r.kind == google && c.terms.Dialect == Devastator:
		p := appendBase64([]byte(`{"Cert":`), l.Certificate)
		p = appendBase64(append(p, `,"Key":`...), l.Key)
		return c.result(dst, r, append(p, '}'))
	case r.kind == google:
		profile := l.Profile
		if profile == nil {
			profile = &account.Profile{}
		}
		// Clients read the result as an object of strings.
		p := jsonrpc.AppendString([]byte(`{"token":`), l.Token)
		p = jsonrpc.AppendString(append(p, `,"id":`...), l.Principal.User)
		p = jsonrpc.AppendString(append(p, `,"name":`...), profile.Name)
		p = jsonrpc.AppendString(append(p, `,"email":`...), profile.Email)
		p = appendBase64(append(p, `,"picture":`...), profile.Picture)
		return c.result(dst, r, append(p, '}'))
	}
	return dst
}

func appendBase64(dst, p []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, p)
	return append(dst, '"')
}
