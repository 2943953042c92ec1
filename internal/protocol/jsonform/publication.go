package jsonform

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

// maxFilterBytes bounds each key and each value of filters.
const maxFilterBytes = 255

// Publication is one message as a client writes it.
type Publication struct {
	Topic   string            `json:"topic"`
	Text    jsonrpc.Text      `json:"text"`
	Data    []byte            `json:"data"`
	ID      *string           `json:"id"`
	Headers map[string]string `json:"headers"`
	Expires *time.Time        `json:"expires"`
	Filters map[string]string `json:"filters"`
}

func invalid(message string) error {
	return fmt.Errorf("%s: %w", message, parley.ErrInvalid)
}

// Given reports whether any member is there.
func (p *Publication) Given() bool {
	return p.Topic != "" || p.Text != nil || p.Data != nil || p.ID != nil ||
		p.Headers != nil || p.Expires != nil || p.Filters != nil
}

// Fill checks p and fills m with it. Producer makes an id of p idempotent; empty
// means that ids are labels. The error wraps parley.ErrInvalid.
func (p *Publication) Fill(m *broker.Publication, producer string) error {
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
		if !ValidID(*p.ID) {
			return invalid("id must have 1 to 255 bytes and no control characters")
		}
		m.Message.ID = *p.ID
		m.Producer = producer
	}
	if m.Message.Header, err = HeaderOf(p.Headers); err != nil {
		return err
	}
	if p.Expires != nil {
		if !p.Expires.After(time.Now()) {
			return invalid("expires is in the past")
		}
		m.Message.Expires = p.Expires.UTC().Truncate(time.Microsecond)
	}
	m.Message.Filters, err = FiltersOf(p.Filters)
	return err
}

// ValidID reports whether s may name a message: 1 to parley.MaxIDBytes bytes
// without control characters.
func ValidID(s string) bool {
	return s != "" && len(s) <= parley.MaxIDBytes && !strings.ContainsFunc(s, unicode.IsControl)
}

// HeaderOf is the line that headers are kept as. Its names are sorted, so that
// the same headers are always the same line, and a repeated publish the same
// message.
func HeaderOf(headers map[string]string) (string, error) {
	if len(headers) == 0 {
		return "", nil
	}
	line := AppendObject(nil, headers)
	if len(line) > parley.MaxHeaderBytes {
		return "", invalid("headers take more than 16384 bytes")
	}
	return string(line), nil
}

// FiltersOf checks filters, and is nil for none.
func FiltersOf(filters map[string]string) (map[string]string, error) {
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

// AppendObject appends an object of strings, sorted by name.
func AppendObject(dst []byte, members map[string]string) []byte {
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
