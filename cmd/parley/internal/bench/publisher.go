package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parley-im/parley/internal/wire"
)

// writeBytes is how much a publisher collects before it writes.
const writeBytes = 32 << 10

// ackTimeout is how long the last acknowledgements may take.
const ackTimeout = 30 * time.Second

var errUnacked = errors.New("the server did not acknowledge every message in time")

// publisher sends on one connection in one goroutine and reads what comes back
// in another.
type publisher struct {
	cfg     *Config
	clock   clock
	conn    wire.Conn
	limit   int64      // how many messages at most; 0 is any number
	topics  func() int // chooses the next message's topic
	totals  *totals
	byTopic []int64 // messages by topic; nil when nobody needs them

	// due is when each unacknowledged message was due, by its number modulo
	// the window. The sender writes an entry before it raises sent, the reader
	// loads sent before it reads one.
	due         []int64
	sent, acked atomic.Int64
	freed       chan struct{} // rung when acked, or taken, has grown

	// How many messages those who are meant have taken, which it is at most ahead of;
	// nil when it does not wait for them.
	taken func() int64

	latency histogram // the reader's
	refused int64     // the reader's: answered with an error
	reason  []byte    // the reader's: the first such error

	buf, scratch, pad []byte // the sender's

	// Of another protocol than Gobbler's; otherwise nil: write takes a message and
	// appends a request, unless it waits for more of them until finish; read says
	// how many a frame answers.
	write  func(dst []byte, due int64) []byte
	finish func(dst []byte) []byte
	read   func(frame []byte) (int64, error)
}

func newPublisher(cfg *Config, conn wire.Conn, totals *totals) *publisher {
	return &publisher{
		cfg: cfg, conn: conn, totals: totals,
		due: make([]int64, cfg.Window), freed: make(chan struct{}, 1),
		pad: cfg.pad(stampBytes),
	}
}

// pick chooses topics for publisher i: at random, or round all of them,
// beginning at a place of its own.
func (c *Config) pick(i int) func() int {
	if c.Random {
		r := rand.New(rand.NewPCG(uint64(i), 0)) //nolint:gosec // spreads a load
		return func() int { return r.IntN(c.Topics) }
	}
	next := i*(c.Topics/c.Publishers) + i
	return func() int {
		next++
		return (next - 1) % c.Topics
	}
}

// run sends, reads and closes the connection.
func (p *publisher) run(ctx context.Context) error {
	var done atomic.Bool
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := p.receive(); !done.Load() {
			return err
		}
		return nil
	})
	g.Go(func() error {
		err := p.send(ctx)
		done.Store(true)
		_ = p.conn.Close(1000, "")
		return err
	})
	return g.Wait()
}

// send publishes until the load is over, and returns when everything is
// acknowledged.
func (p *publisher) send(ctx context.Context) error {
	pace := newPace(p.cfg)
	for n := int64(0); ; n++ {
		due, ok := pace.due(n, p.clock.now())
		if !ok || p.limit > 0 && n == p.limit {
			break
		}
		if wait := due - p.clock.now(); wait > 200 {
			if err := p.pause(ctx, time.Duration(wait)*time.Microsecond); err != nil {
				return err
			}
		}
		if err := p.reserve(ctx, n); err != nil {
			return err
		}
		p.due[n%int64(len(p.due))] = due
		p.append(due)
		p.sent.Store(n + 1)
		if len(p.buf) >= writeBytes {
			if err := p.flush(); err != nil {
				return err
			}
		}
	}
	if err := p.flush(); err != nil {
		return err
	}
	return p.drain(ctx)
}

// append puts one message into the buffer.
func (p *publisher) append(due int64) {
	if p.write != nil {
		p.request(p.write(p.scratch[:0], due))
		return
	}
	topic := p.topics()
	if p.byTopic != nil {
		p.byTopic[topic]++
	}
	b := append(p.scratch[:0], "> "...)
	b = append(b, p.cfg.Prefix...)
	b = strconv.AppendInt(b, int64(topic), 10)
	b = append(b, "\n\n"...)
	b = appendStamp(b, due)
	p.scratch = append(b, p.pad...)
	p.buf = p.conn.AppendFrame(p.buf, false, p.scratch)
}

// request puts one into the buffer, if there is one.
func (p *publisher) request(frame []byte) {
	if p.scratch = frame; len(frame) > 0 {
		p.buf = p.conn.AppendFrame(p.buf, true, frame)
	}
}

// ahead is how many windows a publisher is ahead of those who take its messages:
// inboxes are bounded.
const ahead = 16

// reserve waits until message n fits the window.
func (p *publisher) reserve(ctx context.Context, n int64) error {
	for n-p.acked.Load() >= int64(len(p.due)) || p.taken != nil && n-p.taken() >= ahead*int64(len(p.due)) {
		if err := p.flush(); err != nil {
			return err
		}
		select {
		case <-p.freed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// pause writes what there is and sleeps.
func (p *publisher) pause(ctx context.Context, d time.Duration) error {
	if err := p.flush(); err != nil {
		return err
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *publisher) flush() error {
	if p.finish != nil {
		p.request(p.finish(p.scratch[:0]))
	}
	if len(p.buf) == 0 {
		return nil
	}
	err := p.conn.Write(p.buf)
	p.buf = p.buf[:0]
	return err
}

// drain waits for the last acknowledgements.
func (p *publisher) drain(ctx context.Context) error {
	late := time.NewTimer(ackTimeout)
	defer late.Stop()
	for p.acked.Load() < p.sent.Load() {
		select {
		case <-p.freed:
		case <-late.C:
			return errUnacked
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// receive counts acknowledgements until the connection closes.
func (p *publisher) receive() error {
	for {
		frames, err := p.conn.Read()
		if err != nil {
			return err
		}
		now, acked := p.clock.now(), p.acked.Load()
		before := acked
		for _, f := range frames {
			n, err := p.answer(f.Payload)
			if err != nil {
				return err
			}
			if acked+n > p.sent.Load() {
				return errors.New("the server acknowledged more than was sent")
			}
			for ; n > 0; n-- {
				p.latency.add(now - p.due[acked%int64(len(p.due))])
				acked++
			}
		}
		p.totals.published.Add(acked - before)
		p.acked.Store(acked)
		p.ring()
	}
}

// ring has the sender look whether there is room.
func (p *publisher) ring() {
	select {
	case p.freed <- struct{}{}:
	default:
	}
}

// refuse counts messages that were answered with an error.
func (p *publisher) refuse(n int64, reason []byte) {
	p.refused += n
	if p.reason == nil {
		p.reason = bytes.Clone(reason)
	}
}

// answer is how many messages a frame answers.
func (p *publisher) answer(frame []byte) (int64, error) {
	if p.read != nil {
		return p.read(frame)
	}
	switch {
	case bytes.HasPrefix(frame, []byte("#send")):
		return 1, nil
	case bytes.HasPrefix(frame, []byte("!error-send")):
		p.refuse(1, firstLine(frame))
		return 1, nil
	case len(frame) > 0 && frame[0] == '!':
		return 0, fmt.Errorf("the server says %q", firstLine(frame))
	}
	return 0, nil
}

// firstLine is a frame without its JSON.
func firstLine(frame []byte) []byte {
	line, _, _ := bytes.Cut(frame, []byte{'\n'})
	return line
}
