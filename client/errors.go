package client

import (
	"errors"
	"fmt"
	"time"

	"github.com/parley-im/parley"
)

// ErrClosed is what every call fails with after [Client.Close].
var ErrClosed = errors.New("client: closed")

// Error is an error that the server reports. It wraps one of the six kinds of
// package parley, or nothing when the fault is the server's own.
type Error struct {
	// Code is the number on the wire, as listed in docs/protocol/native.md.
	Code int
	// Kind is the kind's name there, such as "forbidden"; "internal" is a fault
	// of the server.
	Kind string
	// Reason is more precise than Kind where there is more to say, such as
	// "storage_full" or [ReasonQuota]; otherwise it is empty.
	Reason string
	// Message says what is wrong, for people.
	Message string
	// After is when the same request may succeed, if the server said so; 0 when
	// it did not.
	After time.Duration
}

// ReasonQuota is the Reason of what was refused because the user has as much stored
// as they may. What is removed makes room, which may take days: such a request is
// not repeated, unlike others that wrap [parley.ErrUnavailable].
const ReasonQuota = "quota_exceeded"

// Error is the message with its kind.
func (e *Error) Error() string {
	return fmt.Sprintf("%s (%s, code %d)", e.Message, e.Kind, e.Code)
}

// Unwrap is the kind as an error of package parley, or nil. It goes by the
// code: a newer server may have kinds that this client has no name for.
func (e *Error) Unwrap() error {
	switch e.Code {
	case -32700, -32600, -32601, -32602:
		return parley.ErrInvalid
	case -32001:
		return parley.ErrUnauthenticated
	case -32002:
		return parley.ErrForbidden
	case -32003:
		return parley.ErrNotFound
	case -32004:
		return parley.ErrConflict
	case -32005:
		return parley.ErrUnavailable
	default:
		return nil
	}
}

// GapError tells a subscription's loop that messages are missing: retention
// removed them before they could be read. The loop goes on after the gap.
type GapError struct {
	Topic parley.Topic
	// From and To: what had a seq above From and not above To is gone.
	From, To parley.Seq
}

// Error names the topic and the bounds.
func (e *GapError) Error() string {
	return fmt.Sprintf("%s: the messages after %d up to %d are gone", e.Topic, e.From, e.To)
}

// ResetError tells a subscription's loop that the server's log ends before what
// the loop has already seen, as after a restore from a backup: some of it is no
// longer in the log. The loop goes on with what is published from now on.
type ResetError struct {
	Topic parley.Topic
	// From is where the subscription was, To the end of the log.
	From, To parley.Seq
}

// Error names the topic and both places.
func (e *ResetError) Error() string {
	return fmt.Sprintf("%s: the log ends at %d, before %d; it was reset", e.Topic, e.To, e.From)
}

// byeError is the end of a session that the server announced.
type byeError struct {
	code, reason string
	retry        time.Duration // 0: coming back does not help
}

func (e *byeError) Error() string {
	if e.reason == "" {
		return "the server said goodbye: " + e.code
	}
	return fmt.Sprintf("the server said goodbye: %s (%s)", e.code, e.reason)
}
