package auth

import (
	"errors"
	"fmt"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
)

// Error is a refusal. What it reads as may go to the client; the rest is for the
// audit log. It wraps parley.ErrUnauthenticated, or parley.ErrUnavailable when
// the keys that would tell are not to be had now.
type Error struct {
	Kind account.CredentialKind
	// Reason says what was wrong, in words without a secret. What it repeats of
	// the credential is quoted and short.
	Reason string
	// User is who the credential proves, if it was refused only after that was
	// certain.
	User string

	err error
}

// Error says no more than a client may know.
func (e *Error) Error() string {
	if errors.Is(e.err, parley.ErrUnavailable) {
		return "credentials of this issuer cannot be checked now: " + parley.ErrUnavailable.Error()
	}
	return "the credential is not accepted: " + parley.ErrUnauthenticated.Error()
}

// Unwrap is the kind of error.
func (e *Error) Unwrap() error { return e.err }

// refusal is why a credential is refused, before its kind is known.
type refusal struct {
	reason string
	err    error
}

func (r *refusal) Error() string { return r.reason }

func (r *refusal) Unwrap() error { return r.err }

func refuse(format string, args ...any) error {
	return &refusal{reason: fmt.Sprintf(format, args...), err: parley.ErrUnauthenticated}
}

func notNow(format string, args ...any) error {
	return &refusal{reason: fmt.Sprintf(format, args...), err: parley.ErrUnavailable}
}

// wrap makes the error that Verify returns.
func wrap(kind account.CredentialKind, user string, err error) error {
	if err == nil {
		return nil
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		return &Error{Kind: kind, Reason: r.reason, User: user, err: r.err}
	}
	is := parley.ErrUnauthenticated
	if errors.Is(err, parley.ErrUnavailable) {
		is = parley.ErrUnavailable
	}
	return &Error{Kind: kind, Reason: err.Error(), User: user, err: is}
}
