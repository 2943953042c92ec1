package server

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/httpapi"
	"github.com/parley-im/parley/internal/protocol/sse"
	"github.com/parley-im/parley/internal/wire"
)

// events answers a request with an event stream, whose topic is the rest of the
// path. Like upgrade it leaves the conversation to a goroutine of its own; ctx is
// the conversation's.
func (s *Server) events(ctx context.Context) http.HandlerFunc {
	conns := s.conns(s.wireConfig(0)) // nothing is read from the client
	return func(w http.ResponseWriter, r *http.Request) {
		if err := s.policy.Check(r); err != nil {
			s.count.refused("upgrade")
			httpapi.Fail(w, r, s.logger, err)
			return
		}
		if !accepts(r.Header.Values("Accept"), "text", "event-stream") {
			httpapi.NotAcceptable(w, "a topic is followed as text/event-stream")
			return
		}
		request, err := sse.Parse("/"+r.PathValue("topic"), r.URL.RawQuery, r.Header.Get("Last-Event-ID"), time.Now())
		who := account.Nobody()
		if err == nil {
			who, err = s.listener(r, &request)
		}
		if err != nil {
			httpapi.Fail(w, r, s.logger, err)
			return
		}
		if r.Method == http.MethodHead {
			wire.SetEventStreamHeader(w.Header(), r)
			return
		}
		at := s.at(r, sseName) // the conversation does not keep the request
		s.admitted(w, r, func() func() {
			conn, err := wire.OpenEventStream(w, r, conns.Load())
			if err != nil {
				s.count.refused("upgrade")
				if errors.Is(err, parley.ErrForbidden) || errors.Is(err, parley.ErrInvalid) {
					httpapi.Fail(w, r, s.logger, err)
				}
				return nil
			}
			return func() {
				c := sse.Conversation(conn, s.broker, request)
				c.Principal = who
				s.converse(ctx, at, c)
			}
		})
	}
}

// listener is who asks for an event stream, who must be known and may have it: the
// client learns that by the status.
func (s *Server) listener(r *http.Request, request *broker.Subscribe) (*account.Principal, error) {
	who, err := s.caller(r, s.at(r, sseName))
	if err != nil {
		return nil, err
	}
	if !who.Known() {
		return nil, account.ErrUnknown
	}
	if err := request.Permit(who); err != nil {
		s.denied(r, who, "subscribe "+string(request.Topic))
		return nil, err
	}
	return who, nil
}

// accepts reports whether the lines of an Accept header (RFC 9110 section
// 12.5.1) leave room for a type; no lines accept everything.
func accepts(lines []string, kind, subtype string) bool {
	if len(lines) == 0 {
		return true
	}
	best, accepted := 0, false // the most precise range decides
	for part := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		media, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		precision := 0
		switch media {
		case kind + "/" + subtype:
			precision = 3
		case kind + "/*":
			precision = 2
		case "*/*":
			precision = 1
		}
		if precision > best {
			q, err := strconv.ParseFloat(params["q"], 64)
			best, accepted = precision, err != nil || q > 0
		}
	}
	return accepted
}
