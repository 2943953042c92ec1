package chaos_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/server/servertest"
	"github.com/parley-im/parley/test/oracle"
)

// answer is any message of a server that speaks the native protocol.
type answer struct {
	ID     int
	Method string
	Params struct {
		Code     string
		Retry    int `json:"retry_ms"`
		Messages []delivered
	}
	Result struct{ Seq parley.Seq }
	Error  *struct {
		Code    int
		Message string
		Data    struct {
			Kind  string
			Retry bool
		}
	}
}

type delivered struct {
	Topic parley.Topic
	Seq   parley.Seq
	Text  string
}

// hear reads the next message of a native server.
func (p *peer) hear() (a answer, err error) {
	text, err := p.next()
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return a, fmt.Errorf("%.200q: %w", text, err)
	}
	return a, nil
}

// ask sends a request and waits for its answer, skipping events.
func (p *peer) ask(id int, method, params string) (answer, error) {
	if err := p.say(call(id, method, params)); err != nil {
		return answer{}, err
	}
	for {
		a, err := p.hear()
		if err != nil || a.Method == "" {
			return a, err
		}
	}
}

// call is a native request.
func call(id int, method, params string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, id, method, params)
}

// publishing is a native request to publish.
func publishing(id int, topic parley.Topic, body string) string {
	return call(id, "publish", fmt.Sprintf(`{"topic":%q,"text":%q}`, topic, body))
}

// bodyOf is a body of about size bytes whose first word names the publish.
func bodyOf(id string, size int) string {
	return id + " " + strings.Repeat("x", max(size-len(id)-1, 0))
}

// message is what the oracle knows a message by.
func message(topic parley.Topic, seq parley.Seq, body string) oracle.Message {
	id, _, _ := strings.Cut(body, " ")
	return oracle.Message{Stream: topic.Stream(), Seq: seq, ID: id, Sum: oracle.SumOf(topic, "", []byte(body))}
}

// dialect is how a reader understands one protocol.
type dialect struct {
	name, path string
	// subscribe asks for all of topic above a seq.
	subscribe func(topic parley.Topic, after parley.Seq) string
	// messages are those in one message of the server; none in an answer or a
	// notification.
	messages func(text string) ([]oracle.Message, error)
}

func dialects() []dialect {
	return []dialect{
		{
			"gobbler", gobblerPath,
			func(topic parley.Topic, after parley.Seq) string { return fmt.Sprintf("+ %s %d", topic, after+1) },
			gobblerMessages,
		},
		{
			"native", rpcPath,
			func(topic parley.Topic, after parley.Seq) string {
				return call(1, "subscribe", fmt.Sprintf(`{"topic":%q,"after":%d}`, topic, after))
			},
			nativeMessages,
		},
	}
}

func nativeMessages(text string) ([]oracle.Message, error) {
	var a answer
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return nil, fmt.Errorf("%.200q: %w", text, err)
	}
	if a.Error != nil || a.Method == "gap" || a.Method == "reset" || a.Method == "ended" {
		return nil, fmt.Errorf("unexpected: %.200q", text)
	}
	var all []oracle.Message
	for _, m := range a.Params.Messages {
		all = append(all, message(m.Topic, m.Seq, m.Text))
	}
	return all, nil
}

func gobblerMessages(text string) ([]oracle.Message, error) {
	if strings.HasPrefix(text, "#") && !strings.HasPrefix(text, "#gap") && !strings.HasPrefix(text, "#reset") {
		return nil, nil
	}
	line, rest, _ := strings.Cut(text, "\n")
	header, body, ok := strings.Cut(rest, "\n")
	fields := strings.Split(line, ",")
	if !ok || len(fields) < 2 || header != "" {
		return nil, fmt.Errorf("unexpected: %.200q", text)
	}
	seq, err := strconv.ParseUint(fields[1], 10, 53)
	if err != nil {
		return nil, fmt.Errorf("%.200q: %w", text, err)
	}
	return []oracle.Message{message(parley.Topic(fields[0]), parley.Seq(seq), body)}, nil
}

// outcome is what a Gobbler server says about a publish: the id that the publisher
// gave, and the seq or, when it is not stored, 0. Other frames have no id.
func outcome(text string) (id string, seq parley.Seq, err error) {
	first, rest, _ := strings.Cut(text, "\n")
	name, first, _ := strings.Cut(first, " ")
	if name != "#send" && name != "!error-send" {
		return "", 0, nil
	}
	id, _, _ = strings.Cut(first, " ")
	var told struct{ SequenceID, PublisherMessageID string }
	if err := json.Unmarshal([]byte(rest), &told); err != nil {
		return "", 0, fmt.Errorf("%.200q: %w", text, err)
	}
	n, err := strconv.ParseUint(told.SequenceID, 10, 53)
	if err == nil && (told.PublisherMessageID != id || (n == 0) != (name == "!error-send")) {
		err = errors.New("the line and the JSON disagree")
	}
	if err != nil {
		return "", 0, fmt.Errorf("%.200q: %w", text, err)
	}
	return id, parley.Seq(n), nil
}

// sdk is a well-behaved client.
func sdk(t *testing.T, s *servertest.Server) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), s.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// stored reads all that a server keeps of a topic.
func stored(t *testing.T, s *servertest.Server, topic parley.Topic) []oracle.Message {
	t.Helper()
	var log []oracle.Message
	for m, err := range sdk(t, s).Subscribe(t.Context(), topic, client.After(0), client.ReplayOnly()) {
		if err != nil {
			t.Fatal(err)
		}
		log = append(log, message(m.Topic, m.Seq, string(m.Body)))
	}
	return log
}
