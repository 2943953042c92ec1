package jsonform

import (
	"errors"
	"strings"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/limit"
)

// Failure is an error as a client sees it. Kind and Code never change their
// meaning.
type Failure struct {
	// Kind is the name of one of the six kinds of error, or "internal".
	Kind string
	// Code is the most precise name: "storage_full", "overloaded", "rate_limited"
	// and QuotaExceeded are of the kind "unavailable"; otherwise it is the kind.
	Code string
	// Message is for people. A fault of the server says nothing here, because
	// what it says is nobody else's business.
	Message string
	// After is when to come again, where that is known.
	After time.Duration
}

// Retry reports whether the same request may succeed later.
func (f Failure) Retry() bool { return f.Kind == "unavailable" }

// QuotaExceeded is the code of a backend.QuotaError.
const QuotaExceeded = "quota_exceeded"

// Explain finds the words for err.
func Explain(err error) Failure {
	for _, kind := range []struct {
		err  error
		name string
	}{
		{parley.ErrInvalid, "invalid"},
		{parley.ErrUnauthenticated, "unauthenticated"},
		{parley.ErrForbidden, "forbidden"},
		{parley.ErrNotFound, "not_found"},
		{parley.ErrConflict, "conflict"},
		{parley.ErrUnavailable, "unavailable"},
	} {
		if errors.Is(err, kind.err) {
			// The kind that the error wraps ends its text; the client has it already.
			f := Failure{Kind: kind.name, Code: codeOf(err, kind.name), Message: strings.TrimSuffix(err.Error(), ": "+kind.err.Error())}
			if exceeded, ok := errors.AsType[*limit.ExceededError](err); ok {
				f.Code, f.After = "rate_limited", exceeded.Wait()
			}
			if over, ok := errors.AsType[*backend.QuotaError](err); ok {
				f.Code, f.After = QuotaExceeded, over.Wait()
			}
			return f
		}
	}
	return Failure{Kind: "internal", Code: "internal", Message: "internal error"}
}

func codeOf(err error, kind string) string {
	switch {
	case errors.Is(err, backend.ErrStorageFull):
		return "storage_full"
	case errors.Is(err, broker.ErrOverloaded):
		return "overloaded"
	}
	return kind
}
