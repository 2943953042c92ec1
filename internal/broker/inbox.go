package broker

import (
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
)

// Send is a request to send one message to the inboxes of users. It is answered
// by Sent.
type Send struct {
	// Ref is the request's id on the wire, for the answer.
	Ref string
	// Letters are stored together, in order: each for all its recipients, the
	// sender's copies and the keys that make it idempotent, or for none.
	Letters []Letter
	// Batch says that the answer is a list even for one letter.
	Batch bool
	// Watch is told of the letters; a session puts its own in its place.
	Watch *Watch
}

// Letter is one message on its way to inboxes.
type Letter struct {
	// To are the recipients: valid names, at most Limits.Recipients, each once.
	To []string
	// Message has what the sender chose: ID, Header, Body, Expires. Without an ID
	// it is given one.
	Message parley.Message
	// Producer, together with Message.ID, makes the send idempotent. Empty means
	// the sender's user and device, if the client chose the ID.
	Producer string
	// Receipts asks for receipts: the sender's inbox is told when a device of the
	// recipient has acknowledged the message, and when they have read it.
	Receipts bool
	// Results are set when the answer is due: where the message is in the inbox of
	// each of To, or why not. Err is set when a rule was broken.
	Results []SendResult
	Err     error

	entries []int // for each of To: its message in the submission; -1 for none
}

// SendResult is what became of a letter to one recipient.
type SendResult struct {
	Seq       parley.Seq // in the recipient's inbox
	Duplicate bool
	Err       error
}

// Sent answers a Send.
type Sent struct{ Send *Send }

// Delivery says how a subscription's messages are acknowledged. Nil in a
// Subscribe means not at all.
type Delivery struct {
	// Name is the durable subscription's, for topics. It belongs to the
	// principal's user. For an inbox it is empty: the device is the name.
	Name string
	// AckWait is how long the client has to acknowledge a message before it is
	// delivered again; 0 is 30 s.
	AckWait time.Duration
	// MaxInFlight bounds the messages that are delivered and not acknowledged;
	// 0 is 1,000, at most 10,000.
	MaxInFlight int
	// MaxDeliver is how often a message is delivered before it becomes a dead
	// letter; 0 is without end.
	MaxDeliver int
	// Shared is for inboxes of dialects without devices: all sessions that share
	// the name get every message, and the first acknowledgement counts.
	Shared bool
}

// Deliveries delivers messages that are to be acknowledged.
type Deliveries struct {
	Sub      *Subscription
	Messages []*parley.Message
	// Attempts counts, for each message, how often it has been delivered now;
	// nil when each is delivered for the first time.
	Attempts []int
}

// Ack acknowledges messages of the subscription Sub. It is answered by Acked
// when it has a Ref: then it is durable, and none of them is delivered again.
type Ack struct {
	Ref string
	Sub uint64
	// Ranges of seqs, both ends included. What is not in flight is ignored.
	Ranges []SeqRange
	// Nak asks for another delivery after Delay instead; with Dead set, for none:
	// they become dead letters for Reason.
	Nak    bool
	Delay  time.Duration
	Dead   bool
	Reason string
}

// SeqRange is the seqs from First to Last, both included.
type SeqRange struct{ First, Last parley.Seq }

// Acked answers an Ack with a Ref. Count is how many messages left the flight.
// Up to Cursor everything has been delivered: what was not counted there was
// settled before.
type Acked struct {
	Ref    string
	Count  int
	Cursor parley.Seq
}

// MarkRead moves the marker up to which the session's user has read their inbox.
// It is answered by ReadMarker, which the user's other sessions with an open
// inbox are told too.
type MarkRead struct {
	Ref string
	Seq parley.Seq
}

// ReadMarker says up to where a user has read, and how much they have not:
// Unread counts messages from others, up to Limits.Unread. Sub is the session's
// inbox subscription, or nil in the answer to a MarkRead of a session without.
type ReadMarker struct {
	Ref    string
	Sub    *Subscription
	Seq    parley.Seq
	Unread int
}

// ReceiptKind says what a receipt tells. Receipts are messages in the sender's
// inbox.
type ReceiptKind int

// The kinds of receipt.
const (
	NoReceipt ReceiptKind = iota
	Delivered             // a device of the recipient has acknowledged the message
	Read                  // the recipient has read it
)

// Authenticated answers the showing of a credential.
type Authenticated struct {
	Ref   string
	Login *account.Login
}

// SessionInfo describes a live session.
type SessionInfo struct {
	ID       uint64
	Identity parley.Identity
	Protocol string
	Remote   string
	Since    time.Time
	Current  bool // the one that asks
}

// Sessions answers a request for the user's live sessions.
type Sessions struct {
	Ref      string
	Sessions []SessionInfo
}

func (*Sent) event()          {}
func (*Deliveries) event()    {}
func (*Acked) event()         {}
func (*ReadMarker) event()    {}
func (*Authenticated) event() {}
func (*Sessions) event()      {}
