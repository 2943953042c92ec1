package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parley-im/parley"
)

// outgoing is a message to publish, as the wire has it.
type outgoing struct {
	Topic   parley.Topic      `json:"topic"`
	ID      string            `json:"id"`
	Text    *string           `json:"text,omitempty"`
	Data    []byte            `json:"data,omitempty"`
	Headers json.RawMessage   `json:"headers,omitempty"`
	Expires string            `json:"expires,omitempty"`
	Filters map[string]string `json:"filters,omitempty"`
}

// encodeMessage writes m for the wire. What JSON would change in silence
// (text that is not UTF-8) is refused, except in a body, which then travels
// as base64.
func encodeMessage(m *parley.Message) ([]byte, error) {
	if _, err := parley.ParseTopic(string(m.Topic)); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if !utf8.ValidString(m.ID) {
		return nil, fmt.Errorf("client: message id is not valid UTF-8: %w", parley.ErrInvalid)
	}
	for k, v := range m.Filters {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return nil, fmt.Errorf("client: filter is not valid UTF-8: %w", parley.ErrInvalid)
		}
	}
	out := outgoing{Topic: m.Topic, ID: m.ID, Expires: stamp(m.Expires), Filters: m.Filters}
	if utf8.Valid(m.Body) {
		text := string(m.Body)
		out.Text = &text
	} else {
		out.Data = m.Body
	}
	if m.Header != "" {
		if err := checkHeader(m.Header); err != nil {
			return nil, err
		}
		out.Headers = json.RawMessage(m.Header)
	}
	return encode(out)
}

func checkHeader(h string) error {
	var fields map[string]string
	if err := json.Unmarshal([]byte(h), &fields); err != nil || !utf8.ValidString(h) || fields == nil {
		return fmt.Errorf("client: header must be a JSON object of strings: %w", parley.ErrInvalid)
	}
	return nil
}

// incoming is a stored message, as the wire has it.
type incoming struct {
	Topic      parley.Topic      `json:"topic"`
	Seq        parley.Seq        `json:"seq"`
	Time       time.Time         `json:"time"`
	ID         string            `json:"id"`
	User       string            `json:"user"`
	Device     string            `json:"device"`
	Headers    json.RawMessage   `json:"headers"`
	Header     string            `json:"header"`
	HeaderData []byte            `json:"header_data"`
	Expires    time.Time         `json:"expires"`
	Filters    map[string]string `json:"filters"`
	Text       string            `json:"text"`
	Data       []byte            `json:"data"`
	Receipt    ReceiptKind       `json:"receipt"`
}

func (in *incoming) message() *parley.Message {
	m := &parley.Message{
		Topic:   in.Topic,
		Seq:     in.Seq,
		Time:    in.Time,
		Expires: in.Expires,
		ID:      in.ID,
		Sender:  parley.Identity{User: in.User, Device: in.Device},
		Header:  in.Header,
		Body:    in.Data,
		Filters: in.Filters,
	}
	switch {
	case in.Headers != nil:
		m.Header = string(in.Headers)
	case in.HeaderData != nil:
		m.Header = string(in.HeaderData)
	}
	if in.Data == nil {
		m.Body = []byte(in.Text)
	}
	return m
}

func (in *incoming) entry() Entry { return Entry{in.message(), in.Receipt} }

func entries(in []incoming) []Entry {
	out := make([]Entry, len(in))
	for i := range in {
		out[i] = in[i].entry()
	}
	return out
}

func messages(in []incoming) []*parley.Message {
	out := make([]*parley.Message, len(in))
	for i := range in {
		out[i] = in[i].message()
	}
	return out
}

// stamp is t as the wire has it; "" for the zero time.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000Z")
}

// encode is json.Marshal without its care for HTML, which would triple the
// size of some texts.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("client: %s: %w", strings.TrimPrefix(err.Error(), "json: "), parley.ErrInvalid)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
