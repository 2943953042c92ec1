package gobbler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rs/xid"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol/jsonform"
)

// API is the HTTP routes of the Gobbler server:
//
//	POST /api/message/<topic>         publishes
//	GET  /api/subscribers/<topic>     who is subscribed to exactly that topic
//	HEAD /api/...                     200, by which clients see whether it is there
//	GET  /admin/router                all subscriptions; an operator's business
type API struct {
	// Broker is what it publishes to and asks.
	Broker *broker.Broker
	// Arriving is the room for bodies of requests.
	Arriving *broker.Room
	// Logger gets the errors that a client is not shown.
	Logger *slog.Logger
	// Principal is who makes a request; the error says that the credential is not
	// accepted. Nil is anyone.
	Principal func(*http.Request) (*account.Principal, error)
	// Denied, unless it is nil, is told what somebody may not do.
	Denied func(r *http.Request, who *account.Principal, what string)
	// Spend, unless it is nil, counts a message with a body of so many bytes that
	// is to be published to a topic, and refuses one too many.
	Spend func(r *http.Request, who *account.Principal, o account.Operation, t parley.Topic, bytes int) error
	// Over, unless it is nil, is told of a message that a quota has refused.
	Over func(r *http.Request, who *account.Principal, err error)
}

const (
	apiPath         = "/api/"
	messagePath     = "/api/message"
	subscribersPath = "/api/subscribers"
)

// Before serves what is below /api/ and leaves everything else to next. It comes
// before a mux, because a mux redirects paths with an empty or a dotted segment,
// and the body of a POST is lost on the way.
func (a *API) Before(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, apiPath):
			a.serve(w, r)
		case r.URL.Path+"/" == apiPath:
			http.Redirect(w, r, apiPath, http.StatusMovedPermanently)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (a *API) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	switch r.Method {
	case http.MethodHead:
		w.WriteHeader(http.StatusOK)
	case http.MethodPost:
		if topic, ok := below(r, messagePath); ok {
			a.publish(w, r, topic)
			return
		}
		http.NotFound(w, r)
	case http.MethodGet:
		if topic, ok := below(r, subscribersPath); ok {
			a.subscribers(w, r, topic)
			return
		}
		http.NotFound(w, r)
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		http.Error(w, "Method not allowed", http.StatusMethodNotAllowed)
	}
}

// below is the topic that a path names behind prefix, unchecked. There is none
// when nothing follows.
func below(r *http.Request, prefix string) (topic string, ok bool) {
	topic, ok = strings.CutPrefix(r.URL.Path, prefix)
	return topic, ok && len(topic) > 1 && topic[0] == '/'
}

// publishTimeout bounds how long a publish waits for the disk.
const publishTimeout = 30 * time.Second

// publish stores the body of a request. It answers OK when the message is
// durable.
func (a *API) publish(w http.ResponseWriter, r *http.Request, topic string) {
	p := &broker.Publish{Messages: make([]broker.Publication, 1)}
	m := &p.Messages[0].Message
	who, err := a.caller(r)
	if err == nil {
		err = fill(m, r, topic)
	}
	if err == nil {
		m.Sender, err = sender(who, m.Sender)
	}
	if err == nil {
		err = who.Allow(account.Publish, m.Topic) // before anything is read or counted
	}
	if err == nil {
		m.Body, err = a.body(r, a.Broker.Limits().MessageBytes)
	}
	if err == nil && a.Spend != nil {
		err = a.Spend(r, who, account.Publish, m.Topic, len(m.Body))
	}
	if err != nil {
		a.Broker.Refused(err)
	} else {
		own := *who
		own.Identity = m.Sender
		if a.Over != nil {
			p.Watch = &broker.Watch{Over: func(who *account.Principal, err error) { a.Over(r, who, err) }}
		}
		err = a.store(r.Context(), &own, p)
	}
	if err != nil {
		a.denied(r, who, "publish "+topic, err)
		a.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "OK") // it is stored, whether the client learns it or not
}

// caller is who makes a request; the error says that nobody does.
func (a *API) caller(r *http.Request) (*account.Principal, error) {
	if a.Principal == nil {
		return account.Anyone(parley.Identity{}), nil
	}
	who, err := a.Principal(r)
	switch {
	case err != nil:
		return account.Nobody(), err
	case !who.Known():
		return who, account.ErrUnknown
	}
	return who, nil
}

func (a *API) denied(r *http.Request, who *account.Principal, what string, err error) {
	if a.Denied != nil && errors.Is(err, parley.ErrForbidden) {
		a.Denied(r, who, what)
	}
}

func (a *API) store(ctx context.Context, who *account.Principal, p *broker.Publish) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	err := a.Broker.Publish(ctx, who, p)
	switch {
	case err == nil:
		return p.Messages[0].Result.Err
	case ctx.Err() != nil: // the message still belongs to the broker
		return fmt.Errorf("it takes too long and may be stored or not: %w", parley.ErrUnavailable)
	}
	return err
}

// fill makes the message that a request describes, but for its body.
func fill(m *parley.Message, r *http.Request, topic string) error {
	var err error
	if m.Topic, err = parley.ParseTopic(topic); err != nil {
		return err
	}
	query, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	m.Sender = parley.Identity{User: query.Get("userId"), Device: xid.New().String()}
	m.ID = query.Get("messageId")
	m.Header = headerOf(r.Header)
	if err := checkUser(m.Sender.User); err != nil {
		return err
	}
	if m.ID != "" && !jsonform.ValidID(m.ID) {
		return fmt.Errorf("messageId has at most %d bytes and no control characters: %w", parley.MaxIDBytes, parley.ErrInvalid)
	}
	if m.Filters, err = filtersOf(query); err != nil {
		return err
	}
	m.Expires, err = expiryOf(query, time.Now())
	return err
}

// tooLargeError is a body above the limit.
type tooLargeError struct{ limit int }

func (e *tooLargeError) Error() string {
	return "the body has more than " + strconv.Itoa(e.limit) + " bytes"
}
func (e *tooLargeError) Unwrap() error { return parley.ErrInvalid }

// maxDrain is how much of a body that is too large is read and thrown away: a
// client that is still sending when the connection closes may never see the
// answer.
const maxDrain = 16 << 20

// body reads at most limit bytes. No more memory is taken than has arrived.
func (a *API) body(r *http.Request, limit int) ([]byte, error) {
	if r.ContentLength > int64(limit) {
		if r.Header.Get("Expect") == "" { // otherwise the client waits to be asked for the body
			_, _ = io.CopyN(io.Discard, r.Body, maxDrain)
		}
		return nil, &tooLargeError{limit}
	}
	p, err := a.Arriving.ReadAll(io.LimitReader(r.Body, int64(limit)+1), r.ContentLength)
	if errors.Is(err, parley.ErrUnavailable) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("Can not read body: %w", parley.ErrInvalid) //nolint:staticcheck // the words that clients know
	}
	if len(p) > limit {
		_, _ = io.CopyN(io.Discard, r.Body, maxDrain)
		return nil, &tooLargeError{limit}
	}
	return bytes.Clone(p), nil // of just its size, for it is kept
}

// fail answers with err as text.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusInternalServerError
	f := jsonform.Explain(err)
	switch f.Kind {
	case "invalid":
		status = http.StatusBadRequest
		if _, ok := errors.AsType[*tooLargeError](err); ok {
			status = http.StatusRequestEntityTooLarge
		}
	case "unauthenticated":
		status = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", `Bearer realm="parley"`)
	case "forbidden":
		status = http.StatusForbidden
	case "not_found":
		status = http.StatusNotFound
	case "conflict":
		status = http.StatusConflict
	case "unavailable":
		status = http.StatusServiceUnavailable
		after := 1
		if f.After > 0 {
			status, after = http.StatusTooManyRequests, int((f.After+time.Second-1)/time.Second)
		}
		if f.Code == jsonform.QuotaExceeded {
			status = http.StatusInsufficientStorage
		}
		w.Header().Set("Retry-After", strconv.Itoa(after))
	default:
		a.Logger.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	text := f.Message
	if f.Code != "invalid" && f.Code != "internal" {
		text = f.Code + ": " + text
	}
	http.Error(w, text, status)
}
