package native

import (
	"cmp"
	"fmt"

	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/jsonform"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

// maxRecipients is Terms.Recipients where they say nothing.
const maxRecipients = 100

type sendParams struct {
	jsonform.Letter `json:",inline"`

	Messages jsonrpc.List[jsonform.Letter] `json:"messages"`
}

func (c *Codec) send(call jsonrpc.Call) (protocol.Request, error) {
	var p sendParams
	p.Messages.Max = c.terms.BatchMessages
	if err := call.Params.Decode(&p); err != nil {
		return nil, err
	}
	r := &protocol.Send{Send: broker.Send{Ref: call.ID, Letters: make([]broker.Letter, 1)}}
	if p.Messages.Items == nil {
		return r, p.Fill(&r.Letters[0], c.recipients())
	}
	if p.Given() {
		return nil, invalid("messages stands alone: to, text and the like belong inside it")
	}
	if len(p.Messages.Items) == 0 {
		return nil, invalid("messages is empty")
	}
	r.Batch = true
	r.Letters = make([]broker.Letter, len(p.Messages.Items))
	for i := range r.Letters {
		if err := p.Messages.Items[i].Fill(&r.Letters[i], c.recipients()); err != nil {
			return nil, fmt.Errorf("messages[%d]: %w", i, err)
		}
	}
	return r, nil
}

// recipients bounds those of one letter.
func (c *Codec) recipients() int { return cmp.Or(c.terms.Recipients, maxRecipients) }

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
