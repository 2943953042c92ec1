package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// issuer is where a load publishes its key.
type issuer struct {
	server  http.Server
	fetched atomic.Int64
}

// publishKey serves the signer's public key (JWKS) at an address, whatever the path, in
// a goroutine of g that close ends.
func publishKey(ctx context.Context, g *errgroup.Group, s *Signer, address string) (*issuer, error) {
	public := s.public
	public.Kid = s.KeyID
	set, err := json.Marshal(map[string][]jwk{"keys": {public}})
	if err != nil {
		return nil, err
	}
	at, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("publish the key: %w", err)
	}
	i := &issuer{}
	i.server.ReadHeaderTimeout = 5 * time.Second
	i.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i.fetched.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(set) // who does not get it asks again
	})
	g.Go(func() error {
		if err := i.server.Serve(at); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return i, nil
}

// close ends it and adds to the report how often the key was fetched.
func (i *issuer) close(r *Report) {
	_ = i.server.Close() // nobody needs its answers any more
	if len(*r) > 0 {
		r.add("keys fetched", "%s", thousands(i.fetched.Load()))
	}
}

// fetching bounds the wait until the server has the key: it does not ask for one
// more often than once a minute.
const fetching = 75 * time.Second

// known waits until the server accepts a token of the load's.
func (l *load) known(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, fetching, errors.New("the server does not accept the key"))
	defer cancel()
	auth, err := l.cfg.Signer.authRequest(l.cfg.user("k", 0))
	if err != nil {
		return err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err = l.visit(ctx, auth)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
	}
}
