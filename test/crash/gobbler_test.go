package crash_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/test/oracle"
)

// burst is how many publishes a publisher sends before it waits for answers.
const burst = 16

// gobblerPublisher publishes with ids that are labels: what was not acknowledged
// before a crash is never sent again.
type gobblerPublisher struct {
	name   string
	ledger *oracle.Ledger
	sent   int
}

// run publishes until the server is gone. Only what a living server should not
// say is an error.
func (p *gobblerPublisher) run(address string) error {
	return talk(address, "/stream/user/"+p.name, p.publish)
}

func (p *gobblerPublisher) publish(c *conn) error {
	for {
		topics := map[string]parley.Topic{}
		for range burst {
			id := fmt.Sprintf("%s-%d", p.name, p.sent)
			topics[id] = topicOf(p.sent)
			p.sent++
			if err := c.send(fmt.Sprintf("> %s %s\n\n%s", topics[id], id, bodyOf(id))); err != nil {
				return nil
			}
		}
		if c.w.Flush() != nil {
			return nil
		}
		for len(topics) > 0 {
			frame, err := c.next()
			if err != nil {
				return nil
			}
			if err := p.answer(frame, topics); err != nil {
				return err
			}
		}
	}
}

// answer takes one frame and removes the publish that it acknowledges.
func (p *gobblerPublisher) answer(frame string, topics map[string]parley.Topic) error {
	if strings.HasPrefix(frame, "#connected ") {
		return nil
	}
	first, rest, _ := strings.Cut(frame, "\n")
	id, isSend := strings.CutPrefix(first, "#send ")
	topic, isMine := topics[id]
	if !isSend || !isMine {
		return fmt.Errorf("unexpected frame %q", frame)
	}
	var told struct{ SequenceID string }
	if err := json.Unmarshal([]byte(rest), &told); err != nil {
		return fmt.Errorf("frame %q: %w", frame, err)
	}
	seq, err := strconv.ParseUint(told.SequenceID, 10, 53)
	if err != nil {
		return fmt.Errorf("frame %q: %w", frame, err)
	}
	delete(topics, id)
	p.ledger.Ack(messageOf(id, topic, parley.Seq(seq)))
	return nil
}

// reader follows one stream across the server's lives: it resumes above the last
// seq that it has.
type reader struct {
	stream parley.Stream
	ledger *oracle.Ledger
	trace  []oracle.Message
}

// run reads until the server is gone.
func (r *reader) run(address string) error {
	return talk(address, "/stream/user/reader", r.read)
}

func (r *reader) read(c *conn) error {
	from := parley.Seq(0)
	if n := len(r.trace); n > 0 {
		from = r.trace[n-1].Seq + 1
	}
	if c.send(fmt.Sprintf("+ %s %d", r.stream.Topic(), from)) != nil || c.w.Flush() != nil {
		return nil
	}
	for {
		frame, err := c.next()
		if err != nil {
			return nil
		}
		if strings.HasPrefix(frame, "#") {
			continue
		}
		m, err := parse(frame)
		if err != nil {
			return err
		}
		r.trace = append(r.trace, m)
		r.ledger.Show(m)
	}
}

// fetch reads a whole stream.
func fetch(c *conn, s parley.Stream) ([]oracle.Message, error) {
	if err := c.send(fmt.Sprintf("+ %s 0 2000000000", s.Topic())); err != nil {
		return nil, err
	}
	if err := c.w.Flush(); err != nil {
		return nil, err
	}
	var log []oracle.Message
	for {
		frame, err := c.next()
		if err != nil {
			return nil, err
		}
		switch {
		case strings.HasPrefix(frame, "#fetch-end "):
			return log, nil
		case strings.HasPrefix(frame, "#"):
			continue
		}
		m, err := parse(frame)
		if err != nil {
			return nil, err
		}
		log = append(log, m)
	}
}

// parse reads a delivered message: a line that begins with the topic and the
// seq, a header line, and the body, whose first word is the id.
func parse(frame string) (oracle.Message, error) {
	line, rest, _ := strings.Cut(frame, "\n")
	header, body, ok := strings.Cut(rest, "\n")
	fields := strings.Split(line, ",")
	if !ok || len(fields) < 2 {
		return oracle.Message{}, fmt.Errorf("unexpected frame %.200q", frame)
	}
	seq, err := strconv.ParseUint(fields[1], 10, 53)
	if err != nil {
		return oracle.Message{}, fmt.Errorf("frame %.200q: %w", frame, err)
	}
	topic := parley.Topic(fields[0])
	id, _, _ := strings.Cut(body, " ")
	return oracle.Message{Stream: topic.Stream(), Seq: parley.Seq(seq), ID: id, Sum: oracle.SumOf(topic, header, []byte(body))}, nil
}
