package console

import (
	"context"
	"errors"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/wire"
)

// How long to wait before connecting again: the first time, and at most.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// listen prints what the server says, over one connection after another.
func (s *session) listen(ctx context.Context, conn *wire.WebSocket) error {
	for {
		err := s.follow(ctx, conn)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		if conn, err = s.reconnect(ctx); err != nil {
			return err
		}
	}
}

// follow prints what comes until the connection ends. The error is one of
// printing.
func (s *session) follow(ctx context.Context, conn *wire.WebSocket) error {
	var text []byte
	for {
		frames, err := conn.Read()
		if err != nil {
			if ctx.Err() == nil {
				s.o.Logger.ErrorContext(ctx, "the connection broke", "error", err, "unanswered", s.broke())
			}
			_ = conn.Close(0, "") // it is broken already
			return nil
		}
		text = text[:0]
		for _, f := range frames {
			text = s.o.render(text, f.Payload)
		}
		if !s.o.Exit {
			if err := s.print(text); err != nil {
				return err
			}
		}
		s.book(frames)
	}
}

// print writes to Out.
func (s *session) print(text []byte) error {
	s.printing.Lock()
	defer s.printing.Unlock()
	_, err := s.o.Out.Write(text)
	return err
}

// book tells the ledger of frames, after they have been printed.
func (s *session) book(frames []wire.Frame) {
	s.mu.Lock()
	for _, f := range frames {
		s.ledger.received(string(f.Payload))
	}
	s.mu.Unlock()
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// broke notes that there is no connection, and returns how many commands will
// have no answer.
func (s *session) broke() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn, s.up = nil, make(chan struct{})
	return s.ledger.broke()
}

// reconnect tries until there is a connection again, with the subscriptions of
// the one before.
func (s *session) reconnect(ctx context.Context) (*wire.WebSocket, error) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		conn, err := dial(ctx, s.address, s.o.Credential)
		switch {
		case errors.Is(err, parley.ErrUnauthenticated), errors.Is(err, parley.ErrForbidden):
			return nil, err // trying again will not help
		case err != nil:
			s.o.Logger.DebugContext(ctx, "cannot connect", "error", err)
			continue
		}
		s.o.Logger.InfoContext(ctx, "connected again")
		s.attach(conn)
		if ctx.Err() != nil {
			s.hangUp()
		}
		return conn, nil
	}
}

// attach restores the subscriptions and then lets the speaker at conn. What
// cannot be written will not be read either, so listen will see it.
func (s *session) attach(conn *wire.WebSocket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var bytes []byte
	for _, command := range s.ledger.begin() {
		bytes = conn.AppendFrame(bytes, false, []byte(command))
	}
	if conn.Write(bytes) != nil {
		_ = conn.Close(0, "")
	}
	s.conn = conn
	close(s.up)
}
