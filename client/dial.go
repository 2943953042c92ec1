package client

import (
	"context"
	"net/http"

	"github.com/parley-im/parley/internal/wire"
)

// dialWebSocket is the dialFunc of real connections.
func dialWebSocket(ctx context.Context, url string, header http.Header) (wire.Conn, error) {
	conn, err := wire.Dial(ctx, url, header)
	if err != nil {
		return nil, err
	}
	return conn, nil
}
