package texto

import (
	_ "embed" // the page
	"html"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Greets tells by the query of a request whether its client wants to be greeted.
func Greets(query url.Values) bool { return query.Get("nogreet") == "" }

// Refuse answers a request that is no handshake, in the words of the original
// server: for wire.Config.
func Refuse(rw http.ResponseWriter, status int, reason string) {
	h := rw.Header()
	h.Set("Sec-WebSocket-Version", "13")
	switch status {
	case http.StatusForbidden: // which the original server never said
		http.Error(rw, reason, status)
		return
	case http.StatusMethodNotAllowed:
		h.Set("Allow", http.MethodGet)
	default:
		status = http.StatusBadRequest
	}
	http.Error(rw, http.StatusText(status), status)
}

// The page with which two windows chat. It loads nothing from elsewhere, and runs
// no script but its own.
var (
	//go:embed page/page.html
	pageHTML string
	//go:embed page/texto.css
	pageCSS string
	//go:embed page/texto.js
	pageJS string
)

// Page serves the page and its files at and below prefix, which ends with a slash,
// for a server whose protocol is at path.
func Page(prefix, path string) http.Handler {
	mux := http.NewServeMux()
	for name, file := range map[string]struct{ mediaType, text string }{
		"{$}":       {"text/html; charset=utf-8", strings.ReplaceAll(pageHTML, "{path}", html.EscapeString(path))},
		"texto.css": {"text/css; charset=utf-8", pageCSS},
		"texto.js":  {"text/javascript; charset=utf-8", pageJS},
	} {
		mux.HandleFunc("GET "+prefix+name, func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			h.Set("Content-Type", file.mediaType)
			h.Set("Content-Length", strconv.Itoa(len(file.text)))
			h.Set("Cache-Control", "no-cache")
			h.Set("X-Content-Type-Options", "nosniff")
			h.Set("Referrer-Policy", "no-referrer")
			h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "+
				"base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
			_, _ = w.Write([]byte(file.text)) // a client that has gone is nobody's concern
		})
	}
	return mux
}
