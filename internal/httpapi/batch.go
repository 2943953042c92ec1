package httpapi

import (
	"bytes"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol/jsonform"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
)

const (
	objectType = "application/json"
	linesType  = "application/x-ndjson"
)

// publishJSON stores the messages that the body describes: one object, an object
// with a list, or an object on each line.
func (a *API) publishJSON(w http.ResponseWriter, r *request) error {
	messages, listed, err := a.readMessages(w, r)
	if err != nil {
		a.cfg.Broker.Refused(err)
		return err
	}
	return a.store(w, r, messages, listed)
}

// readMessages reads the messages that a body describes; listed says that the
// answer is a list.
func (a *API) readMessages(w http.ResponseWriter, r *request) (messages []broker.Publication, listed bool, err error) {
	mediaType, err := bodyType(r.Header.Get("Content-Type"), objectType, linesType)
	if err != nil {
		w.Header().Set("Accept-Post", objectType+", "+linesType)
		return nil, false, err
	}
	p, err := a.readBody(w, r.Request, a.batchBytes())
	if err != nil {
		return nil, false, err
	}
	producer, err := producerOf(r)
	if err != nil {
		return nil, false, err
	}
	var set batch
	if mediaType == linesType {
		set, err = a.readLines(p)
	} else {
		set, err = a.readObject(p)
	}
	if err != nil {
		return nil, false, err
	}
	if set.producer != nil {
		if producer != "" {
			return nil, false, invalid("either the member producer or Idempotency-Key")
		}
		if producer, err = checkProducer(*set.producer); err != nil {
			return nil, false, err
		}
	}
	key, _, err := keyOf(r.Request)
	if err != nil {
		return nil, false, err
	}
	messages, err = set.fill(producer, key)
	return messages, set.listed, err
}

// batchBytes bounds the body of a batch: room for one message of the largest
// size, in base64 or with every character escaped.
func (a *API) batchBytes() int64 {
	const twice, rest = 2, 64 << 10
	return twice*int64(a.cfg.Broker.Limits().MessageBytes) + rest
}

// bodyType is the media type that a Content-Type names, one of allowed.
func bodyType(text string, allowed ...string) (string, error) {
	mediaType, params, err := mime.ParseMediaType(text)
	charset, given := params["charset"]
	delete(params, "charset")
	if err == nil && len(params) == 0 && (!given || strings.EqualFold(charset, "utf-8")) {
		for _, t := range allowed {
			if mediaType == t {
				return t, nil
			}
		}
	}
	return "", failure(http.StatusUnsupportedMediaType, "Content-Type must be "+strings.Join(allowed, " or "))
}

// batch is what a body describes.
type batch struct {
	messages []jsonform.Publication
	producer *string
	listed   bool  // the answer is a list
	lines    []int // where each message stood, if they stood on lines
}

// publishBody is a body of JSON.
type publishBody struct {
	jsonform.Publication `json:",inline"`

	Messages jsonrpc.List[jsonform.Publication] `json:"messages"`
	Producer *string                            `json:"producer"`
}

func (a *API) readObject(p []byte) (batch, error) {
	var v publishBody
	v.Messages.Max = a.cfg.Broker.Limits().BatchMessages
	if err := jsonrpc.DecodeBody(p, &v); err != nil {
		return batch{}, err
	}
	switch {
	case v.Messages.Items == nil:
		return batch{messages: []jsonform.Publication{v.Publication}, producer: v.Producer}, nil
	case v.Given():
		return batch{}, invalid("messages stands alone, or with producer: topic, body and the like belong inside it")
	case len(v.Messages.Items) == 0:
		return batch{}, invalid("messages is empty")
	}
	return batch{messages: v.Messages.Items, producer: v.Producer, listed: true}, nil
}

func (a *API) readLines(p []byte) (batch, error) {
	set := batch{listed: true}
	most := a.cfg.Broker.Limits().BatchMessages
	number := 0
	for line := range bytes.Lines(p) {
		number++
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if len(set.messages) == most {
			return batch{}, invalid("more than %d messages", most)
		}
		var m jsonform.Publication
		if err := jsonrpc.DecodeBody(line, &m); err != nil {
			return batch{}, fmt.Errorf("line %d: %w", number, err)
		}
		set.messages = append(set.messages, m)
		set.lines = append(set.lines, number)
	}
	if len(set.messages) == 0 {
		return batch{}, invalid("there is no message")
	}
	return set, nil
}

// fill checks every message. With an idempotency key those without an id get one
// of it, so that the whole can be repeated.
func (b *batch) fill(producer, key string) ([]broker.Publication, error) {
	messages := make([]broker.Publication, len(b.messages))
	for i := range messages {
		p := &b.messages[i]
		if p.ID == nil && key != "" {
			id := key
			if b.listed {
				id += "-" + strconv.Itoa(i+1)
			}
			p.ID = &id
		}
		if err := p.Fill(&messages[i], producer); err != nil {
			return nil, b.at(i, err)
		}
	}
	return messages, nil
}

// at says of which message err is.
func (b *batch) at(i int, err error) error {
	switch {
	case b.lines != nil:
		return fmt.Errorf("line %d: %w", b.lines[i], err)
	case b.listed:
		return fmt.Errorf("messages[%d]: %w", i, err)
	}
	return err
}
