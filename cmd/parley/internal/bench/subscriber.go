package bench

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/parley-im/parley/internal/wire"
)

// endMark begins the body of the message that ends a topic; the number of
// messages before it follows.
const endMark = "end "

// subscriber reads one topic on one connection.
type subscriber struct {
	clock  clock
	conn   source
	topic  string
	parse  func(frame []byte) (seq uint64, body []byte, err error) // nil: that of the Gobbler protocol
	totals *totals

	latency histogram
	got     int64
	last    uint64 // the seq before
}

// receive reads until the topic's end and checks that every message came, in
// order.
func (s *subscriber) receive() error {
	for {
		frames, err := s.conn.Read()
		if err != nil {
			return fmt.Errorf("%s after %d messages: %w", s.topic, s.got, err)
		}
		now, before := s.clock.now(), s.got
		for _, f := range frames {
			want, end, err := s.message(f.Payload, now)
			if err != nil {
				return fmt.Errorf("%s after %d messages: %w", s.topic, s.got, err)
			}
			if end {
				s.totals.delivered.Add(s.got - before)
				if s.got != want {
					return fmt.Errorf("%s: %d of %d messages were delivered", s.topic, s.got, want)
				}
				return nil
			}
		}
		s.totals.delivered.Add(s.got - before)
	}
}

// message takes one frame; end says that it was the topic's last, and want how
// many there were.
func (s *subscriber) message(frame []byte, now int64) (want int64, end bool, err error) {
	parse := s.parse
	if parse == nil {
		parse = parseMessage
	}
	seq, body, err := parse(frame)
	if err != nil || body == nil {
		return 0, false, err
	}
	if seq <= s.last {
		return 0, false, fmt.Errorf("seq %d follows %d", seq, s.last)
	}
	s.last = seq
	if count, ok := bytes.CutPrefix(body, []byte(endMark)); ok {
		want, err = strconv.ParseInt(string(count), 10, 64)
		return want, true, err
	}
	s.got++
	if due, ok := stamp(body); ok {
		s.latency.add(now - due)
	}
	return 0, false, nil
}

// parseMessage finds the seq and the body in
//
//	path,seq,…
//	header
//	body
//
// A notification has neither; an error of the server's is one.
func parseMessage(frame []byte) (seq uint64, body []byte, err error) {
	if len(frame) == 0 || frame[0] == '#' {
		return 0, nil, nil
	}
	if frame[0] == '!' {
		return 0, nil, fmt.Errorf("the server says %q", firstLine(frame))
	}
	meta, rest, _ := bytes.Cut(frame, []byte{'\n'})
	_, fields, ok := bytes.Cut(meta, []byte{','})
	number, _, ok2 := bytes.Cut(fields, []byte{','})
	if !ok || !ok2 {
		return 0, nil, fmt.Errorf("the server sent %.100q, which is no message", frame)
	}
	if seq, err = parseSeq(number); err != nil {
		return 0, nil, err
	}
	if _, body, ok = bytes.Cut(rest, []byte{'\n'}); !ok {
		body = []byte{}
	}
	return seq, body, nil
}

func parseSeq(number []byte) (seq uint64, err error) {
	for _, c := range number {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("the server sent the seq %.30q", number)
		}
		seq = seq*10 + uint64(c-'0')
	}
	return seq, nil
}

// await sends a command and reads until a frame begins with want.
func await(conn wire.Conn, command, want string) error {
	if err := conn.Write(conn.AppendFrame(nil, false, []byte(command))); err != nil {
		return err
	}
	for {
		frames, err := conn.Read()
		if err != nil {
			return err
		}
		for _, f := range frames {
			if bytes.HasPrefix(f.Payload, []byte(want)) {
				return nil
			}
			if len(f.Payload) > 0 && f.Payload[0] == '!' {
				return fmt.Errorf("%q: the server says %q", command, firstLine(f.Payload))
			}
		}
	}
}
