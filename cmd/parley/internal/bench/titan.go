package bench

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/wire"
)

// numberBytes is the length of a letter's number, in decimal with leading zeros:
// Titan's deliveries have none of their own, and their ids cannot be compared.
const numberBytes = 10

// titanSender is sender by the Titan protocol.
func (l *load) titanSender(ctx context.Context, i int) (*publisher, error) {
	conn, err := l.dialTitan(ctx, l.cfg.user("s", i))
	if err != nil {
		return nil, err
	}
	p := newPublisher(&l.cfg, conn, &l.totals)
	to, pad := l.cfg.user("r", i), l.cfg.pad(stampBytes+numberBytes)
	w := &writer{most: l.cfg.Batch, head: "[", tail: "]}", letter: func(b []byte, n, due int64) []byte {
		b = append(append(b, `{"to":"`...), to...)
		b = appendStamp(append(b, `","message":"`...), due)
		return append(append(appendStamp(b, n), pad...), `"}`...)
	}}
	p.write, p.finish = w.write, w.finish
	p.read = func(frame []byte) (int64, error) {
		if id, _ := titanDelivery(frame); id != nil {
			return 0, nil
		}
		count, _ := number(frame, `{"id":"`, 0)
		if err := titanFailed(frame); err != nil {
			p.refuse(int64(count), []byte(err.Error()))
		}
		return int64(count), nil
	}
	return p, nil
}

// dialTitan opens a connection of a user, which ctx closes when it ends.
func (l *load) dialTitan(ctx context.Context, user string) (wire.Conn, error) {
	token, err := l.cfg.Signer.token(user)
	if err != nil {
		return nil, err
	}
	return l.dialAs(ctx, "/", func(conn wire.Conn) error {
		const id = `"auth"`
		return titanAsk(conn, `{"id":`+id+`,"method":"auth.jwt","params":{"token":"`+token+`"}}`, id, func([]byte) error { return nil })
	})
}

// titanAsk makes a request, calls fn with every other frame, and waits for the
// answer to the id.
func titanAsk(conn wire.Conn, request, id string, fn func([]byte) error) error {
	if err := conn.Write(conn.AppendFrame(nil, true, []byte(request))); err != nil {
		return err
	}
	answer := []byte(`{"id":` + id + `,`)
	for answered := false; !answered; {
		frames, err := conn.Read()
		if err != nil {
			return err
		}
		for _, f := range frames {
			if bytes.HasPrefix(f.Payload, answer) {
				answered, err = true, titanFailed(f.Payload)
			} else {
				err = fn(f.Payload)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// titanFailed is the error that an answer tells, if it is one.
func titanFailed(frame []byte) error {
	if i := bytes.Index(frame, []byte(`,"error":{`)); i >= 0 {
		return fmt.Errorf("the server says %.300s: %w", frame[i+1:], parley.ErrUnavailable)
	}
	return nil
}

// titanDelivery is the id and the text of a frame that delivers something; nil
// for any other. The texts of a load need no escaping.
func titanDelivery(frame []byte) (id, text []byte) {
	rest, ok := bytes.CutPrefix(frame, []byte(`{"id":"`))
	id, rest, _ = bytes.Cut(rest, []byte{'"'})
	if !ok || !bytes.HasPrefix(rest, []byte(`,"method":"msg.recv"`)) {
		return nil, nil
	}
	_, rest, _ = bytes.Cut(rest, []byte(`"message":"`))
	text, _, _ = bytes.Cut(rest, []byte{'"'})
	return id, text
}

// titanReader is what a receiver by the Titan protocol does with frames. The
// protocol does not confirm acknowledgements, but the server takes what a client
// says in order: a ping behind them is answered when they are in.
type titanReader struct {
	*receiver

	pings bool // one is not answered
}

// titanReceiver opens the inbox of user i.
func (l *load) titanReceiver(ctx context.Context, i int) (*receiver, error) {
	conn, err := l.dialTitan(ctx, l.cfg.user("r", i))
	if err != nil {
		return nil, err
	}
	r := titanReader{receiver: &receiver{conn: conn, totals: &l.totals}}
	r.want.Store(-1)
	r.frame = r.take
	// What is left of earlier loads comes first, and is not counted.
	return r.receiver, r.mark(l.cfg.user("r", i), func(id []byte) error {
		r.answer(id)
		return r.flush()
	})
}

// mark sends the user a letter from themselves and waits until it has come; what
// comes before it goes to fn.
func (r *titanReader) mark(user string, fn func(id []byte) error) error {
	mark := "mark " + unique()
	marked := false
	take := func(frame []byte) error {
		switch id, text := titanDelivery(frame); {
		case id == nil:
			return titanFailed(frame)
		case string(text) == mark:
			marked = true
			r.answer(id)
			return r.flush()
		default:
			return fn(id)
		}
	}
	err := titanAsk(r.conn, `{"id":"mark","method":"msg.send","params":[{"to":"`+user+`","message":"`+mark+`"}]}`, `"mark"`, take)
	for err == nil && !marked {
		var frames []wire.Frame
		frames, err = r.conn.Read()
		for _, f := range frames {
			if err == nil {
				err = take(f.Payload)
			}
		}
	}
	if err != nil {
		return err
	}
	return titanAsk(r.conn, `{"id":"marked","method":"ping"}`, `"marked"`, take)
}

// answer appends the acknowledgement of a delivery.
func (r *titanReader) answer(id []byte) {
	b := append(append([]byte(`{"id":"`), id...), `","result":"ACK"}`...)
	r.out = r.conn.AppendFrame(r.out, true, b)
}

// ping appends one with the number of letters so far, of which the answer says
// that they are acknowledged.
func (r *titanReader) ping() {
	r.pings = true
	b := strconv.AppendInt([]byte(`{"id":`), r.got, 10)
	r.out = r.conn.AppendFrame(r.out, true, append(b, `,"method":"ping"}`...))
}

// take looks at one frame and acknowledges what it delivers.
func (r *titanReader) take(frame []byte, now int64) error {
	id, text := titanDelivery(frame)
	if id == nil {
		if err := titanFailed(frame); err != nil {
			return err
		}
		if n, end := number(frame, `{"id":`, 0); end > len(`{"id":`) {
			r.pings = false
			if r.acked.Store(int64(n)); r.got > int64(n) {
				r.ping()
			}
		}
		return nil
	}
	due, ok := stamp(text)
	n, numbered := stamp(text[min(stampBytes, len(text)):])
	switch {
	case !ok || !numbered || n > r.got+1:
		return fmt.Errorf("the server sent %.200q after letter %d", frame, r.got)
	case n <= r.got:
		r.again++
	default:
		r.got = n
		r.latency.add(now - due)
	}
	if r.answer(id); !r.pings {
		r.ping()
	}
	return nil
}

// titanSettled connects as receiver i again: what the server does not hold for
// acknowledged would be delivered to this connection too, before anything newer.
func (l *load) titanSettled(ctx context.Context, i int) error {
	user := l.cfg.user("r", i)
	conn, err := l.dialTitan(ctx, user)
	if err != nil {
		return err
	}
	r := titanReader{receiver: &receiver{conn: conn}}
	if err := r.mark(user, func(id []byte) error {
		return fmt.Errorf("the server delivered %s to %s again, which was acknowledged", id, user)
	}); err != nil {
		return err
	}
	return conn.Close(wire.CloseNormal, "")
}
