package httpapi

import (
	"context"
	"net/http"
	"time"
)

// checkTimeout bounds all checks of one request together: a check that hangs is
// a check that fails.
const checkTimeout = 5 * time.Second

// Check is one thing that must be well. Run returns what is wrong with it; it
// may be called concurrently and must honour its context.
type Check struct {
	Name string
	Run  func(context.Context) error
}

// Health answers 200 and {} when all checks pass, and otherwise 503 and an
// object that maps each failed check's name to what is wrong.
func Health(checks ...Check) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
		defer cancel()
		status, failed := http.StatusOK, map[string]string{}
		for _, check := range checks {
			if err := check.Run(ctx); err != nil {
				status, failed[check.Name] = http.StatusServiceUnavailable, err.Error()
			}
		}
		send(w, status, jsonType, failed)
	})
}
