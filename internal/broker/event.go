package broker

import (
	"time"

	"github.com/parley-im/parley"
)

// Event is what a session is told. A session's events are in order; the events
// of one subscription follow each other as
//
//	Subscribed, ReplayStart, Messages…, ReplayEnd, Live, Messages…
//
// where a subscription that only replays ends after ReplayEnd, one that starts
// live has no replay, and one whose reader was too slow for the tail goes from
// Live to ReplayStart again, without a gap or a repetition.
//
//sumtype:decl
type Event interface{ event() }

// Welcome is the first event of every session.
type Welcome struct {
	Ref      string
	Identity parley.Identity
	Time     time.Time
	Limits   Limits
}

// Published answers publishes: each message's Result is set.
type Published struct{ Publishes []*Publish }

// Subscribed answers a subscribe request before anything of that subscription
// is delivered. Cursor is where it starts: all messages after it will come. For
// a start that must be searched for (a time, the newest N) it is not known yet
// and 0.
type Subscribed struct {
	Ref    string
	Sub    *Subscription
	Cursor parley.Seq
}

// ReplayStart says that Count stored messages follow.
type ReplayStart struct {
	Sub   *Subscription
	Count int
}

// Messages delivers one batch on Sub. Also names further subscriptions of the
// session that cover every message of the batch and do not get it again.
type Messages struct {
	Sub   *Subscription
	Also  []*Subscription
	Batch *Batch
}

// ReplayEnd says that the stored messages have all been delivered; Cursor is
// how far they went.
type ReplayEnd struct {
	Sub    *Subscription
	Cursor parley.Seq
}

// Live says that from here messages are delivered as they are published. Cursor
// is the last seq before that.
type Live struct {
	Sub    *Subscription
	Cursor parley.Seq
}

// Gap says that the messages after From up to and including To are gone:
// retention trimmed them before this reader came.
type Gap struct {
	Sub      *Subscription
	From, To parley.Seq
}

// Reset says that the cursor From lies beyond the end of the stream, as after a
// restore from a backup; the subscription goes on from To, the end.
type Reset struct {
	Sub      *Subscription
	From, To parley.Seq
}

// Ended says that the server could not go on with Sub; nothing of it follows.
// Subscribing again from the last message's seq loses nothing.
type Ended struct {
	Sub *Subscription
	Err error
}

// Unsubscribed answers an unsubscribe request; nothing of Sub follows.
type Unsubscribed struct {
	Ref string
	Sub *Subscription
}

// History answers a history request with one page.
type History struct {
	Ref      string
	Messages []*parley.Message
	// Next continues in the same direction; More says whether it is worth it.
	Next parley.Seq
	More bool
	// Floor is the stream's floor: all up to it was trimmed.
	Floor parley.Seq
}

// Counted answers a count request.
type Counted struct {
	Ref         string
	Count       int
	First, Last parley.Seq
}

// Echo tells what the codec itself wants told: an answer that needs nothing of
// the broker. Only the codec that made it understands Payload.
type Echo struct {
	Ref     string
	Payload []byte
}

// Pong answers a ping request.
type Pong struct{ Ref string }

// Failed answers the request Ref that could not be done. Ref is empty when the
// client wants no answer, which some protocols give all the same.
type Failed struct {
	Ref string
	Err error
}

// Bye is a session's last event: the connection closes after it.
type Bye struct {
	Code   ByeCode
	Reason string
	// Retry is when to come back; 0 means that coming back does not help
	// unless the reason is dealt with.
	Retry time.Duration
}

// ByeCode says why the server ends a session. Each protocol maps it to its own
// codes.
type ByeCode int

// The reasons for a goodbye.
const (
	ByeShutdown        ByeCode = iota + 1 // the server stops or restarts
	ByeSlow                               // the client did not read
	ByeIdle                               // no sign of life
	ByeProtocol                           // the client broke the protocol
	ByeTooBig                             // a frame above the limit
	ByeOverload                           // too many connections
	ByeInternal                           // a fault of the server
	ByeUnacceptable                       // text that is not UTF-8
	ByeExpired                            // the credential has expired
	ByeRevoked                            // the credential was revoked, or the user suspended
	ByeReplaced                           // another session of the same device took its place
	ByeUnauthenticated                    // nobody said in time who they are
)

func (*Welcome) event()      {}
func (*Published) event()    {}
func (*Subscribed) event()   {}
func (*ReplayStart) event()  {}
func (*Messages) event()     {}
func (*ReplayEnd) event()    {}
func (*Live) event()         {}
func (*Gap) event()          {}
func (*Reset) event()        {}
func (*Ended) event()        {}
func (*Unsubscribed) event() {}
func (*History) event()      {}
func (*Counted) event()      {}
func (*Pong) event()         {}
func (*Echo) event()         {}
func (*Failed) event()       {}
func (*Bye) event()          {}
