package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/server"
)

// The exit codes, which scripts rely on.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2 // the command line, the configuration or the request is wrong
	exitUnavailable = 3 // no connection, or the server cannot do it now
	exitRefused     = 4 // not allowed
	exitNotFound    = 5
	exitConflict    = 6
	exitInterrupted = 130 // by a signal
)

// exitHelp ends the help of the root command.
const exitHelp = `Exit codes:
  0    done
  1    something else went wrong
  2    the command line, the configuration or the request is wrong
  3    no connection, or the server cannot do it now: try again
  4    not allowed
  5    there is no such thing
  6    a conflict, such as a message id used for another message
  130  interrupted
`

// credentialHint says what to do about a credential that is missing or refused.
//
//nolint:gosec // there is none in it
const credentialHint = `Show a token or an API key as PARLEY_TOKEN or PARLEY_API_KEY in the environment or, where a command has these
flags, with --token-file or --api-key-file. An operator makes one with "parley token issue" or "parley key create".
Why one is refused is in the server's log.`

// usageError is a command line that makes no sense.
type usageError struct {
	err     error
	command string // whose help explains
}

func (e *usageError) Error() string {
	// It may quote an argument, and nobody reads a megabyte of that.
	const longest = 500
	text := e.err.Error()
	if len(text) <= longest {
		return text
	}
	return strings.ToValidUTF8(text[:longest], "") + fmt.Sprintf("… (%d bytes)", len(text))
}

func (e *usageError) Unwrap() error { return e.err }

// usage makes an error about the command line.
func usage(command, format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...), command: command}
}

// exit says on stderr what went wrong and returns the exit code. What an
// interrupt broke off needs no words.
func exit(ctx context.Context, stderr io.Writer, err error) int {
	switch {
	case err == nil:
		return exitOK
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	tell(stderr, "parley: %v\n", err)
	if u, ok := errors.AsType[*usageError](err); ok {
		tell(stderr, "Try \"%s --help\".\n", u.command)
		return exitUsage
	}
	if errors.Is(err, parley.ErrUnauthenticated) && !errors.Is(err, errNobody) {
		tell(stderr, "%s\n", credentialHint)
	}
	return exitCode(err)
}

// exitCode translates the kinds of error.
func exitCode(err error) int {
	for _, kind := range []struct {
		err  error
		code int
	}{
		{parley.ErrInvalid, exitUsage},
		{parley.ErrUnauthenticated, exitRefused},
		{parley.ErrForbidden, exitRefused},
		{parley.ErrNotFound, exitNotFound},
		{parley.ErrConflict, exitConflict},
		{parley.ErrUnavailable, exitUnavailable},
	} {
		if errors.Is(err, kind.err) {
			return kind.code
		}
	}
	if _, ok := errors.AsType[*server.ConfigError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return exitUnavailable
	}
	return exitError
}
