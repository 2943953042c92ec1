package wire

import (
	"net/http"
	"slices"
	"time"
)

const (
	defaultMaxFrame     = 1 << 20
	defaultWriteTimeout = 20 * time.Second
)

// Config is how WebSocket connections behave. One Config serves any number of
// them and is not changed once in use.
type Config struct {
	// Keeper watches the connections. It is required, and should be running.
	Keeper *Keeper
	// Policy says which browsers may connect to this server.
	Policy Policy
	// MaxFrame bounds one message's bytes; 0 is 1 MiB. A longer one is refused
	// by its declared length, with close code 1009, and a compressed one as soon
	// as it has grown to more.
	MaxFrame int
	// AnyText hands on text that is not UTF-8; otherwise it ends the connection
	// with close code 1007. For protocols whose clients always did so.
	AnyText bool
	// AnyClose takes a close frame with half a code for one without a code;
	// otherwise it is a broken rule. For protocols whose servers always did so.
	AnyClose bool
	// Refuse answers a request that does not become a WebSocket, for protocols
	// whose clients know certain answers; nil is plain text with the reason. Status
	// is what Upgrade says, and the reason may be shown to the client.
	Refuse func(rw http.ResponseWriter, status int, reason string)
	// WriteTimeout is how long a peer may take nothing of what is written
	// before Write fails with ErrSlow; 0 is 20 s.
	WriteTimeout time.Duration
	// Subprotocols are agreed to: the first that the client offers and that is
	// among them. Others are ignored.
	Subprotocols []string
	// AnySubprotocol agrees to the first that the client offers, whatever it is,
	// for protocols that have none but whose clients may want one named.
	AnySubprotocol bool
	// Origins are admitted besides those of Policy, for protocols whose programs
	// name one of themselves although they are no browsers.
	Origins []Origin
	// AnyCode takes a close frame with a code that may not be sent for a goodbye;
	// otherwise it is a broken rule. For protocols whose clients always did so.
	AnyCode bool
	// Idle is how long a peer may be silent before the connection ends; 0 is what
	// the Keeper says.
	Idle time.Duration
	// Compression agrees to permessage-deflate (RFC 7692), without context
	// takeover on either side, when the client offers it.
	Compression bool
}

// Check is Policy.Check, with Origins admitted too.
func (c *Config) Check(r *http.Request) error {
	policy := c.Policy
	policy.Origins = slices.Concat(policy.Origins, c.Origins)
	return policy.Check(r)
}

func (c *Config) maxFrame() int {
	if c.MaxFrame > 0 {
		return c.MaxFrame
	}
	return defaultMaxFrame
}

func (c *Config) writeTimeout() time.Duration {
	if c.WriteTimeout > 0 {
		return c.WriteTimeout
	}
	return defaultWriteTimeout
}
