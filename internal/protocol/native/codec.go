// Package native is Parley's own protocol: JSON-RPC 2.0, one JSON value per text
// frame. docs/protocol/native.md specifies it.
//
// Requests are decoded strictly, by package jsonrpc. Events are encoded by
// appending: the answer to a publish and the delivery of messages are what the
// server does most.
package native

import (
	"time"

	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
	"github.com/parley-im/parley/internal/wire"
)

// version is the one of the protocol that hello agrees on.
const version = 1

// Terms is what the server tells a client in answer to hello, beyond the
// broker's limits.
type Terms struct {
	// Server names the program and its version, such as parley/0.1.0.
	Server string
	// Durable says that an answer to a publish means that it is on disk.
	Durable bool
	// FrameBytes is the largest frame that the wire accepts.
	FrameBytes int
	// BatchMessages is the broker's limit of that name. A longer publish is
	// refused before memory is spent on it.
	BatchMessages int
	// Recipients is the broker's limit of that name; 0 is 100.
	Recipients int
	// Idle is how long a connection may be silent.
	Idle time.Duration
}

// Codec speaks the protocol on one connection.
type Codec struct {
	framing wire.Framing
	terms   Terms

	// Where the framing compresses; otherwise nil.
	sharing wire.Sharing
	dialect string // names, for broker.Batch, what sharing makes of a batch

	// Of Decode alone.
	begun    bool   // a request was understood, so it is too late for hello
	producer string // from hello
}

var _ protocol.Codec = (*Codec)(nil)

// New makes the codec of a connection whose frames are f's.
func New(f wire.Framing, t Terms) *Codec {
	c := &Codec{framing: f, terms: t}
	if s, ok := f.(wire.Sharing); ok && s.Shares() {
		c.sharing, c.dialect = s, dialect+"/"+s.Name()
	}
	return c
}

// Decode reads the requests of one frame. It returns no error: whatever a text
// frame holds can be answered.
func (c *Codec) Decode(dst []protocol.Request, f wire.Frame) ([]protocol.Request, error) {
	if !f.Text {
		err := jsonrpc.InvalidRequest("requests are text frames")
		return append(dst, &protocol.Bad{Ref: jsonrpc.NullID, Err: err}), nil
	}
	for _, call := range jsonrpc.Parse(f.Payload) {
		r, err := c.request(call)
		switch {
		case err == nil:
			dst = append(dst, r)
		case call.ID != "": // a faulty notification gets no answer
			dst = append(dst, &protocol.Bad{Ref: call.ID, Err: err, Publish: call.Method == "publish" || call.Method == "msg.send"})
		}
	}
	return dst, nil
}

func (c *Codec) request(call jsonrpc.Call) (protocol.Request, error) {
	if call.Err != nil {
		return nil, call.Err
	}
	if call.Method == "hello" {
		return c.hello(call)
	}
	c.begun = true
	switch call.Method {
	case "publish":
		return c.publish(call)
	case "subscribe":
		return subscribe(call)
	case "unsubscribe":
		return unsubscribe(call)
	case "history":
		return history(call)
	case "count":
		return count(call)
	case "ping":
		return ping(call)
	case "auth":
		return auth(call)
	case "msg.send":
		return c.send(call)
	case "inbox.open":
		return openInbox(call)
	case "ack":
		return ack(call)
	case "nak":
		return nak(call)
	case "inbox.history":
		return inboxHistory(call)
	case "inbox.read":
		return markRead(call)
	case "session.list":
		return sessions(call)
	}
	return nil, jsonrpc.MethodNotFound()
}
