package httpapi

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/parley-im/parley"
)

// problem is an error as the client sees it.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Kind   string `json:"kind"`
	Detail string `json:"detail,omitempty"`
}

// translate turns an error into what the client may know of it: everything
// about its own mistakes, nothing about the server's.
func translate(err error) problem {
	for _, kind := range []struct {
		err    error
		status int
		name   string
	}{
		{parley.ErrInvalid, http.StatusBadRequest, "invalid"},
		{parley.ErrUnauthenticated, http.StatusUnauthorized, "unauthenticated"},
		{parley.ErrForbidden, http.StatusForbidden, "forbidden"},
		{parley.ErrNotFound, http.StatusNotFound, "not_found"},
		{parley.ErrConflict, http.StatusConflict, "conflict"},
		{parley.ErrUnavailable, http.StatusServiceUnavailable, "unavailable"},
	} {
		if errors.Is(err, kind.err) {
			return problem{Title: http.StatusText(kind.status), Status: kind.status, Kind: kind.name, Detail: err.Error()}
		}
	}
	return problem{Title: http.StatusText(http.StatusInternalServerError), Status: http.StatusInternalServerError, Kind: "internal"}
}

// fail answers with err. What the client is not told is logged.
func fail(w http.ResponseWriter, r *http.Request, logger *slog.Logger, err error) {
	p := translate(err)
	if p.Status == http.StatusInternalServerError {
		logger.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	if p.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Content-Type", "application/problem+json")
	write(w, p.Status, p)
}

// reply answers with 200 and v as JSON.
func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	write(w, http.StatusOK, v)
}

// write sends v. That a client has gone is nobody's concern, so the error is
// dropped.
func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
