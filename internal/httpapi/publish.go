package httpapi

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol/jsonform"
	"github.com/parley-im/parley/internal/units"
)

const (
	formType       = "application/x-www-form-urlencoded" // what curl -d says unless told otherwise
	contentHeader  = "Content-Type"                      // of a message
	headerPrefix   = "Parley-Header-"
	filterPrefix   = "filter."
	producerDigits = 32 // 128 bits in hex, which nobody guesses
	keyLeast       = 16 // bytes of an idempotency key
	keyMost        = 200
	typeMost       = 255
)

func invalid(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, parley.ErrInvalid)...)
}

// publish stores the body of the request, byte for byte, as one message.
func (a *API) publish(w http.ResponseWriter, r *request) error {
	message, err := a.readMessage(w, r)
	if err != nil {
		a.cfg.Broker.Refused(err)
		return err
	}
	return a.store(w, r, message, false)
}

// readMessage reads the one message that a request is.
func (a *API) readMessage(w http.ResponseWriter, r *request) ([]broker.Publication, error) {
	p, producer, err := publicationOf(r)
	if err != nil {
		return nil, err
	}
	message := make([]broker.Publication, 1)
	if err := p.Fill(&message[0], producer); err != nil {
		return nil, err
	}
	if err := r.principal().Allow(account.Publish, message[0].Message.Topic); err != nil {
		return nil, err
	}
	message[0].Message.Body, err = a.readBody(w, r.Request, int64(a.cfg.Broker.Limits().MessageBytes))
	return message, err
}

// publicationOf is what the request says of its message, beside the body.
func publicationOf(r *request) (p jsonform.Publication, producer string, err error) {
	p.Topic = "/" + r.PathValue("topic")
	if id, ok := r.query["id"]; ok {
		p.ID = &id
	}
	if producer, err = producerOf(r); err != nil {
		return p, "", err
	}
	if key, ok, err := keyOf(r.Request); err != nil {
		return p, "", err
	} else if ok && p.ID == nil {
		p.ID = &key
	}
	if producer != "" && p.ID == nil {
		return p, "", invalid("producer needs an id")
	}
	if p.Expires, err = expiryOf(r); err != nil {
		return p, "", err
	}
	for name, value := range r.query {
		if key, ok := strings.CutPrefix(name, filterPrefix); ok {
			if p.Filters == nil {
				p.Filters = map[string]string{}
			}
			p.Filters[key] = value
		}
	}
	p.Headers, err = headersOf(r.Header)
	return p, producer, err
}

// producerOf says whose ids make a publish repeatable: those of the parameter
// producer, or of an Idempotency-Key. Empty is nobody's.
func producerOf(r *request) (string, error) {
	producer, given := r.query["producer"]
	key, keyed, err := keyOf(r.Request)
	switch {
	case err != nil:
		return "", err
	case given && keyed:
		return "", invalid("either producer or Idempotency-Key")
	case keyed:
		if user := r.principal().User; user != "" { // a user's keys are nobody else's, and tell nobody else anything
			key = user + "\x00" + key
		}
		sum := sha256.Sum256([]byte(key))
		return hex.EncodeToString(sum[:producerDigits/2]), nil
	case given:
		return checkProducer(producer)
	}
	return "", nil
}

func checkProducer(s string) (string, error) {
	if _, err := hex.DecodeString(s); err != nil || len(s) != producerDigits {
		return "", invalid("producer must be 32 hex digits")
	}
	return strings.ToLower(s), nil
}

// keyOf is the Idempotency-Key, with or without the quotes that a structured
// field has.
func keyOf(r *http.Request) (key string, given bool, err error) {
	values := r.Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", false, nil
	}
	key = strings.TrimSpace(values[0])
	if inner, ok := strings.CutPrefix(key, `"`); ok {
		key, _ = strings.CutSuffix(inner, `"`)
	}
	plain := func(c rune) bool { return c < ' ' || c > '~' || c == '"' || c == '\\' }
	if len(values) > 1 || len(key) < keyLeast || len(key) > keyMost || strings.ContainsFunc(key, plain) {
		return "", false, invalid("Idempotency-Key must have %d to %d printable characters that nobody else uses, such as a UUID", keyLeast, keyMost)
	}
	return key, true, nil
}

// expiryOf is when the message expires: a time, or a duration from now.
func expiryOf(r *request) (*time.Time, error) {
	at, absolute := r.query["expires"]
	ttl, relative := r.query["ttl"]
	switch {
	case absolute && relative:
		return nil, invalid("either expires or ttl")
	case absolute:
		t, err := time.Parse(time.RFC3339Nano, at)
		if err != nil {
			return nil, invalid("expires must be a time such as 2027-01-31T12:00:00Z")
		}
		return &t, nil
	case relative:
		d, err := units.ParseDuration(ttl)
		if err != nil || d <= 0 {
			return nil, invalid("ttl must be a duration such as 90s, 10m or 7d")
		}
		t := time.Now().Add(d)
		return &t, nil
	}
	return nil, nil //nolint:nilnil // most messages never expire
}

// headersOf are the headers of the message: the content type, unless it is what
// curl says of everything, and the Parley-Header-… of the request.
func headersOf(h http.Header) (map[string]string, error) {
	headers := map[string]string{}
	if t := h.Get("Content-Type"); t != "" && t != formType {
		if _, _, err := mime.ParseMediaType(t); err != nil || len(t) > typeMost {
			return nil, failure(http.StatusUnsupportedMediaType, "Content-Type is no media type")
		}
		headers[contentHeader] = t
	}
	for name, values := range h {
		name, ours := strings.CutPrefix(name, headerPrefix)
		if !ours {
			continue
		}
		if name == "" || name == contentHeader || len(values) > 1 {
			return nil, invalid("each %sNAME may be given once, and NAME is not %s", headerPrefix, contentHeader)
		}
		headers[name] = values[0]
	}
	return headers, nil
}

// store publishes messages and answers with what became of them.
func (a *API) store(w http.ResponseWriter, r *request, messages []broker.Publication, batch bool) error {
	for i := range messages {
		// What may not be published uses up nothing: the rate may be others' too.
		m := &messages[i]
		m.Result.Err = r.principal().Allow(account.Publish, m.Message.Topic)
		if m.Result.Err == nil && a.cfg.Spend != nil {
			m.Result.Err = a.cfg.Spend(r.Request, r.principal(), account.Publish, m.Message.Topic, len(m.Message.Body))
		}
	}
	if err := a.cfg.Broker.Publish(r.Context(), r.principal(), &broker.Publish{Messages: messages, Watch: a.watch(r)}); err != nil {
		if r.Context().Err() != nil {
			return fmt.Errorf("storing takes too long, it may or may not happen: %w", parley.ErrUnavailable)
		}
		return err
	}
	if batch {
		for i := range messages {
			if errors.Is(messages[i].Result.Err, parley.ErrForbidden) {
				a.denied(r.Request, r.principal(), "publish "+string(messages[i].Message.Topic))
			}
		}
		return answerBatch(w, messages)
	}
	m := &messages[0]
	if m.Result.Err != nil {
		return m.Result.Err
	}
	status := http.StatusCreated
	if m.Result.Duplicate {
		status = http.StatusOK
	}
	w.Header().Set("Location", bodyPath(m.Message.Topic, m.Result.Seq))
	return reply(w, status, outcomeOf(m))
}

// answerBatch tells the outcome of each message. When one was refused, that is a
// problem, so that no script takes it for success.
func answerBatch(w http.ResponseWriter, messages []broker.Publication) error {
	outcomes := make([]Outcome, len(messages))
	var first error
	failed := 0
	for i := range messages {
		outcomes[i] = outcomeOf(&messages[i])
		if err := messages[i].Result.Err; err != nil {
			failed++
			if first == nil {
				first = fmt.Errorf("messages[%d]: %w", i, err)
			}
		}
	}
	if first == nil {
		return reply(w, http.StatusOK, results{outcomes})
	}
	p := translate(first)
	p.Results = outcomes
	if p.Detail != "" {
		p.Detail = strconv.Itoa(failed) + " of " + strconv.Itoa(len(messages)) + " messages were not stored; " + p.Detail
	}
	p.write(w)
	return nil
}

// results is the answer to a batch.
type results struct {
	Results []Outcome `json:"results"`
}

func outcomeOf(p *broker.Publication) Outcome {
	if p.Result.Err == nil {
		return Outcome{Topic: p.Message.Topic, Seq: p.Result.Seq, Duplicate: p.Result.Duplicate}
	}
	f := jsonform.Explain(p.Result.Err)
	return Outcome{Error: &Reason{Kind: f.Kind, Code: f.Code, Message: f.Message}}
}

// bodyPath is where the body of a message is.
func bodyPath(topic parley.Topic, seq parley.Seq) string {
	return prefix + "body" + escapeTopic(topic) + "?seq=" + seq.String()
}

// escapeTopic is a topic as a path has it.
func escapeTopic(topic parley.Topic) string {
	return (&url.URL{Path: string(topic)}).EscapedPath()
}
