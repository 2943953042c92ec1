package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/wire"
)

// The protocols that subscribers may speak.
const (
	gobblerProtocol = "gobbler"
	sseProtocol     = "sse"
)

// source is where a subscriber's frames come from. A wire.Conn is one.
type source interface {
	Read() ([]wire.Frame, error)
	Close(code uint16, reason string) error
}

// listen opens subscriber i and waits until the server says that it is live.
func (l *load) listen(ctx context.Context, i int, topic string) (source, error) {
	if l.cfg.Protocol == sseProtocol {
		return l.listenEvents(ctx, topic)
	}
	conn, err := l.dial(ctx, i)
	if err != nil {
		return nil, err
	}
	return conn, await(conn, "+ "+topic, "#subscribed-to")
}

// listenEvents follows a topic as Server-Sent Events.
func (l *load) listenEvents(ctx context.Context, topic string) (source, error) {
	u, err := url.Parse(l.cfg.URL)
	if err != nil || u.Scheme != "http" {
		return nil, fmt.Errorf("the server's address %q is not an http URL: %w", l.cfg.URL, parley.ErrInvalid)
	}
	address := u.Host
	if u.Port() == "" {
		address = net.JoinHostPort(u.Hostname(), "80")
	}
	u.Path = "/v1/subscribe" + topic
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	e := &events{conn: conn}
	if err := e.begin(request); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	l.totals.connected.Add(1)
	return e, nil
}

// events is a stream of Server-Sent Events, read as this server writes them.
type events struct {
	conn  net.Conn
	lines *bufio.Scanner
	one   [1]wire.Frame
}

// maxEvent bounds one event.
const maxEvent = 8 << 20

// begin sends the request, and reads until the stream is live.
func (e *events) begin(request *http.Request) error {
	if err := request.Write(e.conn); err != nil {
		return err
	}
	r := bufio.NewReaderSize(e.conn, 2<<10)        // there may be many that are idle
	response, err := http.ReadResponse(r, request) //nolint:bodyclose // the connection is closed instead
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answers %s: %w", response.Status, parley.ErrUnavailable)
	}
	e.lines = bufio.NewScanner(httputil.NewChunkedReader(r))
	e.lines.Buffer(nil, maxEvent)
	e.lines.Split(splitEvents)
	for {
		frames, err := e.Read()
		if err != nil {
			return err
		}
		if bytes.Contains(frames[0].Payload, []byte("event: live\n")) {
			return nil
		}
	}
}

// splitEvents splits a stream where events end.
func splitEvents(data []byte, _ bool) (advance int, token []byte, err error) {
	if i := bytes.Index(data, []byte("\n\n")); i >= 0 {
		return i + 2, data[:i+1], nil
	}
	return 0, nil, nil
}

// Read returns the next event.
func (e *events) Read() ([]wire.Frame, error) {
	if !e.lines.Scan() {
		return nil, errors.Join(errors.New("the stream has ended"), e.lines.Err())
	}
	e.one[0] = wire.Frame{Text: true, Payload: e.lines.Bytes()}
	return e.one[:], nil
}

// Close ends the stream.
func (e *events) Close(uint16, string) error { return e.conn.Close() }

// parseEvent finds the seq and the body in
//
//	id: seq
//	data: {…,"text":"body"}
//
// The bodies of a load need no escaping. Other events have neither.
func parseEvent(event []byte) (seq uint64, body []byte, err error) {
	rest, message := bytes.CutPrefix(event, []byte("id: "))
	id, data, _ := bytes.Cut(rest, []byte{'\n'})
	if !message || !bytes.HasPrefix(data, []byte("data: ")) {
		return 0, nil, nil
	}
	if seq, err = parseSeq(id); err != nil {
		return 0, nil, err
	}
	const text = `"text":"`
	at := bytes.LastIndex(data, []byte(text))
	if body = bytes.TrimSuffix(data, []byte("\"}\n")); at < 0 || len(body) == len(data) {
		return 0, nil, fmt.Errorf("the server sent %.100q, which is no message of this load", event)
	}
	return seq, body[at+len(text):], nil
}

// protocols names the protocols, for people.
func protocols() string { return strings.Join([]string{gobblerProtocol, sseProtocol}, "|") }
