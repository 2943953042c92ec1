package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/parley-im/parley"
)

// call is a request that waits for its answer.
type call struct {
	id      uint64 // grows in the order of asking
	payload []byte
	// bound says that it belongs to one connection, and is answered with errLost
	// when that ends. Any other is repeated on the next one, which is safe: it
	// reads, or it is a publish or a send with an id.
	bound bool
	// answer is called at most once, by the reader, in the order in which
	// answers and events arrive, or under Client.mu when there will be none. It
	// does not block.
	answer func(response)
}

// response is how a call ended.
type response struct {
	result json.RawMessage
	err    error
}

// into decodes the result.
func (r response) into(result any) error {
	if r.err != nil {
		return r.err
	}
	if err := json.Unmarshal(r.result, result); err != nil {
		return fmt.Errorf("%w: %w", errGarbled, err)
	}
	return nil
}

// do asks the server and waits for the answer, across as many connections as it
// takes. A server that has too much to do is asked again.
func (c *Client) do(ctx context.Context, method string, params, result any) error {
	var p []byte
	if params != nil {
		var err error
		if p, err = encode(params); err != nil {
			return err
		}
	}
	pace, told := pacer{Backoff: c.options.Backoff}, false
	for {
		err := c.once(ctx, method, p, result)
		if !busy(err) {
			return err
		}
		wait := pace.next(err)
		if !told && (pace.attempt > toldAfter || wait >= toldWait) {
			told = true
			c.options.Logger.WarnContext(ctx, "the server refuses for now; trying on", "method", method, "err", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-c.closed:
			return c.over()
		}
	}
}

// The logger hears of a call after toldAfter refusals, or when the next attempt is
// toldWait away: a moment of too much load is nobody's concern, a full disk is,
// and so is a rate that is used up.
const (
	toldAfter = 3
	toldWait  = 2 * time.Second
)

// busy reports whether err is an answer that asks to try again soon.
func busy(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && errors.Is(e, parley.ErrUnavailable) && e.Reason != ReasonQuota
}

// once is one attempt of do.
func (c *Client) once(ctx context.Context, method string, params []byte, result any) error {
	answer := make(chan response, 1)
	id, err := c.ask(ctx, method, params, func(r response) { answer <- r })
	if err != nil {
		return err
	}
	select {
	case r := <-answer:
		if err := r.into(result); err != nil {
			return fmt.Errorf("client: %s: %w", method, err)
		}
		return nil
	case <-ctx.Done():
		return c.forget(ctx, id)
	case <-c.closed:
		return c.over()
	}
}

// ask registers a call and sends it if there is a connection; if not, it is
// sent on the next one.
func (c *Client) ask(ctx context.Context, method string, params []byte, answer func(response)) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.isClosed():
		return 0, c.overLocked()
	case ctx.Err() != nil:
		return 0, ctx.Err()
	}
	call := c.newCallLocked(method, params, answer)
	if err := c.fits(len(call.payload)); err != nil {
		delete(c.calls, call.id)
		return 0, err
	}
	if c.session != nil {
		c.session.send(call.payload)
	}
	return call.id, nil
}

func (c *Client) newCallLocked(method string, params []byte, answer func(response)) *call {
	c.lastID++
	call := &call{id: c.lastID, payload: request(c.lastID, method, params), answer: answer}
	c.calls[call.id] = call
	return call
}

// fits checks a request against the server's limit: one that is too long would
// cost the connection. The caller holds mu.
func (c *Client) fits(size int) error {
	if limit := c.limits.frameBytes; limit > 0 && size > limit {
		return fmt.Errorf("client: request of %d bytes is above the server's limit of %d: %w", size, limit, parley.ErrInvalid)
	}
	return nil
}

// forget stops waiting for a call because ctx has ended, and says so.
func (c *Client) forget(ctx context.Context, id uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, id)
	if c.cause != nil {
		return fmt.Errorf("%w while not connected: %w", ctx.Err(), c.cause)
	}
	return ctx.Err()
}

// answer hands a response to the call that waits for it, if one still does.
func (c *Client) answer(id uint64, r response) {
	c.mu.Lock()
	call := c.calls[id]
	delete(c.calls, id)
	c.mu.Unlock()
	if call != nil {
		call.answer(r)
	}
}

// answerLocked ends a call of its caller's.
func (c *Client) answerLocked(call *call, r response) {
	delete(c.calls, call.id)
	call.answer(r)
}

// ping asks for a sign of life; that it arrives is all that matters.
func (c *Client) ping(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	call := c.newCallLocked("ping", nil, func(response) {})
	call.bound = true
	s.send(call.payload)
}

// request writes a JSON-RPC request.
func request(id uint64, method string, params []byte) []byte {
	p := make([]byte, 0, len(params)+len(method)+64)
	p = append(p, `{"jsonrpc":"2.0","id":`...)
	p = strconv.AppendUint(p, id, 10)
	return appendMethod(p, method, params)
}

// notification writes a JSON-RPC request that is not answered.
func notification(method string, params []byte) []byte {
	return appendMethod([]byte(`{"jsonrpc":"2.0"`), method, params)
}

func appendMethod(p []byte, method string, params []byte) []byte {
	p = append(append(append(p, `,"method":"`...), method...), '"')
	if params != nil {
		p = append(append(p, `,"params":`...), params...)
	}
	return append(p, '}')
}

// event is anything that the server says: an answer, which has an ID, or an
// event, which has a method. Events are most of it and so are read in one pass.
type event struct {
	ID     *uint64         `json:"id"`
	Method string          `json:"method"`
	Params eventParams     `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *wireError      `json:"error"`
}

// eventParams are the parameters of all events in one.
type eventParams struct {
	// Of a subscription's events.
	Sub      uint64     `json:"sub"`
	Also     []uint64   `json:"also"`
	Attempts []int      `json:"attempts"`
	Seq      parley.Seq `json:"seq"`
	Unread   int        `json:"unread"`
	Messages []incoming `json:"messages"`
	Cursor   parley.Seq `json:"cursor"`
	From     parley.Seq `json:"from"`
	To       parley.Seq `json:"to"`
	Error    *wireError `json:"error"`
	// Of bye.
	Code    string `json:"code"`
	Reason  string `json:"reason"`
	RetryMS int64  `json:"retry_ms"`
}

type wireError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    struct {
		Kind    string `json:"kind"`
		Code    string `json:"code"`
		RetryMS int64  `json:"retry_ms"`
	} `json:"data"`
}

func parse(payload []byte) (*event, error) {
	e := new(event)
	if err := json.Unmarshal(payload, e); err != nil {
		return nil, errors.Join(errGarbled, err)
	}
	return e, nil
}

func (e *event) response() response {
	return response{e.Result, e.Error.err()}
}

// err is what the server says is wrong, or nil.
func (e *wireError) err() error {
	if e == nil {
		return nil
	}
	return &Error{Code: e.Code, Kind: e.Data.Kind, Reason: e.Data.Code, Message: e.Message, After: time.Duration(e.Data.RetryMS) * time.Millisecond}
}

func (p *eventParams) bye() *byeError {
	return &byeError{code: p.Code, reason: p.Reason, retry: time.Duration(p.RetryMS) * time.Millisecond}
}
