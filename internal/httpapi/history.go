package httpapi

import (
	"bytes"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/protocol/jsonform"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
	"github.com/parley-im/parley/internal/units"
)

// historyDefault is how many messages a page has unless the client says.
const historyDefault = 100

// history answers with one page of stored messages.
func (a *API) history(w http.ResponseWriter, r *request) error {
	q, err := r.span()
	if err != nil {
		return err
	}
	return a.replyHistory(w, r, q)
}

// replyHistory answers with the page of what q selects that the query asks for.
func (a *API) replyHistory(w http.ResponseWriter, r *request, q backend.Query) (err error) {
	most := a.cfg.Broker.Limits().HistoryMessages
	if q.Limit, err = r.number("limit", min(historyDefault, most), most); err != nil {
		return err
	}
	if q.Reverse, err = r.flag("reverse"); err != nil {
		return err
	}
	if _, ok := r.query["last"]; ok {
		if q, err = a.newest(r, q, most); err != nil {
			return err
		}
	}
	page, err := a.cfg.Broker.History(r.Context(), r.principal(), q)
	if err != nil {
		return err
	}
	if page.More {
		w.Header().Set("Link", "<"+r.nextPage(&page, q.Reverse)+`>; rel="next"`)
	}
	if accepts(r.Request, linesType) {
		return a.sendPage(w, linesType, pageLines(&page))
	}
	return a.sendPage(w, jsonType, pageJSON(&page))
}

// newest makes q begin so that it finds the newest ?last= messages, the oldest of
// them first. What is published meanwhile comes after them.
func (a *API) newest(r *request, q backend.Query, most int) (backend.Query, error) {
	n, err := r.number("last", 0, most)
	if err != nil {
		return q, err
	}
	for _, other := range []string{"after", "reverse", "limit"} {
		if _, ok := r.query[other]; ok {
			return q, invalid("last stands without %s", other)
		}
	}
	find := q
	find.Limit, find.Reverse = n, true
	span, err := a.cfg.Broker.Count(r.Context(), r.principal(), find)
	if err != nil {
		return q, err
	}
	q.Limit = n
	if span.Count > 0 {
		q.After = span.First - 1
	}
	return q, nil
}

// count answers with how many messages are stored.
func (a *API) count(w http.ResponseWriter, r *request) error {
	q, err := r.span()
	if err != nil {
		return err
	}
	span, err := a.cfg.Broker.Count(r.Context(), r.principal(), q)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, Counted{Count: span.Count, First: span.First, Last: span.Last})
}

// Counted is how many messages there are, and the seqs of the lowest and the
// highest of them, 0 when there are none.
type Counted struct {
	Count int        `json:"count"`
	First parley.Seq `json:"first"`
	Last  parley.Seq `json:"last"`
}

// body answers with the body of one message as it was published: that with
// ?seq=, or the newest.
func (a *API) body(w http.ResponseWriter, r *request) error {
	topic, err := r.topic()
	if err != nil {
		return err
	}
	q := backend.Query{Topic: topic, Limit: 1, Reverse: true}
	if _, ok := r.query["seq"]; ok {
		seq, err := r.seq("seq")
		if err != nil {
			return err
		}
		q.After, q.Before = max(seq, 1)-1, seq+1
	}
	page, err := a.cfg.Broker.History(r.Context(), r.principal(), q)
	if err != nil {
		return err
	}
	if len(page.Messages) == 0 {
		return fmt.Errorf("there is no such message at %s: %w", topic, parley.ErrNotFound)
	}
	m := page.Messages[0]
	// What was published is a stranger's: no browser shall run it in our name.
	plain(w, typeOf(m))
	h := w.Header()
	h.Set("Content-Disposition", "attachment")
	h.Set("Content-Location", bodyPath(m.Topic, m.Seq))
	h.Set("ETag", `"`+m.Seq.String()+`"`)
	h.Set("Parley-Time", m.Time.UTC().Format(time.RFC3339Nano))
	if m.ID != "" {
		h.Set("Parley-Id", url.PathEscape(m.ID))
	}
	return a.answerBody(len(m.Body), func() { http.ServeContent(w, r.Request, "", time.Time{}, bytes.NewReader(m.Body)) })
}

// typeOf is the content type that a message was published with, or a plain one.
func typeOf(m *parley.Message) string {
	var headers map[string]string
	if jsonrpc.IsStrings(m.Header) && jsonrpc.DecodeBody([]byte(m.Header), &headers) == nil {
		if t := headers[contentHeader]; len(t) <= typeMost {
			if mediaType, _, err := mime.ParseMediaType(t); err == nil && strings.Contains(mediaType, "/") {
				return t
			}
		}
	}
	if utf8.Valid(m.Body) {
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

// span reads what all requests about stored messages have.
func (r *request) span() (backend.Query, error) {
	topic, err := r.topic()
	if err != nil {
		return backend.Query{}, err
	}
	return r.within(topic)
}

// within reads the bounds of a query about a topic.
func (r *request) within(topic parley.Topic) (backend.Query, error) {
	q := backend.Query{Topic: topic}
	var err error
	if q.After, err = r.seq("after"); err != nil {
		return q, err
	}
	if q.Before, err = r.seq("before"); err != nil {
		return q, err
	}
	if _, ok := r.query["before"]; ok && q.Before == 0 {
		return q, invalid("before must be at least 1")
	}
	if since, ok := r.query["since"]; ok {
		if q.Since, err = sinceOf(since); err != nil {
			return q, err
		}
	}
	return q, nil
}

// sinceOf reads a time, or how long ago it was.
func sinceOf(s string) (time.Time, error) {
	if d, err := units.ParseDuration(s); err == nil {
		return time.Now().Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, invalid("since must be a time such as 2026-12-31T12:00:00Z, or how long ago, such as 10m or 7d")
	}
	return t, nil
}

// seq reads a seq, 0 where there is none.
func (r *request) seq(name string) (parley.Seq, error) {
	text, ok := r.query[name]
	if !ok {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || parley.Seq(n) > parley.MaxSeq {
		return 0, invalid("%s must be a whole number from 0 to 2^53", name)
	}
	return parley.Seq(n), nil
}

// number reads a number from 1 to most, which is otherwise where it is not given.
func (r *request) number(name string, otherwise, most int) (int, error) {
	text, ok := r.query[name]
	if !ok {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, invalid("%s must be a whole number from 1 to %d", name, most)
	}
	return n, nil
}

// flag reads true or false; a name without a value is true.
func (r *request) flag(name string) (bool, error) {
	text, ok := r.query[name]
	switch {
	case !ok || text == "false":
		return false, nil
	case text == "true" || text == "":
		return true, nil
	}
	return false, invalid("%s must be true or false", name)
}

// nextPage is where the page after this one is.
func (r *request) nextPage(page *backend.Page, reverse bool) string {
	query := url.Values{}
	for name, value := range r.query {
		query.Set(name, value)
	}
	if last := query.Get("last"); last != "" {
		query.Del("last")
		query.Set("limit", last)
	}
	if reverse {
		query.Set("before", page.Next.String())
	} else {
		query.Set("after", page.Next.String())
	}
	return r.URL.EscapedPath() + "?" + query.Encode()
}

// accepts reports whether the client asks for that media type by name.
func accepts(r *http.Request, mediaType string) bool {
	for _, line := range r.Header.Values("Accept") {
		for item := range strings.SplitSeq(line, ",") {
			if name, _, err := mime.ParseMediaType(item); err == nil && name == mediaType {
				return true
			}
		}
	}
	return false
}

// pageJSON is a page as the native protocol has it.
func pageJSON(page *backend.Page) []byte {
	p := append([]byte(`{"messages":[`), jsonform.Messages(page.Messages)...)
	p = append(p, `],"next":`...)
	p = jsonform.AppendSeq(p, page.Next)
	p = append(p, `,"more":`...)
	p = strconv.AppendBool(p, page.More)
	p = append(p, `,"floor":`...)
	return append(jsonform.AppendSeq(p, page.Floor), '}', '\n')
}

// pageLines is a page with a message on each line.
func pageLines(page *backend.Page) []byte {
	var p []byte
	for _, m := range page.Messages {
		p = append(jsonform.AppendMessage(p, m), '\n')
	}
	return p
}

// sendPage sends the text of a page.
func (a *API) sendPage(w http.ResponseWriter, contentType string, p []byte) error {
	return a.answerBody(len(p), func() { writeAll(w, contentType, p) })
}

func writeAll(w http.ResponseWriter, contentType string, p []byte) {
	plain(w, contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(p)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(p) // a client that has gone is nobody's concern
}
