package protocol

import (
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/wire"
)

// Codec translates between one protocol's frames and the conversation. There is
// one value per connection; Decode and Encode may run concurrently with each
// other, but neither with itself.
type Codec interface {
	// Decode appends the requests that f asks for to dst. What the requests
	// keep of f is copied. An error means that the connection must end; a
	// request that cannot be understood is a Bad instead.
	Decode(dst []Request, f wire.Frame) ([]Request, error)
	// Encode appends the frames that tell e, as bytes of the connection's
	// framing, to dst; nothing when this protocol has no word for e.
	Encode(dst []byte, e broker.Event) []byte
}

// A Skipper is a Codec whose protocol has no word for some of what is delivered.
// Skipped tells which messages of e its Encode leaves out: they count as
// acknowledged.
type Skipper interface {
	Skipped(e *broker.Deliveries) []broker.SeqRange
}

// Request is what a client asks.
//
//sumtype:decl
type Request interface{ request() }

// Publish asks to store messages; answered by broker.Published.
type Publish struct{ broker.Publish }

// Subscribe asks for a topic's messages; answered by broker.Subscribed or
// broker.Failed.
type Subscribe struct{ broker.Subscribe }

// Unsubscribe ends the subscription with that ID, or if ID is 0 the one to
// Topic; answered by broker.Unsubscribed or broker.Failed.
type Unsubscribe struct {
	Ref   string
	Topic parley.Topic
	ID    uint64
	// Quiet says that there is no answer when there is no such subscription.
	Quiet bool
}

// History asks for one page of stored messages; answered by broker.History. No
// topic is the user's own inbox: all of it, or what they and Peer wrote to each
// other.
type History struct {
	Ref           string
	Topic         parley.Topic
	Peer          string
	After, Before parley.Seq
	Since         time.Time
	Limit         int
	Reverse       bool
}

// Count asks how many messages are stored; answered by broker.Counted.
type Count struct {
	Ref           string
	Topic         parley.Topic
	After, Before parley.Seq
	Since         time.Time
}

// Ping asks for a broker.Pong.
type Ping struct{ Ref string }

// Hello introduces the client; answered by broker.Welcome with the Ref.
type Hello struct {
	Ref string
	// Producer is the client-chosen id that makes its publishes idempotent.
	Producer string
}

// Bad is a request that could not be understood; answered by broker.Failed
// with Err.
type Bad struct {
	Ref string
	Err error
	// Publish says that it was a publish, which is counted as such.
	Publish bool
}

// Authenticate shows a credential; answered by broker.Authenticated or
// broker.Failed. Requests after it wait for it.
type Authenticate struct {
	Ref        string
	Credential account.Credential
}

// Inbox opens the inbox of who the session is by then: a Subscribe whose Topic is
// that, and whose Delivery is shared when the session has no device. It is for
// codecs, which do not know what comes of an Authenticate.
type Inbox struct{ broker.Subscribe }

// Await has further requests wait until Told is closed, by a codec that has
// told an event, or the conversation ends.
type Await struct{ Told <-chan struct{} }

// Send sends letters; answered by broker.Sent. A letter without recipients goes
// to the sender.
type Send struct{ broker.Send }

// Ack acknowledges deliveries; answered by broker.Acked if it has a Ref.
type Ack struct{ broker.Ack }

// MarkRead moves the user's read marker; answered by broker.ReadMarker.
type MarkRead struct{ broker.MarkRead }

// Sessions asks for the user's live sessions; answered by broker.Sessions.
type Sessions struct{ Ref string }

// Reply is a request whose answer the codec has made itself, such as an echo:
// it is told in its turn.
type Reply struct {
	Event broker.Event
	Cost  int // about how many bytes the event holds
}

func (*Authenticate) request() {}
func (*Inbox) request()        {}
func (*Await) request()        {}
func (*Send) request()         {}
func (*Ack) request()          {}
func (*MarkRead) request()     {}
func (*Sessions) request()     {}
func (*Reply) request()        {}
func (*Publish) request()      {}
func (*Subscribe) request()    {}
func (*Unsubscribe) request()  {}
func (*History) request()      {}
func (*Count) request()        {}
func (*Ping) request()         {}
func (*Hello) request()        {}
func (*Bad) request()          {}
