package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/parley-im/parley"
)

// Options say how to reach Redis.
type Options struct {
	Address Address
	// Password is Redis's, SentinelPassword that of the Sentinels; empty is none.
	Password, SentinelPassword string
	// Roots are the authorities that TLS trusts; nil is the system's.
	Roots *x509.CertPool
	// Logger is told when the connection is lost and back; nil is slog.Default().
	Logger *slog.Logger
}

const (
	dialTimeout = 2 * time.Second
	ioTimeout   = 2 * time.Second
	// poolSize bounds the connections that publish, and poolTimeout how long one
	// waits for one of them.
	poolSize    = 16
	poolTimeout = time.Second
	// silence is after how long a quiet connection is pinged; without an answer
	// for as long again it is given up.
	silence = 5 * time.Second
	// Between two attempts to connect are shortPause to longPause.
	shortPause = 50 * time.Millisecond
	longPause  = 2 * time.Second
	// proven is how long a connection has to last for the pause to be short again.
	proven = 5 * time.Second
)

// ErrAway is Redis that cannot be reached at the moment.
var ErrAway = fmt.Errorf("Redis cannot be reached: %w", parley.ErrUnavailable) //nolint:staticcheck // a name

// Client publishes and follows. Its methods may be called concurrently.
type Client struct {
	logger *slog.Logger
	redis  *goredis.Client
	gate   gate
	// deaf counts the patterns that are followed and not heard at the moment.
	deaf   atomic.Int64
	counts counts
}

type counts struct{ published, failed, received, connects atomic.Int64 }

// Stats is a snapshot of what a client has done.
type Stats struct {
	// Connected reports whether something is followed, and all of it heard.
	Connected bool
	// Published counts what Redis took, Failed what it did not, Received what came.
	Published, Failed, Received int64
	// Connects counts how often following began anew.
	Connects int64
}

// Open makes a client; it does not connect yet.
func Open(o Options) *Client {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	// What the library says on its own would stand between the lines of our log.
	goredis.SetLogger(quiet{})
	return &Client{logger: o.Logger, redis: dial(&o)}
}

// quiet drops what the library logs: its errors are returned as well.
type quiet struct{}

// Printf implements the library's logger.
func (quiet) Printf(context.Context, string, ...any) {}

// dial makes the library's client. Nothing is tried again by the library: a
// message that was published and not answered would come twice.
func dial(o *Options) *goredis.Client {
	var encrypted *tls.Config
	if o.Address.TLS {
		encrypted = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots}
	}
	if o.Address.Master != "" {
		return goredis.NewFailoverClient(&goredis.FailoverOptions{
			MasterName: o.Address.Master, SentinelAddrs: o.Address.Hosts, SentinelPassword: o.SentinelPassword,
			Username: o.Address.User, Password: o.Password, DB: o.Address.DB, TLSConfig: encrypted, MaxRetries: -1,
			DialTimeout: dialTimeout, ReadTimeout: ioTimeout, WriteTimeout: ioTimeout, ContextTimeoutEnabled: true, DialerRetries: 1,
			PoolSize: poolSize, PoolTimeout: poolTimeout, DisableIdentity: true,
		})
	}
	return goredis.NewClient(&goredis.Options{
		Addr: o.Address.Hosts[0], Username: o.Address.User, Password: o.Password, DB: o.Address.DB, TLSConfig: encrypted, MaxRetries: -1,
		DialTimeout: dialTimeout, ReadTimeout: ioTimeout, WriteTimeout: ioTimeout, ContextTimeoutEnabled: true, DialerRetries: 1,
		PoolSize: poolSize, PoolTimeout: poolTimeout, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		DisableIdentity: true,
	})
}

// Close ends all connections.
func (c *Client) Close() error { return c.redis.Close() }

// Stats takes a snapshot.
func (c *Client) Stats() Stats {
	n := &c.counts
	return Stats{
		Connected: n.connects.Load() > 0 && c.deaf.Load() == 0, Published: n.published.Load(), Failed: n.failed.Load(), Received: n.received.Load(),
		Connects: n.connects.Load(),
	}
}

// Publish hands payload to who is listening on channel. The error wraps
// parley.ErrUnavailable, and comes at once while Redis is known to be away or this
// client does not hear what it follows; then nobody has the message. After another
// error nobody knows.
func (c *Client) Publish(ctx context.Context, channel string, payload []byte) error {
	err := ctx.Err()
	if err == nil {
		err = c.publish(ctx, channel, payload)
	}
	if err != nil {
		c.counts.failed.Add(1)
		return fmt.Errorf("redis: publish: %w", err)
	}
	c.counts.published.Add(1)
	return nil
}

func (c *Client) publish(ctx context.Context, channel string, payload []byte) error {
	if c.deaf.Load() > 0 {
		return ErrAway
	}
	may, trial := c.gate.enter()
	if !may {
		return ErrAway
	}
	err := c.redis.Publish(ctx, channel, payload).Err()
	c.gate.leave(trial, err)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	return nil
}

// Follow calls fn with all that is published on the channels that pattern matches,
// one at a time, until ctx ends, and returns nil. It connects again by itself
// whenever it has to. fn must not block for long, for Redis ends a connection that
// falls too far behind, and must not keep payload.
func (c *Client) Follow(ctx context.Context, pattern string, fn func(payload []byte)) error {
	c.deaf.Add(1)
	heard := false
	hear := func(now bool) {
		if now == heard {
			return
		}
		if heard = now; now {
			c.deaf.Add(-1)
			c.gate.open()
		} else {
			c.deaf.Add(1)
		}
	}
	defer hear(true)
	c.again(ctx, func(up func()) error {
		ps := c.redis.PSubscribe(ctx)
		defer hear(false)
		return listen(ctx, ps, func() error { return ps.PSubscribe(ctx, pattern) }, func(event any) {
			switch e := event.(type) {
			case *goredis.Subscription:
				hear(true)
				up()
			case *goredis.Message:
				c.counts.received.Add(1)
				fn([]byte(e.Payload))
			}
		})
	})
	return nil
}

// again calls connect until ctx ends. Connect returns when its connection has
// ended, and calls up once it is well.
func (c *Client) again(ctx context.Context, connect func(up func()) error) {
	pause, away := shortPause, false
	for ctx.Err() == nil {
		var since time.Time
		err := connect(func() {
			since = time.Now()
			c.counts.connects.Add(1)
			if away {
				c.logger.InfoContext(ctx, "Redis is there again")
			}
			away = false
		})
		if ctx.Err() != nil {
			return
		}
		if !away {
			c.logger.WarnContext(ctx, "cannot reach Redis, and go on trying", "error", err)
			away = true
		}
		if !since.IsZero() && time.Since(since) > proven {
			pause = shortPause
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause/2)): //nolint:gosec // spreads a load
		}
		pause = min(2*pause, longPause)
	}
}

// listen subscribes and hands over what comes, until the connection fails or ctx
// ends. It closes ps.
func listen(ctx context.Context, ps *goredis.PubSub, subscribe func() error, on func(event any)) error {
	defer func() { _ = ps.Close() }() // twice, when ctx has ended
	stop := context.AfterFunc(ctx, func() { _ = ps.Close() })
	defer stop()
	if err := subscribe(); err != nil {
		return err
	}
	pinged := false
	for {
		event, err := ps.ReceiveTimeout(ctx, silence)
		if err == nil {
			pinged = false
			on(event)
			continue
		}
		if late, ok := errors.AsType[net.Error](err); !ok || !late.Timeout() || pinged {
			return err
		}
		pinged = true
		if err := ps.Ping(ctx); err != nil {
			return err
		}
	}
}
