package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/httpapi"
)

func TestHealth(t *testing.T) {
	well := httpapi.Check{Name: "well", Run: func(context.Context) error { return nil }}
	ill := httpapi.Check{Name: "ill", Run: func(context.Context) error { return errors.New("it hurts") }}
	for name, tt := range map[string]struct {
		checks []httpapi.Check
		status int
		body   string
	}{
		"nothing to check": {nil, 200, "{}\n"},
		"all well":         {[]httpapi.Check{well, well}, 200, "{}\n"},
		"one ill":          {[]httpapi.Check{well, ill, well}, 503, `{"ill":"it hurts"}` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			httpapi.Health(tt.checks...).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody))
			if w.Code != tt.status || w.Body.String() != tt.body {
				t.Errorf("answer is %d %q, want %d %q", w.Code, w.Body, tt.status, tt.body)
			}
		})
	}
}

func TestCheckThatHangsFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := httpapi.Check{Name: "slow", Run: func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}}
		w := httptest.NewRecorder()
		httpapi.Health(hangs).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody))
		if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), `"slow"`) {
			t.Errorf("answer is %d %q, want 503 that names the check", w.Code, w.Body)
		}
	})
}

// broken is a log that fails with err, whatever it is asked.
type broken struct {
	backend.Log
	err error
}

func (b broken) Streams(context.Context, parley.Stream) iter.Seq2[parley.Stream, error] {
	return func(yield func(parley.Stream, error) bool) { yield("", b.err) }
}

func (b broken) Bounds(context.Context, parley.Stream) (parley.Seq, parley.Seq, error) {
	return 0, 0, b.err
}

func (b broken) Count(context.Context, backend.Query) (backend.Span, error) {
	return backend.Span{}, b.err
}

func (b broken) Read(context.Context, backend.Query) (backend.Page, error) {
	return backend.Page{}, b.err
}

func (b broken) Trim(context.Context, parley.Stream, backend.Retention) (parley.Seq, error) {
	return 0, b.err
}

// newAPI is an API over log, for everybody.
func newAPI(log backend.Log, logger *slog.Logger) *httpapi.API {
	return httpapi.New(httpapi.Config{
		Log: log, Broker: broker.New(broker.Config{Log: log}), Logger: logger,
		Admit: func(*http.Request) error { return nil }, Version: "0", Arriving: broker.NewRoom(1 << 20), AnswerBytes: 1 << 20,
	})
}

// TestProblems shows each kind of error to a client, and hides what is the
// server's own business.
func TestProblems(t *testing.T) {
	for _, tt := range []struct {
		err        error
		status     int
		kind, code string
		detail     bool
	}{
		{parley.ErrInvalid, 400, "invalid", "invalid", true},
		{parley.ErrUnauthenticated, 401, "unauthenticated", "unauthenticated", true},
		{parley.ErrForbidden, 403, "forbidden", "forbidden", true},
		{parley.ErrNotFound, 404, "not_found", "not_found", true},
		{parley.ErrConflict, 409, "conflict", "conflict", true},
		{parley.ErrUnavailable, 503, "unavailable", "unavailable", true},
		{backend.ErrStorageFull, 503, "unavailable", "storage_full", true},
		{broker.ErrOverloaded, 503, "unavailable", "overloaded", true},
		{errors.New("disk on fire"), 500, "internal", "internal", false},
	} {
		t.Run(tt.code, func(t *testing.T) {
			var log strings.Builder
			mux := http.NewServeMux()
			api := newAPI(broken{err: fmt.Errorf("some secret: %w", tt.err)}, slog.New(slog.NewTextHandler(&log, nil)))
			api.Register(mux)
			api.RegisterOperator(mux, func(h http.Handler) http.Handler { return h })
			for _, request := range []*http.Request{
				httptest.NewRequest(http.MethodGet, "/v1/topics", http.NoBody),
				httptest.NewRequest(http.MethodGet, "/v1/topics/a", http.NoBody),
				httptest.NewRequest(http.MethodDelete, "/v1/topics/a", http.NoBody),
				httptest.NewRequest(http.MethodGet, "/v1/messages/a", http.NoBody),
				httptest.NewRequest(http.MethodGet, "/v1/messages/a?last=3", http.NoBody),
				httptest.NewRequest(http.MethodGet, "/v1/body/a", http.NoBody),
				httptest.NewRequest(http.MethodGet, "/v1/count/a", http.NoBody),
			} {
				log.Reset()
				w := httptest.NewRecorder()
				mux.ServeHTTP(w, request)
				body := w.Body.String()
				if w.Code != tt.status || !strings.Contains(body, `"kind":"`+tt.kind+`","code":"`+tt.code+`"`) ||
					w.Header().Get("Content-Type") != "application/problem+json" {
					t.Errorf("%s %s is answered by %d %s", request.Method, request.URL, w.Code, body)
				}
				if strings.Contains(body, "some secret") != tt.detail || strings.Contains(log.String(), "some secret") == tt.detail {
					t.Errorf("%s %s: the client reads %s and the log %s", request.Method, request.URL, body, log.String())
				}
				if retry := w.Header().Get("Retry-After"); (retry != "") != (tt.status == 503) {
					t.Errorf("%s %s: Retry-After is %q", request.Method, request.URL, retry)
				}
			}
		})
	}
}

// TestGuardDecides shows that what changes or removes is not outside of the
// guard, and that on a listener of the operators' own there are the routes to
// look around, and none to publish.
func TestGuardDecides(t *testing.T) {
	closed := func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	}
	mux := http.NewServeMux()
	newAPI(broken{}, slog.New(slog.DiscardHandler)).RegisterOperator(mux, closed)
	for _, request := range []*http.Request{
		httptest.NewRequest(http.MethodDelete, "/v1/topics/a", http.NoBody),
		httptest.NewRequest(http.MethodPut, "/v1/retention/a", http.NoBody),
		httptest.NewRequest(http.MethodDelete, "/v1/retention/a", http.NoBody),
	} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, request)
		if w.Code != http.StatusTeapot {
			t.Errorf("%s %s is %d, want the guard's answer", request.Method, request.URL, w.Code)
		}
	}
}
