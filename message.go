package parley

import "time"

// Limits of a message's parts, in bytes. The size of a body is a setting of
// the server (1 MiB unless configured); these are fixed.
const (
	MaxIDBytes     = 255
	MaxUserBytes   = 255
	MaxHeaderBytes = 16 << 10
	MaxFilters     = 16
)

// Message is one immutable unit of a log. Seq and Time are set when it is
// stored; after that nobody changes a message, and any number of goroutines
// may read it.
type Message struct {
	// Topic is where it was published.
	Topic Topic
	// Seq is its place in the topic's stream; 0 until it is stored.
	Seq Seq
	// Time is when it was stored, in whole microseconds.
	Time time.Time
	// Expires is when it stops being worth delivering; zero means never. An
	// expired message is neither read nor counted.
	Expires time.Time
	// ID is the publisher's own name for it, at most MaxIDBytes, or empty.
	// Whether it makes publishing idempotent is the protocol's choice.
	ID string
	// Sender is who published it.
	Sender Identity
	// Header is one line without LF, handed on byte for byte; by convention a
	// JSON object of strings. At most MaxHeaderBytes.
	Header string
	// Body is any bytes.
	Body []byte
	// Filters restrict who receives it: only readers who have the same value
	// under each key, of which there are user_id and application_id (their
	// device). A key that a reader does not have counts as "". Nil restricts
	// nothing.
	Filters map[string]string
}

// Expired reports whether m is no longer worth delivering at now.
func (m *Message) Expired(now time.Time) bool {
	return !m.Expires.IsZero() && !m.Expires.After(now)
}

// Size is what m costs in memory and is billed at by every bound that counts
// bytes: its texts and body plus a fixed overhead of 256.
func (m *Message) Size() int {
	n := 256 + len(m.Topic) + len(m.ID) + len(m.Sender.User) + len(m.Sender.Device) + len(m.Header) + len(m.Body)
	for k, v := range m.Filters {
		n += len(k) + len(v) + 32
	}
	return n
}

// Matches reports whether params satisfy m's filters: every key of the filter
// has the same value in params, a key that params lack counting as "".
func (m *Message) Matches(params map[string]string) bool {
	for k, v := range m.Filters {
		if params[k] != v {
			return false
		}
	}
	return true
}
