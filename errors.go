package parley

import "errors"

// The kinds of error. Every error that crosses a package wraps one of them, or
// is internal; each edge (an HTTP status, a protocol's code, an exit code)
// translates them once.
var (
	// ErrInvalid: the request breaks a rule; repeating it cannot help.
	ErrInvalid = errors.New("invalid")
	// ErrUnauthenticated: it is not known who asks.
	ErrUnauthenticated = errors.New("unauthenticated")
	// ErrForbidden: who asks may not do this.
	ErrForbidden = errors.New("forbidden")
	// ErrNotFound: there is no such thing.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the thing is in another state than the request assumes.
	ErrConflict = errors.New("conflict")
	// ErrUnavailable: not now; the same request may succeed later.
	ErrUnavailable = errors.New("unavailable")
)
