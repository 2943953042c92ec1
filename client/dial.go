package client

import (
	"context"
	"crypto/tls"
	"net/http"

	"github.com/parley-im/parley/internal/wire"
)

// webSocket is the dialFunc of real connections.
func webSocket(secure *tls.Config) dialFunc {
	return func(ctx context.Context, url string, header http.Header) (wire.Conn, error) {
		conn, err := wire.DialTLS(ctx, url, header, secure)
		if err != nil {
			return nil, err
		}
		return conn, nil
	}
}
