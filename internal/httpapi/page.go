package httpapi

import (
	_ "embed" // the page
	"net/http"
	"strconv"
)

// The page that shows the document and tries it. It loads nothing from
// elsewhere, and runs no script but its own.
var (
	//go:embed page/page.html
	pageHTML string
	//go:embed page/page.css
	pageCSS string
	//go:embed page/page.js
	pageJS string
)

// page is the route of one file of the page.
func page(path, id, summary, mediaType, file string) route {
	return route{
		method: http.MethodGet, path: path, audience: everybody, public: true, id: id, summary: summary,
		answer: answer{http.StatusOK, "The file.", nil, []content{{mediaType, text(), nil}}},
		serve: func(w http.ResponseWriter, _ *request) error {
			plain(w, mediaType)
			h := w.Header()
			h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "+
				"base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
			h.Set("Content-Length", strconv.Itoa(len(file)))
			_, _ = w.Write([]byte(file)) // a client that has gone is nobody's concern
			return nil
		},
	}
}
