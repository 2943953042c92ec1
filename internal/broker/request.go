package broker

import (
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// Limits bound what one session may do. They are told to clients that ask.
type Limits struct {
	// MessageBytes bounds a body.
	MessageBytes int
	// BatchMessages bounds the messages of one publish request.
	BatchMessages int
	// Subscriptions bounds a session's subscriptions.
	Subscriptions int
	// HistoryMessages bounds one page of history.
	HistoryMessages int
	// DedupWindow is how long a publish with an id can be repeated safely.
	DedupWindow time.Duration
	// Recipients bounds the recipients of one letter; 100.
	Recipients int
	// InFlight bounds what one subscription may have unacknowledged; 10,000.
	InFlight int
	// Unread bounds what is counted as unread; 1,000.
	Unread int
}

// Publish is a request to publish one message or a batch.
type Publish struct {
	// Ref is the request's id on the wire, for the answer.
	Ref string
	// Batch says that the answer is a list even for one message.
	Batch bool
	// Messages are stored together, in order; each succeeds or fails by itself
	// only through its Result.Err.
	Messages []Publication
	// Watch is told of it when there is no session.
	Watch *Watch
}

// Publication is one message on its way into the log.
type Publication struct {
	// Message is what to store; a session sets its Sender.
	Message parley.Message
	// Producer, together with Message.ID, makes the publish idempotent. Empty
	// means that the id is a label.
	Producer string
	// along says that it is a copy of the message before it, and is stored if that
	// one is.
	along bool
	// Result is set when the answer is due: either Err, or where the message is
	// now (Message.Seq is then set too, for a duplicate that of the first).
	Result backend.Result
}

// Start says where a subscription begins. The zero value begins live: with the
// first message published after it.
type Start struct {
	// Kind chooses which field counts.
	Kind StartKind
	Seq  parley.Seq
	Time time.Time
	Last int
}

// StartKind is one way to say where to begin.
type StartKind int

// The ways to begin.
const (
	FromNow   StartKind = iota // the first message published from now on
	AfterSeq                   // the first message with a seq above Start.Seq; 0 is the oldest
	SinceTime                  // the first message stored at or after Start.Time
	NewestN                    // the newest Start.Last messages
)

// Subscribe is a request for a topic's messages.
type Subscribe struct {
	Ref   string
	Topic parley.Topic
	Start Start
	// ReplayOnly ends the subscription when what was stored is delivered.
	ReplayOnly bool
	// Max bounds the messages of a subscription that only replays; 0 means all.
	Max int
	// Replace takes the place of the session's subscription to the same topic,
	// if there is one; otherwise there may be several.
	Replace bool
	// Delivery, when it is not nil, has what is delivered acknowledged: messages
	// then come as Deliveries, and Start counts only when the name is new. The
	// topic is the user's own inbox, or any for a durable subscription.
	Delivery *Delivery
}
