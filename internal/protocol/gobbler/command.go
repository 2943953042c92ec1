package gobbler

import (
	"fmt"
	"unicode/utf8"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
)

// maxEcho bounds, in bytes, what an error repeats of the client's own text, so
// that a large faulty command does not get a larger answer.
const maxEcho = 256

// send decodes the command ">". Its request and its only message are one
// allocation, and so are the message's id and header; the topic is most often
// that of a publish before, and the body shares a chunk with others.
func (c *Codec) send(arg, rest []byte) protocol.Request {
	if len(arg) == 0 {
		return &protocol.Bad{Err: syntaxError("send command requires a path argument, but none given"), Publish: true}
	}
	path, id := cut(arg, ' ')
	topic, err := c.recent.parse(path)
	if err == nil {
		err = checkID(id)
	}
	header, body := cut(rest, '\n')
	if err == nil && c.dialect == Documented {
		header, body, err = cutHeaders(rest)
	}
	if err != nil {
		return &protocol.Bad{Err: &sendError{path: clip(path), id: clip(id), err: err}, Publish: true}
	}
	r := &struct {
		protocol.Publish
		message [1]broker.Publication
	}{}
	m := &r.message[0].Message
	m.Topic = topic
	m.Sender = c.sender
	m.ID, m.Header = twoStrings(id, header)
	m.Body = c.bodies.clone(body)
	r.Messages = r.message[:1:1]
	return &r.Publish
}

// twoStrings is a and b as strings that share one allocation.
func twoStrings(a, b []byte) (string, string) {
	switch {
	case len(b) == 0:
		return string(a), ""
	case len(a) == 0:
		return "", string(b)
	}
	s := string(a) + string(b)
	return s[:len(a)], s[len(a):]
}

// checkID refuses an id that could not be handed on to clients of every
// protocol.
func checkID(id []byte) error {
	switch {
	case len(id) > parley.MaxIDBytes:
		return fmt.Errorf("message id is longer than %d bytes: %w", parley.MaxIDBytes, parley.ErrInvalid)
	case !utf8.Valid(id):
		return fmt.Errorf("message id is not valid UTF-8: %w", parley.ErrInvalid)
	}
	return nil
}

// cancel decodes the command "-"; nil for a path that no subscription can have,
// because cancelling what is not there is answered with silence.
func cancel(path string) protocol.Request {
	if path == "" {
		return bad("- command requires a path argument, but none given")
	}
	topic, err := parley.ParseTopic(path)
	if err != nil {
		return nil
	}
	return &protocol.Unsubscribe{Topic: topic, Quiet: true}
}

// recentTopics remembers the last few topics of a connection: a publisher
// mostly repeats itself, and then needs neither a check nor a new string.
type recentTopics struct {
	topics [4]parley.Topic
	next   uint8 // to be overwritten
}

func (r *recentTopics) parse(path []byte) (parley.Topic, error) {
	for _, t := range r.topics {
		if t != "" && string(t) == string(path) {
			return t, nil
		}
	}
	t, err := parley.ParseTopic(string(path))
	if err != nil {
		return "", err
	}
	r.topics[r.next] = t
	r.next = (r.next + 1) % uint8(len(r.topics))
	return t, nil
}

// unknown is a command that does not exist.
func (c *Codec) unknown(name []byte) *protocol.Bad {
	if c.dialect == Documented {
		return bad("unknown command '" + clip(name) + "'")
	}
	return bad("unknown command " + clip(name))
}

// bad is a command that cannot be understood; text is told as it is.
func bad(text string) *protocol.Bad {
	return &protocol.Bad{Err: syntaxError(text)}
}

// A syntaxError is the text that a client gets for a malformed command, in the
// words that deployed clients know.
type syntaxError string

func (e syntaxError) Error() string { return string(e) }
func (e syntaxError) Unwrap() error { return parley.ErrInvalid }

// A sendError is a publish that was refused before it reached the broker.
type sendError struct {
	path, id string
	err      error
}

func (e *sendError) Error() string { return e.err.Error() }
func (e *sendError) Unwrap() error { return e.err }

func clip[T string | []byte](s T) string { return string(s[:min(len(s), maxEcho)]) }
