package native

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

// maxFilterBytes bounds each key and each value of filters.
const maxFilterBytes = 255

// publication is one message as a client writes it.
type publication struct {
	Topic   string            `json:"topic"`
	Text    jsonrpc.Text      `json:"text"`
	Data    []byte            `json:"data"`
	ID      *string           `json:"id"`
	Headers map[string]string `json:"headers"`
	Expires *time.Time        `json:"expires"`
	Filters map[string]string `json:"filters"`
}

type publishParams struct {
	publication `json:",inline"`

	Messages jsonrpc.List[publication] `json:"messages"`
}

func (c *Codec) publish(call jsonrpc.Call) (protocol.Request, error) {
	var p publishParams
	p.Messages.Max = c.terms.BatchMessages
	if err := call.Params.Decode(&p); err != nil {
		return nil, err
	}
	if p.Messages.Items != nil {
		return c.publishBatch(call.ID, &p)
	}
	messages := make([]broker.Publication, 1)
	if err := c.convert(&messages[0], &p.publication); err != nil {
		return nil, err
	}
	return &protocol.Publish{Publish: broker.Publish{Ref: call.ID, Messages: messages}}, nil
}

func (c *Codec) publishBatch(ref string, p *publishParams) (protocol.Request, error) {
	if p.given() {
		return nil, invalid("messages stands alone: topic, body and the like belong inside it")
	}
	if len(p.Messages.Items) == 0 {
		return nil, invalid("messages is empty")
	}
	messages := make([]broker.Publication, len(p.Messages.Items))
	for i := range messages {
		if err := c.convert(&messages[i], &p.Messages.Items[i]); err != nil {
			return nil, fmt.Errorf("messages[%d]: %w", i, err)
		}
	}
	return &protocol.Publish{Publish: broker.Publish{Ref: ref, Batch: true, Messages: messages}}, nil
}

// given reports whether any member is there.
func (p *publication) given() bool {
	return p.Topic != "" || p.Text != nil || p.Data != nil || p.ID != nil ||
		p.Headers != nil || p.Expires != nil || p.Filters != nil
}

// convert checks p and fills m with it.
func (c *Codec) convert(m *broker.Publication, p *publication) error {
	var err error
	if m.Message.Topic, err = parley.ParseTopic(p.Topic); err != nil {
		return err
	}
	if p.Text != nil && p.Data != nil {
		return invalid("a body is either text or data")
	}
	m.Message.Body = p.Data
	if p.Text != nil {
		m.Message.Body = p.Text
	}
	if p.ID != nil {
		if !validID(*p.ID) {
			return invalid("id must have 1 to 255 bytes and no control characters")
		}
		m.Message.ID = *p.ID
		m.Producer = c.producer
	}
	if m.Message.Header, err = headerOf(p.Headers); err != nil {
		return err
	}
	if p.Expires != nil {
		if !p.Expires.After(time.Now()) {
			return invalid("expires is in the past")
		}
		m.Message.Expires = p.Expires.UTC().Truncate(time.Microsecond)
	}
	m.Message.Filters, err = filtersOf(p.Filters)
	return err
}

func validID(s string) bool {
	return s != "" && len(s) <= parley.MaxIDBytes && !strings.ContainsFunc(s, unicode.IsControl)
}

// headerOf is the line that headers are kept as. Its names are sorted, so that
// the same headers are always the same line, and a repeated publish the same
// message.
func headerOf(headers map[string]string) (string, error) {
	if len(headers) == 0 {
		return "", nil
	}
	line := appendObject(nil, headers)
	if len(line) > parley.MaxHeaderBytes {
		return "", invalid("headers take more than 16384 bytes")
	}
	return string(line), nil
}

func filtersOf(filters map[string]string) (map[string]string, error) {
	if len(filters) == 0 {
		return nil, nil
	}
	if len(filters) > parley.MaxFilters {
		return nil, invalid("there are more than 16 filters")
	}
	for k, v := range filters {
		if k == "" || len(k) > maxFilterBytes || len(v) > maxFilterBytes {
			return nil, invalid("a filter's name has 1 to 255 bytes, its value at most 255")
		}
	}
	return filters, nil
}

// appendObject appends an object of strings, sorted by name.
func appendObject(dst []byte, members map[string]string) []byte {
	dst = append(dst, '{')
	for i, name := range slices.Sorted(maps.Keys(members)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = jsonrpc.AppendString(dst, name)
		dst = append(dst, ':')
		dst = jsonrpc.AppendString(dst, members[name])
	}
	return append(dst, '}')
}
