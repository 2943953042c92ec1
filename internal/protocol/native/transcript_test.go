package native_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/native"
	"github.com/parley-im/parley/internal/protocol/protocoltest"
	"github.com/parley-im/parley/internal/wire"
)

// start runs a broker over an empty store until the test ends, and says how to
// connect to it.
func start(t *testing.T) protocoltest.Open {
	t.Helper()
	db, err := pebble.Open(t.TempDir(), pebble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := broker.New(broker.Config{Log: db, KV: db})
	ctx, cancel := context.WithCancel(context.Background())
	var running, serving sync.WaitGroup
	running.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		serving.Wait()
		cancel()
		running.Wait()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return func(string) (wire.Conn, error) {
		client, server := wire.Pipe()
		serving.Go(func() {
			c := protocol.Conversation{
				Conn: server, Codec: native.New(server, terms()), Broker: b, Authenticate: believe, Protocol: "native",
			}
			var goodbye *wire.CloseError
			if err := protocol.Serve(ctx, c); !errors.As(err, &goodbye) {
				t.Errorf("a conversation ended with %v", err)
			}
		})
		return client, nil
	}
}

// believe is open mode: who says a name is known by it.
func believe(_ context.Context, c account.Credential) (*account.Login, error) {
	if c.Kind != account.Claim {
		return nil, fmt.Errorf("the credential is not accepted: %w", parley.ErrUnauthenticated)
	}
	return &account.Login{Principal: account.Anyone(parley.Identity{User: c.User, Device: c.Device})}, nil
}

// What docs/protocol/native.md says, the server does.
func TestTranscripts(t *testing.T) {
	protocoltest.Run(t, "../../../docs/protocol/native.md", protocoltest.Dialect{
		Name:   "native",
		Text:   true,
		Probe:  `{"jsonrpc":"2.0","id":"are you there?","method":"ping"}`,
		Answer: `{"jsonrpc":"2.0","id":"are you there?","result":{}}`,
		Start:  start,
	})
}
