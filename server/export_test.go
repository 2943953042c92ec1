package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/auth"
	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/wire"
)

// Converse holds a conversation as one that came over HTTP.
func (s *Server) Converse(ctx context.Context, c protocol.Conversation) {
	c.Broker = s.broker
	s.converse(ctx, peer{protocol: "test"}, c)
}

// Upgrade answers requests with conversations that begin so, behind what all
// requests go through.
func (s *Server) Upgrade(ctx context.Context, begin func()) http.Handler {
	return s.guard(s.policy.CheckHost, s.upgrade(ctx, &dialect{
		name: "test", verify: s.access.verify, wire: s.wireConfig(0),
		begin: func(*http.Request, *account.Principal) (func(*wire.WebSocket) protocol.Conversation, error) {
			begin()
			return nil, fmt.Errorf("none: %w", parley.ErrInvalid)
		},
	}))
}

// TakenCredential is what is taken of a request, and what others see of it.
func TakenCredential(r *http.Request) (kind account.CredentialKind, secret, user string, seen *http.Request, err error) {
	takeCredential(http.HandlerFunc(func(_ http.ResponseWriter, inner *http.Request) {
		c := credentialOf(inner)
		kind, secret, user, err, seen = c.Kind, c.Secret, c.user, c.err, inner
	})).ServeHTTP(nil, r)
	return kind, secret, user, seen, err
}

// Connections is how many connections were admitted.
func (s *Server) Connections() int { return s.sessions.connections() }

// Panics is how many panics were survived.
func (s *Server) Panics() int64 { return s.count.panics.Load() }

// Timeouts are the write timeouts of new connections, by dialect, and the time
// that stopping may take.
func (s *Server) Timeouts() (writes []time.Duration, drain time.Duration) {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	for _, c := range s.live.conns {
		writes = append(writes, c.Load().WriteTimeout)
	}
	return writes, s.config().Drain
}

// Admit says whether a request may connect.
func (s *Server) Admit(r *http.Request) error { return s.policy.Check(r) }

// Retain applies the retention rules now.
func (s *Server) Retain(ctx context.Context) error { return s.broker.Retain(ctx) }

// Issuer makes tokens of this server.
func (s *Server) Issuer() *auth.Authenticator { return s.access.issuer }

// SetReady pretends that the server is starting or stopping.
func (s *Server) SetReady(ready bool) { s.ready.Store(ready) }

// DiskFull and DiskLow judge a disk.
func DiskFull(s pebble.Space) error { return full(s) }

// DiskLow says whether somebody should make room soon.
func DiskLow(s pebble.Space) bool { return low(s) }

// OnceASecond is what bounds how often a check runs.
func OnceASecond(check func(context.Context) error) func(context.Context) error {
	return onceASecond(check)
}

// EffectiveSecret is Effective where the only setting is token, a secret that may
// be anything but "wrong".
func EffectiveSecret(src Sources) (string, error) {
	k := path()
	k.parse = func(s string) (string, error) {
		if s == "wrong" {
			return "", errors.New("is wrong")
		}
		return s, nil
	}
	token := one("token", "a secret", k, func(c *Config) *string { return &c.Storage.Path })
	token.Secret = true
	return effective([]Setting{token}, src)
}

// Unwind runs steps, each a name and how long it takes, under a deadline.
func Unwind(deadline time.Duration, steps []string, takes map[string]time.Duration) ([]string, error) {
	var down stack
	var done []string
	for _, name := range steps {
		down.push(name, func(ctx context.Context) error {
			select {
			case <-time.After(takes[name]):
				done = append(done, name)
				if takes[name] == Fails {
					return errors.New("broken")
				}
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	return done, down.unwind(ctx, slog.New(slog.DiscardHandler))
}

// Fails is how long a step takes that fails.
const Fails = time.Nanosecond

// LookAtCertificate does at once what the server does every few seconds.
func (s *Server) LookAtCertificate(ctx context.Context) error { return s.certificate.look(ctx, nil) }

// RegisterToggle adds a part that can be switched; before Run.
func (s *Server) RegisterToggle(name string, part func(ctx context.Context, on bool) error) {
	s.toggles.register(name, part)
}

// FormatDuration writes what ParseDuration reads.
func FormatDuration(d time.Duration) string { return formatDuration(d) }
