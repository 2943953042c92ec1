package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/parley-im/parley"
)

// backupStall bounds how long a client may take no byte of a backup before it is
// broken off: the store keeps files for it that it has done with.
const backupStall = time.Minute

// Backup serves an archive of the store:
//
//	GET /admin/backup?rate=52428800
//
// The answer ends early when something fails, and then its end is missing, which
// a client must notice.
type Backup struct {
	// Write writes an archive, at most rate bytes a second; 0 is no bound.
	Write func(ctx context.Context, w io.Writer, rate int64) error
	// Logger gets the errors that a client is not shown.
	Logger *slog.Logger
}

// Register adds the route to mux, wrapped by guard, which decides who may call
// it.
func (b *Backup) Register(mux *http.ServeMux, guard func(http.Handler) http.Handler) {
	mux.Handle("GET /admin/backup", guard(http.HandlerFunc(b.serve)))
}

func (b *Backup) serve(w http.ResponseWriter, r *http.Request) {
	rate, err := backupRate(r.URL.Query().Get("rate"))
	if err != nil {
		Fail(w, r, b.Logger, err)
		return
	}
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "application/x-tar")
		return
	}
	body := &patient{w: w, control: http.NewResponseController(w), contentType: "application/x-tar"}
	// The request was read; the server's time for that would end the context.
	if err := body.control.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		Fail(w, r, b.Logger, err)
		return
	}
	began := time.Now()
	err = b.Write(r.Context(), body, rate)
	switch {
	case err == nil:
		b.Logger.InfoContext(r.Context(), "backup taken", "bytes", body.sent, "seconds", time.Since(began).Seconds())
	case body.sent == 0:
		Fail(w, r, b.Logger, err)
	default:
		b.Logger.WarnContext(r.Context(), "backup broken off", "bytes", body.sent, "error", err)
		// Now the end of the answer cannot be written either.
		_ = body.control.SetWriteDeadline(time.Unix(1, 0))
	}
}

func backupRate(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	rate, err := strconv.ParseInt(s, 10, 64)
	if err != nil || rate < 1 {
		return 0, fmt.Errorf("rate must be a number of bytes a second: %w", parley.ErrInvalid)
	}
	return rate, nil
}

// patient writes an answer of any length: each write has a time of its own.
type patient struct {
	w           http.ResponseWriter
	control     *http.ResponseController
	contentType string
	sent        int64
}

func (p *patient) Write(b []byte) (int, error) {
	if p.sent == 0 {
		h := p.w.Header()
		h.Set("Content-Type", p.contentType)
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
	}
	if err := p.control.SetWriteDeadline(time.Now().Add(backupStall)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	n, err := p.w.Write(b)
	p.sent += int64(n)
	return n, err
}
