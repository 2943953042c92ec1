package httpapi

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/protocol/jsonform"
)

// Problem is an error as the client sees it (RFC 9457). Kind and Code never
// change their meaning.
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	// Kind is one of the six kinds of error, or "internal".
	Kind string `json:"kind"`
	// Code is more precise where there is more to say.
	Code string `json:"code"`
	// Detail is for people.
	Detail string `json:"detail,omitempty"`
	// Retry says that the same request may succeed later, and RetryMS in how many
	// milliseconds, where that is known.
	Retry   bool  `json:"retry,omitempty"`
	RetryMS int64 `json:"retry_ms,omitempty"`
	// Results says what became of each message of a batch.
	Results []Outcome `json:"results,omitempty"`
}

// Outcome is what became of one message: where it is, or what is wrong.
type Outcome struct {
	Topic     parley.Topic `json:"topic,omitempty"`
	Seq       parley.Seq   `json:"seq,omitempty"`
	Duplicate bool         `json:"duplicate,omitempty"`
	Error     *Reason      `json:"error,omitempty"`
}

// Reason is why a message of a batch was not stored.
type Reason struct {
	Kind    string `json:"kind"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// statusError is an error that HTTP has a status of its own for. Its kind is that
// of a mistake of the client.
type statusError struct {
	status int
	detail string
}

func failure(status int, detail string) error { return &statusError{status, detail} }

func tooLarge(limit int64) error {
	return failure(http.StatusRequestEntityTooLarge, "the body has more than "+strconv.FormatInt(limit, 10)+" bytes")
}

func (e *statusError) Error() string { return e.detail }
func (e *statusError) Unwrap() error { return parley.ErrInvalid }

// code is the stable name of a status.
func (e *statusError) code() string {
	switch e.status {
	case http.StatusNotFound:
		return "not_found"
	case http.StatusForbidden:
		return "forbidden"
	case http.StatusMethodNotAllowed:
		return "method_not_allowed"
	case http.StatusRequestEntityTooLarge:
		return "too_large"
	case http.StatusUnsupportedMediaType:
		return "unsupported_media_type"
	case http.StatusPreconditionFailed:
		return "precondition_failed"
	case http.StatusRequestTimeout:
		return "timeout"
	}
	return "invalid"
}

// kind is the kind of error that a status stands for.
func (e *statusError) kind() string {
	switch e.status {
	case http.StatusNotFound:
		return "not_found"
	case http.StatusForbidden:
		return "forbidden"
	case http.StatusPreconditionFailed:
		return "conflict"
	}
	return "invalid"
}

// statusOf is the status of a kind of error.
func statusOf(kind string) int {
	switch kind {
	case "invalid":
		return http.StatusBadRequest
	case "unauthenticated":
		return http.StatusUnauthorized
	case "forbidden":
		return http.StatusForbidden
	case "not_found":
		return http.StatusNotFound
	case "conflict":
		return http.StatusConflict
	case "unavailable":
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// translate turns an error into what the client may know of it: everything
// about its own mistakes, nothing about the server's.
func translate(err error) Problem {
	f := jsonform.Explain(err)
	p := Problem{Status: statusOf(f.Kind), Kind: f.Kind, Code: f.Code, Detail: f.Message, Retry: f.Retry(), RetryMS: f.After.Milliseconds()}
	switch {
	case f.Code == jsonform.QuotaExceeded:
		p.Status = http.StatusInsufficientStorage
	case f.After > 0:
		p.Status = http.StatusTooManyRequests
	}
	if e, ok := err.(*statusError); ok { //nolint:errorlint // one that is wrapped has become part of something else
		p.Status, p.Kind, p.Code, p.Detail = e.status, e.kind(), e.code(), e.detail
	}
	if p.Kind == "internal" {
		p.Detail = ""
	}
	p.Title = http.StatusText(p.Status)
	return p
}

// fail answers with err.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	Fail(w, r, a.cfg.Logger, err)
}

// Fail answers with err as a problem: the client is told all about its own
// mistakes, and nothing about the server's, which are logged.
func Fail(w http.ResponseWriter, r *http.Request, logger *slog.Logger, err error) {
	p := translate(err)
	if p.Status == http.StatusInternalServerError {
		if r.Context().Err() != nil {
			return // the client has gone, and took its error with it
		}
		logger.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	p.write(w)
}

// write answers with p.
func (p *Problem) write(w http.ResponseWriter) {
	p.headers(w.Header())
	send(w, p.Status, "application/problem+json", p)
}

// headers sets what an answer says beside its status: when to come again, or how
// to authenticate.
func (p *Problem) headers(h http.Header) {
	switch p.Status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusInsufficientStorage:
		h.Set("Retry-After", strconv.FormatInt(max(1, (p.RetryMS+999)/1000), 10))
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="parley"`)
	}
}

// FailText is Fail, but for clients that read text. It returns the status.
func FailText(w http.ResponseWriter, r *http.Request, logger *slog.Logger, err error) int {
	p := translate(err)
	if p.Status == http.StatusInternalServerError {
		logger.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	p.headers(w.Header())
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	http.Error(w, text, p.Status)
	return p.Status
}

// CrossOrigin refuses what a page of another origin asks for.
func CrossOrigin(w http.ResponseWriter, _ *http.Request) {
	p := translate(fmt.Errorf("pages of another origin may not do this: %w", parley.ErrForbidden))
	p.write(w)
}

// reply answers with status and v as JSON.
func reply(w http.ResponseWriter, status int, v any) error {
	send(w, status, jsonType, v)
	return nil
}

const jsonType = "application/json; charset=utf-8"

// send sends v as JSON. That a client has gone is nobody's concern, so the error
// is dropped.
func send(w http.ResponseWriter, status int, contentType string, v any) {
	plain(w, contentType)
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
}

// plain sets the headers of an answer that no browser shall interpret or keep.
func plain(w http.ResponseWriter, contentType string) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox; frame-ancestors 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	if h.Get("Cross-Origin-Resource-Policy") == "" && h.Get("Access-Control-Allow-Origin") == "" {
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
	}
}
