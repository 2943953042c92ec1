// Package console is the interactive client of the Gobbler protocol: commands
// from the arguments and from an input go to the server, and what the server
// says is printed in the order in which it came.
//
// One goroutine speaks and one listens. Between them is a ledger of the commands
// that wait for an answer, which says when a piped input is dealt with, and of
// the subscriptions, which are made again on a new connection.
package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/wire"
)

// patience is how long a server may be silent while commands that came through
// a pipe wait for their answers.
const patience = 10 * time.Second

// Options say what to send where.
type Options struct {
	// URL is the address below which the server speaks the protocol, such as
	// ws://localhost:8080/stream/.
	URL string
	// User is who this is. It goes into the address as it is.
	User string
	// Credential, a token or an API key, is shown to the server; empty is none.
	Credential string
	// Commands are sent before anything from In, each as one frame, as it is.
	Commands []string
	// Exit ends the client when Commands are written, without reading In and
	// without printing what the server says.
	Exit bool
	// Interactive says that a person is at In: when it ends, the client goes on
	// printing. Otherwise a command waits for the answers to those before it,
	// publishes excepted, as a person would, so that the output of a script is
	// in its order; and when all has been answered the client ends.
	Interactive bool
	// Verbose prints messages as they are on the wire.
	Verbose bool
	// Clean, if set, changes a text before it is printed.
	Clean func(string) string
	// In has the lines to send; Out gets what the server says, and prompts.
	In  io.Reader
	Out io.Writer
	// Logger is told when the connection broke and when it is there again.
	Logger *slog.Logger
}

// errDone ends a console that has done its work.
var errDone = errors.New("done")

// Run connects and then sends and prints until there is nothing more to do or
// ctx ends, which for a person is the way to leave and no error. That the first
// connection fails is an error; later ones are tried until one succeeds. The
// error wraps parley.ErrUnavailable when the server was not there or did not
// answer, parley.ErrUnauthenticated or ErrForbidden when it wants another
// credential, also later, and parley.ErrInvalid when the options or the input make no sense.
func Run(ctx context.Context, o Options) error {
	address, err := address(o.URL, o.User)
	if err != nil {
		return err
	}
	conn, err := dial(ctx, address, o.Credential)
	if err != nil {
		return err
	}
	s := &session{o: o, address: address, conn: conn, up: make(chan struct{}), news: make(chan struct{}, 1)}
	close(s.up)
	s.ledger.begin()
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { return s.listen(inner, conn) })
	group.Go(func() error { return s.speak(inner) })
	group.Go(func() error {
		<-inner.Done()
		s.hangUp()
		return nil
	})
	err = group.Wait()
	switch {
	case errors.Is(err, errDone):
		return s.verdict()
	case o.Interactive && !o.Exit && ctx.Err() != nil && errors.Is(err, context.Canceled):
		return nil
	}
	return err
}

// address is where a user connects. The server takes all that follows /user/ in
// the request for the user's name, so nothing in it is escaped.
func address(url, user string) (string, error) {
	odd := func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' || r == ',' }
	if strings.ContainsFunc(user, odd) {
		return "", fmt.Errorf("the user %q has a space, a comma, a # or a control character: %w", user, parley.ErrInvalid)
	}
	return strings.TrimSuffix(url, "/") + "/user/" + user, nil
}

// dial connects. No Origin is sent: this is no browser, and a server that is
// open to a network would have to admit it.
func dial(ctx context.Context, address, credential string) (*wire.WebSocket, error) {
	var header http.Header
	if credential != "" {
		header = http.Header{"Authorization": {"Bearer " + credential}}
	}
	conn, err := wire.Dial(ctx, address, header)
	if err == nil || errors.Is(err, parley.ErrInvalid) || ctx.Err() != nil {
		return conn, err
	}
	switch status, _ := errors.AsType[wire.StatusError](err); status {
	case http.StatusUnauthorized:
		return nil, fmt.Errorf("the server does not know who this is: %w", parley.ErrUnauthenticated)
	case http.StatusForbidden:
		return nil, fmt.Errorf("the server does not let this user in; the name must be that of the credential: %w", parley.ErrForbidden)
	}
	return nil, fmt.Errorf("%w: %w", parley.ErrUnavailable, err)
}

// session is a console at work, over one connection after another.
type session struct {
	o       Options
	address string
	news    chan struct{} // the server said something; capacity 1

	printing sync.Mutex // one writer of Out at a time

	mu sync.Mutex
	// mu guards the following fields.
	conn   *wire.WebSocket // nil between two connections
	up     chan struct{}   // closed while there is a conn
	ledger ledger
}

// transmit sends one command, on the next connection if there is none now. A
// command that a breaking connection took along is not repeated, because the
// server may have done it; the ledger knows that it had no answer.
func (s *session) transmit(ctx context.Context, command string) error {
	for {
		s.mu.Lock()
		conn, up := s.conn, s.up
		if conn != nil {
			s.ledger.sent(command) // before it is written: the answer may be faster
		}
		s.mu.Unlock()
		if conn != nil {
			if err := conn.Write(conn.AppendFrame(nil, false, []byte(command))); err != nil {
				_ = conn.Close(0, "") // so that listen sees it too
			}
			return nil
		}
		select {
		case <-up:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// hangUp says goodbye, and by that waits until the server has read everything.
func (s *session) hangUp() {
	s.mu.Lock()
	conn := s.conn
	s.mu.Unlock()
	if conn != nil {
		_ = conn.Close(wire.CloseNormal, "") // whatever it says, this is the end
	}
}

// settle waits until the ledger is well.
func (s *session) settle(ctx context.Context, well func(*ledger) bool) error {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		s.mu.Lock()
		done, waiting := well(&s.ledger), len(s.ledger.pending)
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-s.news:
			limit.Reset(patience)
		case <-limit.C:
			if !s.printing.TryLock() { // not the server is slow, but who reads what it says
				limit.Reset(patience)
				continue
			}
			s.printing.Unlock()
			return fmt.Errorf("no answer to %d commands within %v: %w", waiting, patience, parley.ErrUnavailable)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// verdict is an error when commands were lost on the way.
func (s *session) verdict() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ledger.lost > 0 {
		return fmt.Errorf("the connection broke before %d commands were answered, and nobody knows whether they were carried out: %w",
			s.ledger.lost, parley.ErrUnavailable)
	}
	return nil
}
