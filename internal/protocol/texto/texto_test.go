package texto_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/protocoltest"
	"github.com/parley-im/parley/internal/protocol/texto"
	"github.com/parley-im/parley/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A node is a relay and a broker, running until the test ends.
type node struct {
	t      testing.TB
	broker *broker.Broker
	relay  *texto.Relay
	serve  func(protocol.Conversation) error

	serving sync.WaitGroup
	mu      sync.Mutex // guards what follows
	ends    []error    // of conversations
}

func newNode(t testing.TB, cfg texto.Config) *node {
	t.Helper()
	db, err := pebble.Open("store", pebble.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	n := &node{t: t, broker: broker.New(broker.Config{Log: db}), relay: texto.NewRelay(cfg)}
	ctx, cancel := context.WithCancel(context.Background())
	n.serve = func(c protocol.Conversation) error { return protocol.Serve(ctx, c) }
	var running sync.WaitGroup
	running.Go(func() {
		if err := n.broker.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	running.Go(func() {
		if err := n.relay.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		n.broker.Goodbye(func() *broker.Bye { return &broker.Bye{Code: broker.ByeShutdown, Reason: "the test is over"} })
		n.serving.Wait()
		if s := n.relay.Stats(); s.Sessions != 0 || s.Waiting != 0 {
			t.Errorf("when all have gone the relay has %+v", s)
		}
		cancel()
		running.Wait()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// open connects a client to a path of the node.
func (n *node) open(path string) (wire.Conn, error) {
	u, err := url.Parse(path)
	if err != nil {
		return nil, err
	}
	client, server := wire.Pipe()
	n.serving.Go(func() {
		err := n.serve(n.relay.Conversation(server, n.broker, texto.Terms{Greet: texto.Greets(u.Query())}))
		n.mu.Lock()
		defer n.mu.Unlock()
		n.ends = append(n.ends, err)
		var goodbye *wire.CloseError
		var bye *protocol.ByeError
		if !errors.As(err, &goodbye) && !errors.As(err, &bye) && !errors.Is(err, wire.ErrSlow) {
			n.t.Errorf("a conversation ended with %v", err)
		}
	})
	return client, nil
}

const nilUUID = "00000000-0000-0000-0000-000000000000"

// dialect says how to replay transcripts.
func dialect(start func(t *testing.T) protocoltest.Open) protocoltest.Dialect {
	return protocoltest.Dialect{
		Name: "texto", Text: true,
		Probe:  `{"kind":"registration"}`,
		Answer: `{"client_id":"$_","id":"` + nilUUID + `","kind":"connection","data":{"client_id":"$_"}}` + "\n",
		Start:  start,
	}
}

// What docs/protocol/texto.md says, the server does.
func TestTranscripts(t *testing.T) {
	d := dialect(func(t *testing.T) protocoltest.Open { return newNode(t, texto.Config{}).open })
	protocoltest.Run(t, "../../../docs/protocol/texto.md", d)
	protocoltest.Run(t, "testdata/transcripts.md", d)
}

// peer is a client that was greeted.
type peer struct {
	t    testing.TB
	conn wire.Conn
	id   string
	due  []string
}

func dial(t testing.TB, open protocoltest.Open) *peer {
	t.Helper()
	conn, err := open("/v1/texto")
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, conn: conn}
	t.Cleanup(func() { _ = conn.Close(1000, "") }) // it may be closed
	greeting, err := p.next()
	if err != nil {
		t.Fatal(err)
	}
	p.id = between(greeting, `{"client_id":"`, `"`)
	return p
}

func between(s, before, after string) string {
	_, s, _ = strings.Cut(s, before)
	s, _, _ = strings.Cut(s, after)
	return s
}

// next is the next frame.
func (p *peer) next() (string, error) {
	for len(p.due) == 0 {
		frames, err := p.conn.Read()
		if err != nil {
			return "", err
		}
		for _, f := range frames {
			if !f.Text || !bytes.HasSuffix(f.Payload, []byte("}\n")) {
				return "", errors.New("a frame that is no line of text: " + string(f.Payload))
			}
			p.due = append(p.due, string(f.Payload))
		}
	}
	first := p.due[0]
	p.due = p.due[1:]
	return first, nil
}

func (p *peer) want() string {
	p.t.Helper()
	got, err := p.next()
	if err != nil {
		p.t.Fatal(err)
	}
	return got
}

func (p *peer) say(text string) {
	p.t.Helper()
	if err := p.conn.Write(p.conn.AppendFrame(nil, true, []byte(text))); err != nil {
		p.t.Fatal(err)
	}
}

// send asks, in a message with someID, to send a text, which must need no
// escaping.
func (p *peer) send(to, text string) {
	p.t.Helper()
	p.say(`{"client_id":"` + p.id + `","id":"` + someID + `","kind":"send","data":{"receiver_id":"` + to + `","text":"` + text + `"}}`)
}

const someID = "8a15b000-02d7-4823-8336-0cd0b0b13ae9"

func ack(client, id string) string {
	return `{"client_id":"` + client + `","id":"` + id + `","kind":"ack","data":null}` + "\n"
}

func broken(client string) string {
	return `{"client_id":"` + client + `","id":"` + someID + `","kind":"error","data":{"code":"EBROKER","description":"Unable to send the message to the recipient."}}` + "\n"
}

// receipt is what a frame received says.
func receipt(frame string) (sender, text string) {
	return between(frame, `"data":{"sender_id":"`, `"`), between(frame, `"text":"`, `"}}`)
}
