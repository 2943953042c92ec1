package native

import (
	"fmt"
	"slices"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/jsonform"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

// maxRecipients is Terms.Recipients where they say nothing.
const maxRecipients = 100

// letter is one message to users, as a client writes it.
type letter struct {
	To       jsonrpc.Strings   `json:"to"`
	Text     jsonrpc.Text      `json:"text"`
	Data     []byte            `json:"data"`
	ID       *string           `json:"id"`
	Headers  map[string]string `json:"headers"`
	Expires  *time.Time        `json:"expires"`
	Receipts bool              `json:"receipts"`
}

// given reports whether any member is there.
func (l *letter) given() bool {
	return l.To != nil || l.Text != nil || l.Data != nil || l.ID != nil || l.Headers != nil || l.Expires != nil || l.Receipts
}

type sendParams struct {
	letter `json:",inline"`

	Messages jsonrpc.List[letter] `json:"messages"`
}

func (c *Codec) send(call jsonrpc.Call) (protocol.Request, error) {
	var p sendParams
	p.Messages.Max = c.terms.BatchMessages
	if err := call.Params.Decode(&p); err != nil {
		return nil, err
	}
	r := &protocol.Send{Send: broker.Send{Ref: call.ID, Letters: make([]broker.Letter, 1)}}
	if p.Messages.Items == nil {
		return r, c.fill(&p.letter, &r.Letters[0])
	}
	if p.given() {
		return nil, invalid("messages stands alone: to, text and the like belong inside it")
	}
	if len(p.Messages.Items) == 0 {
		return nil, invalid("messages is empty")
	}
	r.Batch = true
	r.Letters = make([]broker.Letter, len(p.Messages.Items))
	for i := range r.Letters {
		if err := c.fill(&p.Messages.Items[i], &r.Letters[i]); err != nil {
			return nil, fmt.Errorf("messages[%d]: %w", i, err)
		}
	}
	return r, nil
}

// fill checks from and fills l with it.
func (c *Codec) fill(from *letter, l *broker.Letter) error {
	most := c.terms.Recipients
	if most == 0 {
		most = maxRecipients
	}
	switch {
	case len(from.To) == 0:
		return invalid("to is missing")
	case len(from.To) > most:
		return invalid(fmt.Sprintf("to has more than %d recipients", most))
	case from.Text != nil && from.Data != nil:
		return invalid("a body is either text or data")
	}
	l.To = make([]string, len(from.To))
	for i, name := range from.To {
		user, err := parley.ParseUser(name)
		if err != nil {
			return err
		}
		if slices.Contains(l.To[:i], user) {
			return invalid(fmt.Sprintf("to names %q twice", user))
		}
		l.To[i] = user
	}
	l.Receipts = from.Receipts
	m := &l.Message
	m.Body = from.Data
	if from.Text != nil {
		m.Body = from.Text
	}
	if from.ID != nil {
		if !jsonform.ValidID(*from.ID) {
			return invalid("id must have 1 to 255 bytes and no control characters")
		}
		m.ID = *from.ID
	}
	var err error
	if m.Header, err = jsonform.HeaderOf(from.Headers); err != nil {
		return err
	}
	if from.Expires != nil {
		if !from.Expires.After(time.Now()) {
			return invalid("expires is in the past")
		}
		m.Expires = from.Expires.UTC().Truncate(time.Microsecond)
	}
	return nil
}

func appendSent(dst []byte, s *broker.Send) []byte {
	if s.Ref == "" {
		return dst
	}
	if s.Batch {
		dst = append(jsonrpc.AppendResult(dst, s.Ref), `{"results":[`...)
		for i := range s.Letters {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendLetter(dst, &s.Letters[i])
		}
		return append(dst, `]}}`...)
	}
	l := &s.Letters[0]
	if err := failure(l); err != nil {
		return appendFailed(dst, s.Ref, err)
	}
	return jsonrpc.AppendEnd(appendLetter(jsonrpc.AppendResult(dst, s.Ref), l))
}

// failure is why nothing of l was stored, where there is one reason.
func failure(l *broker.Letter) error {
	if l.Err == nil && len(l.Results) == 1 {
		return l.Results[0].Err
	}
	return l.Err
}

// appendLetter appends what became of one letter.
func appendLetter(dst []byte, l *broker.Letter) []byte {
	if err := failure(l); err != nil {
		return append(appendError(append(dst, `{"error":`...), err), '}')
	}
	dst = append(dst, `{"id":`...)
	dst = jsonrpc.AppendString(dst, l.Message.ID)
	dst = append(dst, `,"recipients":[`...)
	for i := range l.Results {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"to":`...)
		dst = jsonrpc.AppendString(dst, l.To[i])
		if result := &l.Results[i]; result.Err != nil {
			dst = append(dst, `,"error":`...)
			dst = appendError(dst, result.Err)
		} else {
			dst = append(dst, `,"seq":`...)
			dst = jsonform.AppendSeq(dst, result.Seq)
			if result.Duplicate {
				dst = append(dst, `,"duplicate":true`...)
			}
		}
		dst = append(dst, '}')
	}
	return append(dst, `]}`...)
}
