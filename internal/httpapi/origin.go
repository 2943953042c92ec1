package httpapi

import (
	"net/http"
	"path"
	"strings"
)

// prefix is what all paths of the API begin with.
const prefix = "/v1/"

// share lets the page of another origin read the answer, when that origin is one
// of those that are admitted; the error tells that it is not. A request without
// an Origin is no page's, or its own server's.
func (a *API) share(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Add("Vary", "Origin")
	if r.Header.Get("Origin") == "" {
		return nil
	}
	if err := a.cfg.Admit(r); err != nil {
		return err
	}
	h.Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
	h.Set("Access-Control-Expose-Headers", "Content-Location, ETag, Link, Location, Retry-After, WWW-Authenticate, Parley-Time, Parley-Id")
	return nil
}

// preflight answers OPTIONS, of an origin that was admitted if it has one.
func preflight(w http.ResponseWriter, r *http.Request, allow string) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != "" {
		h.Add("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
		h.Set("Access-Control-Allow-Methods", allow)
		h.Set("Access-Control-Max-Age", "600")
		if names := r.Header.Get("Access-Control-Request-Headers"); plainNames(names) {
			h.Set("Access-Control-Allow-Headers", names)
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// plainNames reports whether s lists names of headers that the API reads.
func plainNames(s string) bool {
	if s == "" {
		return false
	}
	for name := range strings.SplitSeq(s, ",") {
		name = strings.ToLower(strings.TrimSpace(name))
		switch name {
		case "accept", "authorization", "content-type", "idempotency-key", "if-match", "if-none-match", "last-event-id", "range":
			continue
		}
		rest, ours := strings.CutPrefix(name, "parley-header-")
		if !ours || strings.Trim(rest, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

// Strict refuses paths of the API that a mux would otherwise guess the meaning
// of: it redirects /v1//x and /v1/x/../y, which loses the body of a POST. A slash
// written as %2F is one: a topic has no other, and generated clients write it so.
func Strict(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := r.URL.Path
		if strings.HasPrefix(p, prefix) || strings.HasPrefix(path.Clean(p)+"/", prefix) {
			if fault := pathFault(r.URL.Path); fault != "" {
				problem := translate(failure(http.StatusBadRequest, fault))
				problem.write(w)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// pathFault says what is wrong with a decoded path.
func pathFault(decoded string) string {
	segments := strings.Split(strings.TrimPrefix(decoded, "/"), "/")
	for i, segment := range segments {
		switch {
		case segment == "" && i < len(segments)-1:
			return "the path has an empty segment"
		case segment == "." || segment == "..":
			return "the path has a segment " + segment
		}
	}
	return ""
}
