package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/wire"
)

const (
	// connectTimeout bounds one attempt to connect, introduction included.
	connectTimeout = 10 * time.Second
	// defaultQuiet is how long the server may be silent before it is asked for
	// a sign of life, unless it said when it expects one from us.
	defaultQuiet = 20 * time.Second
	// keepBytes is the largest write buffer that is kept for the next write.
	keepBytes = 64 << 10
)

var (
	errSilent  = errors.New("the server gives no sign of life")
	errGarbled = errors.New("the server does not speak the protocol")
)

// limits is what the server said about itself in its hello.
type limits struct {
	frameBytes    int
	batchMessages int
	quiet         time.Duration
}

// session is one connection, from its hello to its end.
type session struct {
	conn   wire.Conn
	limits limits
	heard  atomic.Bool // something arrived since watch last looked

	// subs are the subscriptions that the server serves, by its numbers.
	// Guarded by Client.mu.
	subs map[uint64]*subscription

	wake  chan struct{} // there is something to write
	mu    sync.Mutex    // guards what follows
	out   []byte        // frames to write
	cause error         // the first reason to end
	who   WhoAmI        // as last told

	skew time.Duration // how far this clock is ahead of the server's
}

func newSession(conn wire.Conn) *session {
	return &session{conn: conn, subs: make(map[uint64]*subscription), wake: make(chan struct{}, 1)}
}

// send queues one request. It never blocks: what is queued is bounded by the
// goroutines that wait for answers.
func (s *session) send(payload []byte) {
	s.mu.Lock()
	s.out = s.conn.AppendFrame(s.out, true, payload)
	s.mu.Unlock()
	signal(s.wake)
}

// end closes the connection because of err.
func (s *session) end(code uint16, err error) {
	s.blame(err)
	_ = s.conn.Close(code, "") // whatever it says, the session is over
}

// blame remembers why the session ends, if nothing else was known yet.
func (s *session) blame(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause == nil {
		s.cause = err
	}
}

// reason is what was blamed first.
func (s *session) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

// write writes what is queued, all that is there in one go, until ctx ends.
func (s *session) write(ctx context.Context) {
	var spare []byte
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		s.mu.Lock()
		p := s.out
		s.out = spare[:0]
		s.mu.Unlock()
		if err := s.conn.Write(p); err != nil {
			s.end(wire.CloseGoingAway, err)
			return
		}
		spare = nil
		if cap(p) <= keepBytes {
			spare = p
		}
	}
}

// watch closes the connection when ctx ends, or when the server has been silent
// for two periods in spite of a ping.
func (s *session) watch(ctx context.Context, ping func()) {
	tick := time.NewTicker(s.limits.quiet)
	defer tick.Stop()
	for asked := false; ; {
		select {
		case <-ctx.Done():
			s.end(wire.CloseNormal, ErrClosed)
			return
		case <-tick.C:
		}
		switch {
		case s.heard.Swap(false):
			asked = false
		case asked:
			s.end(wire.CloseGoingAway, errSilent)
			return
		default:
			ping()
			asked = true
		}
	}
}

// connect opens a connection and introduces the client on it.
func (c *Client) connect(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := c.dial(ctx, c.url, c.options.Header)
	if err != nil {
		return nil, unreachable(err)
	}
	release := closeOn(ctx, conn)
	s, err := c.greet(ctx, conn)
	release()
	if err == nil {
		return s, nil
	}
	_ = conn.Close(wire.CloseGoingAway, "") // it is of no use, however it ends
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return nil, unreachable(err)
}

// unreachable says why there is no session, and of which kind that is: what the
// server says, or else one that is worth another try.
func unreachable(err error) error {
	if known(err) {
		return fmt.Errorf("client: connect: %w", err)
	}
	kind := parley.ErrUnavailable
	if status, ok := errors.AsType[wire.StatusError](err); ok {
		kind = statusKind(int(status))
	}
	return fmt.Errorf("client: connect: %w: %w", err, kind)
}

// known reports whether err says itself of which kind it is.
func known(err error) bool {
	if _, ok := errors.AsType[*Error](err); ok {
		return true
	}
	for _, kind := range []error{parley.ErrInvalid, parley.ErrUnauthenticated, parley.ErrForbidden, parley.ErrUnavailable} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// statusKind is what an HTTP status means for whoever dials.
func statusKind(status int) error {
	switch status {
	case http.StatusUnauthorized:
		return parley.ErrUnauthenticated
	case http.StatusForbidden:
		return parley.ErrForbidden
	case http.StatusNotFound:
		return parley.ErrNotFound
	default:
		return parley.ErrUnavailable
	}
}

// closeOn closes conn when ctx ends before release is called. After release it
// is known whether it did.
func closeOn(ctx context.Context, conn wire.Conn) (release func()) {
	done := make(chan struct{})
	var task sync.WaitGroup
	task.Go(func() {
		select {
		case <-ctx.Done():
			_ = conn.Close(wire.CloseGoingAway, "") // unblocks who reads
		case <-done:
		}
	})
	return func() {
		close(done)
		task.Wait()
	}
}

// greet says hello, shows the credential, and reads the answers, which come
// before anything else.
func (c *Client) greet(ctx context.Context, conn wire.Conn) (*session, error) {
	hello := helloParams{Version: 1, Client: c.options.Name, Producer: c.options.Producer}
	params, err := encode(hello)
	if err != nil {
		return nil, err
	}
	out := conn.AppendFrame(nil, true, request(0, "hello", params))
	shown, err := c.options.credential(ctx)
	if err != nil {
		return nil, err
	}
	g := greeting{s: newSession(conn), answers: 1}
	if shown != nil {
		g.answers++
		out = conn.AppendFrame(out, true, request(authID, "auth", shown))
	}
	if err := conn.Write(out); err != nil {
		return nil, err
	}
	for g.answers > 0 {
		frames, err := conn.Read()
		if err != nil {
			return nil, err
		}
		for _, f := range frames {
			if g.answers == 0 {
				err = c.receive(g.s, f.Payload)
			} else {
				err = g.receive(f.Payload)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	return g.s, nil
}

// greeting is a session that has just begun.
type greeting struct {
	s       *session
	answers int // that are due
}

func (g *greeting) receive(payload []byte) error {
	e, err := parse(payload)
	switch {
	case err != nil:
		return err
	case e.Method == "bye":
		return e.Params.bye()
	case e.ID == nil && e.Method == "":
		return errGarbled
	case e.ID == nil:
		return nil // an event that is nobody's
	}
	g.answers--
	if *e.ID == authID {
		var login authResult
		if err := e.response().into(&login); err != nil {
			return err
		}
		g.s.authenticated(&login)
		return nil
	}
	var welcome helloResult
	if err := e.response().into(&welcome); err != nil {
		return err
	}
	g.s.limits = welcome.limits()
	if g.s.who.User == "" {
		g.s.authenticated(&authResult{User: welcome.User, Device: welcome.Device})
	}
	if !welcome.Time.IsZero() {
		g.s.skew = time.Since(welcome.Time)
	}
	return nil
}

type helloParams struct {
	Version  int    `json:"version"`
	Client   string `json:"client,omitempty"`
	Producer string `json:"producer"`
}

type helloResult struct {
	Time   time.Time `json:"time"`
	User   string    `json:"user"`
	Device string    `json:"device"`
	Limits struct {
		BatchMessages int `json:"batch_messages"`
		FrameBytes    int `json:"frame_bytes"`
	} `json:"limits"`
	Promises struct {
		IdleSeconds int `json:"idle_seconds"`
	} `json:"promises"`
}

// limits keeps what the client acts on. A third of the server's patience leaves
// time for a ping that is lost.
func (r *helloResult) limits() limits {
	l := limits{frameBytes: r.Limits.FrameBytes, batchMessages: r.Limits.BatchMessages, quiet: defaultQuiet}
	if third := time.Duration(min(r.Promises.IdleSeconds, 24*60*60)) * time.Second / 3; third > 0 {
		l.quiet = min(l.quiet, third)
	}
	return l
}

// signal wakes whoever waits on c, a channel of capacity 1.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
