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

func (b broken) Streams(context.Context) iter.Seq2[parley.Stream, error] {
	return func(yield func(parley.Stream, error) bool) { yield("", b.err) }
}

func (b broken) Bounds(context.Context, parley.Stream) (parley.Seq, parley.Seq, error) {
	return 0, 0, b.err
}

// TestProblems shows each kind of error to a client, and hides what is the
// server's own business.
func TestProblems(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
		kind   string
		detail bool
	}{
		{parley.ErrInvalid, 400, "invalid", true},
		{parley.ErrUnauthenticated, 401, "unauthenticated", true},
		{parley.ErrForbidden, 403, "forbidden", true},
		{parley.ErrNotFound, 404, "not_found", true},
		{parley.ErrConflict, 409, "conflict", true},
		{parley.ErrUnavailable, 503, "unavailable", true},
		{errors.New("disk on fire"), 500, "internal", false},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			var log strings.Builder
			mux := http.NewServeMux()
			topics := httpapi.Topics{Log: broken{err: fmt.Errorf("some secret: %w", tt.err)}, Logger: slog.New(slog.NewTextHandler(&log, nil))}
			topics.Register(mux, func(h http.Handler) http.Handler { return h })
			for _, request := range []*http.Request{
				httptest.NewRequest(http.MethodGet, "/admin/topics", http.NoBody),
				httptest.NewRequest(http.MethodGet, "/admin/topics/a", http.NoBody),
				httptest.NewRequest(http.MethodDelete, "/admin/topics/a", http.NoBody),
			} {
				w := httptest.NewRecorder()
				mux.ServeHTTP(w, request)
				body := w.Body.String()
				if w.Code != tt.status || !strings.Contains(body, `"kind":"`+tt.kind+`"`) || w.Header().Get("Content-Type") != "application/problem+json" {
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

// TestGuardDecides shows that no route is outside of the guard.
func TestGuardDecides(t *testing.T) {
	mux := http.NewServeMux()
	topics := httpapi.Topics{Log: broken{}, Logger: slog.New(slog.DiscardHandler)}
	topics.Register(mux, func(http.Handler) http.Handler { return http.NotFoundHandler() })
	for _, request := range []*http.Request{
		httptest.NewRequest(http.MethodGet, "/admin/topics", http.NoBody),
		httptest.NewRequest(http.MethodGet, "/admin/topics/a", http.NoBody),
		httptest.NewRequest(http.MethodDelete, "/admin/topics/a", http.NoBody),
	} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, request)
		if w.Code != http.StatusNotFound {
			t.Errorf("%s %s is %d, want the guard's answer", request.Method, request.URL, w.Code)
		}
	}
}
