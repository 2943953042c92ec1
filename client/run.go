package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/wire"
)

// run keeps the client connected, beginning with s, until ctx ends.
func (c *Client) run(ctx context.Context, s *session) {
	pace := pacer{Backoff: c.options.Backoff}
	for s != nil {
		began := time.Now()
		err := c.converse(ctx, s)
		c.abandon(err)
		if replaced(err) {
			c.leave(err)
			return
		}
		if time.Since(began) > pace.Max {
			pace.reset()
		}
		s = c.reconnect(ctx, &pace, err)
	}
}

// reconnect tries until it has a session and has adopted it. It returns nil
// when ctx ends.
func (c *Client) reconnect(ctx context.Context, pace *pacer, err error) *session {
	for ctx.Err() == nil {
		wait := pace.next(err)
		c.options.Logger.WarnContext(ctx, "no connection", "err", err, "retry_in", wait)
		if !sleep(ctx, wait) {
			return nil
		}
		var s *session
		if s, err = c.connect(ctx); err == nil {
			c.options.Logger.InfoContext(ctx, "connected again")
			c.adopt(s)
			return s
		}
		c.mu.Lock()
		c.cause = err
		if refused(err) {
			c.refuseLocked(err)
		}
		c.mu.Unlock()
	}
	return nil
}

// refuseLocked ends everything that waits for a connection, because the server
// does not accept what the client shows.
func (c *Client) refuseLocked(err error) {
	for _, call := range c.calls {
		c.answerLocked(call, response{err: err})
	}
	for sub := range c.subs {
		if sub.state == waiting {
			sub.finish(err)
		}
	}
}

// leave closes the client for good, because of err: to come back would only
// drive the other one away.
func (c *Client) leave(err error) {
	c.mu.Lock()
	c.gone = fmt.Errorf("%w: %w", err, parley.ErrConflict)
	c.mu.Unlock()
	c.options.Logger.Warn("another client has taken the place of this device", "err", err)
	c.stop()
}

// converse serves s until it ends and says why it did.
func (c *Client) converse(ctx context.Context, s *session) error {
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	tasks.Go(func() { s.write(ctx) })
	tasks.Go(func() { s.watch(ctx, func() { c.ping(s) }) })
	tasks.Go(func() { c.refresh(ctx, s) })
	s.blame(c.listen(s))
	cancel()
	tasks.Wait()
	return lost(s.reason())
}

// listen reads until the connection ends.
func (c *Client) listen(s *session) error {
	for {
		frames, err := s.conn.Read()
		if err != nil {
			return err
		}
		s.heard.Store(true)
		for _, f := range frames {
			if err := c.receive(s, f.Payload); err != nil {
				return err
			}
		}
	}
}

// receive acts on one thing that the server says.
func (c *Client) receive(s *session, payload []byte) error {
	e, err := parse(payload)
	switch {
	case err != nil:
		return err
	case e.Method == "bye":
		s.blame(e.Params.bye())
	case e.Method != "":
		c.deliver(s, e)
	case e.ID != nil:
		c.answer(*e.ID, e.response())
	default:
		return errors.Join(errGarbled, e.response().err)
	}
	return nil
}

// adopt makes s the client's session: it repeats what has not been answered, in
// the order in which it was first asked, and subscribes again.
func (c *Client) adopt(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session, c.limits, c.cause = s, s.limits, nil
	for _, call := range slices.SortedFunc(maps.Values(c.calls), (*call).compare) {
		if err := c.fits(len(call.payload)); err != nil {
			c.answerLocked(call, response{err: err})
			continue
		}
		s.send(call.payload)
	}
	for sub := range c.subs {
		if sub.state == waiting {
			c.askLocked(sub)
		}
	}
}

// abandon takes note that the session has ended because of err.
func (c *Client) abandon(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session, c.cause = nil, err
	for _, call := range c.calls {
		switch {
		case call.bound:
			c.answerLocked(call, response{err: errLost})
		case fault(err):
			c.answerLocked(call, response{err: err})
		}
	}
	for sub := range c.subs {
		if sub.state == asked || sub.state == active {
			sub.state = waiting
		}
	}
}

// lost says that a connection ended because of err, and whether that is worth
// another try.
func lost(err error) error {
	kind := parley.ErrUnavailable
	if fault(err) {
		kind = parley.ErrInvalid
	}
	return fmt.Errorf("client: connection lost: %w: %w", err, kind)
}

// fault reports whether the server ended the session because of what it was
// sent. Repeating that would end the next session too, for ever.
func fault(err error) bool {
	if bye, ok := errors.AsType[*byeError](err); ok {
		return slices.Contains([]string{"protocol", "too_big", "unacceptable"}, bye.code)
	}
	if _, ok := errors.AsType[*Error](err); ok { // a request that it could not even read
		return true
	}
	closed, ok := errors.AsType[*wire.CloseError](err)
	blames := []uint16{wire.CloseProtocol, wire.CloseInvalidText, wire.CloseTooBig}
	return ok && slices.Contains(blames, closed.Code)
}

func (c *call) compare(d *call) int { return cmp.Compare(c.id, d.id) }
