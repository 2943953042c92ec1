package bench

import (
	"bytes"
	"context"
	"strconv"
	"time"
)

// sender opens publisher i, which sends to receiver i.
func (l *load) sender(ctx context.Context, i int) (*publisher, error) {
	to, unique, pad := l.cfg.user("r", i), unique(), l.cfg.pad(stampBytes)
	return l.correspondent(ctx, i, func(b []byte, n, due int64) []byte {
		b = append(append(b, `{"to":"`...), to...)
		b = append(append(b, `","id":"`...), unique...)
		b = strconv.AppendInt(b, n, 10)
		b = appendStamp(append(b, `","text":"`...), due)
		return append(append(b, pad...), `"}`...)
	})
}

// correspondent opens publisher i, which sends letters: so many to a request as are
// due, up to Batch.
func (l *load) correspondent(ctx context.Context, i int, letter func(dst []byte, n, due int64) []byte) (*publisher, error) {
	auth, err := l.cfg.Signer.authRequest(l.cfg.user("s", i))
	if err != nil {
		return nil, err
	}
	conn, err := l.dialUser(ctx, auth)
	if err != nil {
		return nil, err
	}
	p := newPublisher(&l.cfg, conn, &l.totals)
	w := &writer{most: l.cfg.Batch, tail: "}", letter: letter}
	if w.most > 1 {
		w.head, w.tail = `{"messages":[`, `]}}`
	}
	p.write, p.finish = w.write, w.finish
	p.read = func(frame []byte) (int64, error) {
		if bytes.HasPrefix(frame, []byte(`{"jsonrpc":"2.0","method":`)) {
			return 0, nil
		}
		count, _ := number(frame, `"id":"`, 0)
		if err := failed(frame); err != nil {
			p.refuse(int64(count), []byte(err.Error()))
		} else if n := bytes.Count(frame, []byte(`{"error":`)); n > 0 {
			p.refuse(int64(n), frame)
		}
		return int64(count), nil
	}
	return p, nil
}

// unique begins the ids of one load's letters.
func unique() string { return strconv.FormatInt(time.Now().UnixMicro(), 36) + "-" }

// writer makes requests of letters.
type writer struct {
	letter     func(dst []byte, n, due int64) []byte // appends letter n
	head, tail string                                // around the letters, in params
	most       int                                   // letters of a request

	n    int64  // letters so far
	open []byte // the letters of a request that is not complete
	held int    // how many these are
}

// write takes one letter, and appends a request when it is complete.
func (w *writer) write(dst []byte, due int64) []byte {
	if w.held > 0 {
		w.open = append(w.open, ',')
	}
	w.n++
	w.held++
	w.open = w.letter(w.open, w.n, due)
	if w.held < w.most {
		return dst
	}
	return w.finish(dst)
}

// finish appends the request with the letters so far, if there are any. Its id
// begins with their number.
func (w *writer) finish(dst []byte) []byte {
	if w.held == 0 {
		return dst
	}
	dst = append(dst, `{"jsonrpc":"2.0","id":"`...)
	dst = strconv.AppendInt(dst, int64(w.held), 10)
	dst = append(dst, '/')
	dst = strconv.AppendInt(dst, w.n, 10)
	dst = append(dst, `","method":"msg.send","params":`...)
	dst = append(append(append(dst, w.head...), w.open...), w.tail...)
	w.open, w.held = w.open[:0], 0
	return dst
}
