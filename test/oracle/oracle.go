// Package oracle knows whether a log kept its promises. A [Ledger] records what
// publishers and readers were told; each checker compares that with what a log
// holds in the end and names the promise that was broken:
//
//   - [Lost]: an acknowledged message is gone, or changed;
//   - [Order]: seqs do not grow, or a reader saw another order;
//   - [Unstable]: what somebody was shown is not what is stored at that place,
//     as when a message is delivered before it is durable and a crash takes it;
//   - [Broken]: a reader's trace has a gap, a repetition or a stranger;
//   - [Repeated]: an idempotent publish is stored twice, or has two seqs.
//
// Each returns nil or an error that lists the first few faults.
package oracle

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/parley-im/parley"
)

// Sum stands for a message's content.
type Sum [sha256.Size]byte

// SumOf is the sum of what a reader gets to see of a message's content.
func SumOf(topic parley.Topic, header string, body []byte) Sum {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(topic), []byte(header), body} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		h.Write(part)
	}
	return Sum(h.Sum(nil))
}

// Message is one message as somebody saw it.
type Message struct {
	Stream parley.Stream
	// Seq is 0 when the server acknowledged without telling it.
	Seq parley.Seq
	// ID names the publish; the test chose it, unique in the whole ledger.
	ID  string
	Sum Sum
}

// Of is what a reader saw of m.
func Of(m *parley.Message) Message {
	return Message{Stream: m.Topic.Stream(), Seq: m.Seq, ID: m.ID, Sum: SumOf(m.Topic, m.Header, m.Body)}
}

// Ledger records what the outside world was told. All methods may be called
// concurrently.
type Ledger struct {
	mu    sync.Mutex // guards what follows
	acked []Message
	shown []Message
}

// Ack records that the publish of m was acknowledged.
func (l *Ledger) Ack(m Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked = append(l.acked, m)
}

// Show records that some reader was shown m.
func (l *Ledger) Show(m Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shown = append(l.shown, m)
}

// Acked is every acknowledgement so far, in order.
func (l *Ledger) Acked() []Message {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clip(l.acked)
}

// Shown is every message that a reader was shown so far, in order.
func (l *Ledger) Shown() []Message {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clip(l.shown)
}

// Check runs the checkers that need nothing but the log: Lost, Order, Unstable
// and Repeated. log is all that is stored, stream by stream in order.
func (l *Ledger) Check(log []Message) error {
	acked := l.Acked()
	return errors.Join(Lost(acked, log), Order(log), Unstable(log, acked, l.Shown()), Repeated(acked, log))
}

// faults collects what is wrong and keeps the first few, because one fault
// tends to bring a thousand.
type faults struct {
	promise string
	count   int
	first   []error
}

func (f *faults) add(format string, args ...any) {
	f.count++
	if len(f.first) < 5 {
		f.first = append(f.first, fmt.Errorf(format, args...))
	}
}

func (f *faults) err() error {
	if f.count == 0 {
		return nil
	}
	return fmt.Errorf("%s: %d faults: %w", f.promise, f.count, errors.Join(f.first...))
}
