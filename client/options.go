package client

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/parley-im/parley"
)

// The default bounds of [Backoff].
const (
	DefaultBackoffMin = 100 * time.Millisecond
	DefaultBackoffMax = 10 * time.Second
)

// rpcPath is where the native protocol is served.
const rpcPath = "/v1/rpc"

// Options adjust a [Client]. The zero value is useful.
type Options struct {
	// Name tells the server who is talking, as in "billing/1.2".
	Name string
	// Header is added to the HTTP request that opens the connection.
	Header http.Header
	// Producer identifies whoever publishes, as 32 hexadecimal digits. The
	// server stores a message once for each producer and message id. The
	// default is random: publishes are then safe to repeat within this Client.
	// Set it, and the ids of the messages, to repeat publishes safely across
	// restarts of the program. Two programs must not share one.
	Producer string
	// Backoff bounds the time between attempts to connect again.
	Backoff Backoff
	// Logger is told when the connection is lost and found again, and when the
	// server refuses the same request again and again for want of room or time;
	// nil means silence.
	Logger *slog.Logger
}

// Backoff bounds the time between attempts to connect: before attempt n it is
// random between 0 and Min·2ⁿ, n counting from 0, and never above Max. The
// counting starts again when a connection lasted longer than Max.
type Backoff struct {
	// Min is the bound for the first attempt; 0 means DefaultBackoffMin.
	Min time.Duration
	// Max is the greatest bound; 0 means DefaultBackoffMax.
	Max time.Duration
}

// withDefaults fills what o leaves open and checks the rest.
func (o Options) withDefaults() (Options, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Producer == "" {
		var id [16]byte
		_, _ = rand.Read(id[:]) // never fails
		o.Producer = hex.EncodeToString(id[:])
	}
	if p, err := hex.DecodeString(o.Producer); err != nil || len(p) != 16 {
		return o, fmt.Errorf("client: producer must be 32 hexadecimal digits: %w", parley.ErrInvalid)
	}
	if o.Backoff.Min == 0 {
		o.Backoff.Min = DefaultBackoffMin
	}
	if o.Backoff.Max == 0 {
		o.Backoff.Max = max(DefaultBackoffMax, o.Backoff.Min)
	}
	if o.Backoff.Min < 0 || o.Backoff.Max < o.Backoff.Min {
		return o, fmt.Errorf("client: back-off must have 0 < min <= max: %w", parley.ErrInvalid)
	}
	return o, nil
}

// address makes the WebSocket's URL from what the user calls the server. Its
// errors do not repeat raw: it may hold a secret.
func address(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", fmt.Errorf("client: the server's address is not a URL: %w", parley.ErrInvalid)
	}
	switch u.Scheme {
	case "http", "ws":
		u.Scheme = "ws"
	case "https", "wss":
		u.Scheme = "wss"
	default:
		return "", fmt.Errorf("client: the server's address must begin with http://, https://, ws:// or wss://: %w", parley.ErrInvalid)
	}
	switch {
	case u.Host == "":
		return "", fmt.Errorf("client: the server's address has no host: %w", parley.ErrInvalid)
	case u.User != nil:
		return "", fmt.Errorf("client: credentials belong in Options.Header, not in the address: %w", parley.ErrInvalid)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = rpcPath
	}
	u.Fragment = ""
	return u.String(), nil
}
