package wire

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/gobwas/ws"

	"github.com/parley-im/parley"
)

// clientMaxFrame bounds what a client takes of its server, which sends many
// messages in one frame.
const clientMaxFrame = 64 << 20

// StatusError is the HTTP status of a server that did not upgrade.
type StatusError int

// Error names the status.
func (e StatusError) Error() string {
	return "wire: the server answered " + strconv.Itoa(int(e)) + " " + http.StatusText(int(e))
}

// Dial connects to a server, at a ws, wss, http or https URL, within ctx. The
// header is added to the request; a Sec-WebSocket-Protocol in it offers
// subprotocols, and the server may agree to one of them. No Keeper runs for the connection: whether
// the server still lives is the caller's to find out. The error is a
// StatusError when the server refused.
func Dial(ctx context.Context, address string, header http.Header) (*WebSocket, error) {
	return dial(ctx, address, header, nil)
}

// DialTLS is Dial with settings of TLS, such as a client certificate; nil is as
// Dial.
func DialTLS(ctx context.Context, address string, header http.Header, secure *tls.Config) (*WebSocket, error) {
	return dial(ctx, address, header, secure)
}

func dial(ctx context.Context, address string, header http.Header, secure *tls.Config) (*WebSocket, error) {
	// Errors name the host only, for a query may hold a secret.
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("wire: dial: the address is not a URL: %w", parley.ErrInvalid)
	}
	switch u.Scheme {
	case "http", "ws":
		u.Scheme = "ws"
	case "https", "wss":
		u.Scheme = "wss"
	default:
		return nil, fmt.Errorf("wire: dial %s: the scheme must be http, https, ws or wss: %w", u.Host, parley.ErrInvalid)
	}
	offer := tokens(header, "Sec-WebSocket-Protocol")
	if offer != nil {
		header = header.Clone()
		header.Del("Sec-WebSocket-Protocol")
	}
	dialer := ws.Dialer{Timeout: handshakeTime, Header: ws.HandshakeHeaderHTTP(header), Protocols: offer, TLSConfig: secure}
	conn, behind, agreed, err := dialer.Dial(ctx, u.String())
	if err != nil {
		if status, ok := errors.AsType[ws.StatusError](err); ok {
			err = StatusError(status)
		}
		return nil, fmt.Errorf("wire: dial %s: %w", u.Host, err)
	}
	early, err := peekAll(behind)
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("wire: dial %s: %w", u.Host, err)
	}
	w := newWebSocket(conn, &Config{Keeper: new(Keeper), MaxFrame: clientMaxFrame}, newMasks(), early)
	w.agreed = agreed.Protocol
	if behind != nil {
		ws.PutReader(behind)
	}
	return w, nil
}

// peekAll is what is buffered in r, which may be nil.
func peekAll(r *bufio.Reader) ([]byte, error) {
	if r == nil {
		return nil, nil
	}
	return r.Peek(r.Buffered())
}
