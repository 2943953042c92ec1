package httpapi

import "net/http"

// NotAcceptable answers with 406 and what there is instead of the forms that the
// client accepts.
func NotAcceptable(w http.ResponseWriter, detail string) {
	p := translate(failure(http.StatusNotAcceptable, detail))
	p.write(w)
}
