package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
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
	// Token returns the token that proves who the client is. It is called for
	// every connection, and again when most of the time that the token has left
	// is over; an error is told by Dial, and later has it tried again. Return the
	// same token as long as it is good for a while.
	Token func(context.Context) (string, error)
	// APIKey proves who a back end is. It, Token, User and a certificate in TLS
	// exclude each other.
	APIKey string
	// User is who to be on a server in open mode, where nobody has to prove it.
	User string
	// Device names this installation of the program, for as long as it is
	// installed: the server keeps for each device what it has received. Of two
	// clients with one device, the newer one takes the place of the other, whose
	// calls then fail with parley.ErrConflict. Without a device the client is one
	// of any number that share the user's place in their inbox.
	Device string
	// DeviceName and Platform describe the device for people.
	DeviceName, Platform string
	// TLS are settings for https and wss, such as a client certificate, which
	// then proves who the client is; nil means the usual ones.
	TLS *tls.Config
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
func withDefaults(o Options) (Options, error) {
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
	if err := o.checkCredential(); err != nil {
		return o, err
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
		return "", fmt.Errorf("client: credentials belong in Options, not in the address: %w", parley.ErrInvalid)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = rpcPath
	}
	u.Fragment = ""
	return u.String(), nil
}
