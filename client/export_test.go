package client

import (
	"context"
	"net/http"
	"time"

	"github.com/parley-im/parley/internal/wire"
)

// What the tests in package client_test need to see.
const (
	BufferBytes = bufferBytes
	Quiet       = defaultQuiet
	MaxRetry    = maxRetry
)

// DialWith is Dial over connections that open makes.
func DialWith(ctx context.Context, url string, o Options, open func(context.Context, string, http.Header) (wire.Conn, error)) (*Client, error) {
	return dial(ctx, url, o, open)
}

// DialWebSocket is how Dial opens connections.
func DialWebSocket(ctx context.Context, url string, header http.Header) (wire.Conn, error) {
	return dialWebSocket(ctx, url, header)
}

// Address is what Dial makes of a URL.
func Address(raw string) (string, error) { return address(raw) }

// Waits are n successive back-offs.
func (b Backoff) Waits(n int) []time.Duration {
	p := pacer{Backoff: b}
	waits := make([]time.Duration, n)
	for i := range waits {
		waits[i] = p.next(nil)
	}
	return waits
}

// Buffered is how much all subscriptions together hold.
func (c *Client) Buffered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for sub := range c.subs {
		n += sub.bytes
	}
	return n
}
