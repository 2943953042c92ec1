package httpapi_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/httpapi"
)

// FuzzRequest (S9): whatever is asked, the answer is one of those that there are,
// and no fault of the server. Nothing is stored, since the broker does not run:
// what would be stored waits until its client has gone.
func FuzzRequest(f *testing.F) {
	f.Add("POST", "/v1/messages", "application/json", `{"messages":[{"topic":"/a","text":"\u00e9","headers":{"a":"b"}}],"producer":"d1f5b6a09c3e4f7a8b2d0c6e5a4f3b21"}`)
	f.Add("POST", "/v1/messages", "application/x-ndjson", "{\"topic\":\"/a\",\"data\":\"AA==\"}\n\n{\"topic\":\"/a\",\"expires\":\"2099-01-01T00:00:00Z\"}")
	f.Add("POST", "/v1/messages/a/b?id=1&ttl=1d12h&filter.user_id=x", "image/png", "\x89PNG")
	f.Add("GET", "/v1/messages/a?after=1&before=9&since=10m&limit=3&reverse", "", "")
	f.Add("GET", "/v1/body/%C3%A9?seq=3", "", "")
	f.Add("PUT", "/v1/retention/a", "application/json", `{"age":"30d","bytes":1,"messages":1}`)
	f.Add("DELETE", "/v1/topics/a", "", "")
	mux := http.NewServeMux()
	api := newAPI(broken{err: parley.ErrNotFound}, slog.New(slog.DiscardHandler))
	api.Register(mux)
	api.RegisterOperator(mux, func(h http.Handler) http.Handler { return h })
	strict := httpapi.Strict(mux)
	f.Fuzz(func(t *testing.T, method, target, contentType, body string) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://localhost", strings.NewReader(body))
		if err != nil {
			return
		}
		u, err := r.URL.Parse(target)
		if err != nil || u.Host != "localhost" {
			return
		}
		r.URL = u
		r.Header.Set("Content-Type", contentType)
		gone, leave := context.WithCancel(t.Context())
		leave()
		w := httptest.NewRecorder()
		strict.ServeHTTP(w, r.WithContext(gone))
		if w.Code == http.StatusInternalServerError {
			t.Errorf("%s %s: %s", method, target, w.Body)
		}
		if w.Code >= 400 && strings.HasPrefix(u.Path, "/v1/") && w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s is answered by %d %s", method, target, w.Code, w.Body)
		}
	})
}
