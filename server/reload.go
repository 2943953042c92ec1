package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/parley-im/parley/internal/wire"
)

// reloadedKeys are the settings that Reload applies to a running server.
func reloadedKeys() []string {
	return []string{
		"log", "retention", "inbox-retention", "dead-letter-retention", "allow-origin", "max-connections", "max-connections-per-ip", "max-connections-per-user", "rate", "user-quota", "write-timeout", "drain-timeout",
	}
}

// live is what Reload changes.
type live struct {
	// config is the configuration in force.
	config atomic.Pointer[Config]

	mu       sync.Mutex // one reload at a time; guards what follows
	limiters []*wire.Limiter
	conns    []*atomic.Pointer[wire.Config]
}

// config is the configuration in force. What cannot be reloaded may as well be
// read from s.cfg.
func (s *Server) config() *Config { return s.live.config.Load() }

// policy says who may connect: what it holds is replaced by a reload, so it is
// asked anew each time.
type policy struct{ atomic.Pointer[wire.Policy] }

// Check is as [wire.Policy.Check].
func (p *policy) Check(r *http.Request) error { return p.Load().Check(r) }

// CheckHost is as [wire.Policy.CheckHost].
func (p *policy) CheckHost(host string) error { return p.Load().CheckHost(host) }

// Changes are what Reload has found different, each as "key: value".
type Changes struct {
	// Applied is in force. Clients that are connected keep the write timeout
	// that they began with, and nobody is closed for a lower limit.
	Applied []string
	// Pending needs a restart.
	Pending []string
}

// Reload applies what differs in cfg as far as a running server can change it;
// see [Setting.Reloaded]. The files of certificates are read again, too. When
// anything is wrong nothing is changed, and the error is a *ConfigError, or
// wraps parley.ErrInvalid when it is about the certificate. It may be called at
// any time between New and the end of Run. Config.Logger and Log.Var are not
// looked at: they stay what they are.
func (s *Server) Reload(cfg Config) (Changes, error) {
	if err := cfg.Validate(); err != nil {
		return Changes{}, err
	}
	admitted, err := policyOf(&cfg)
	if err != nil {
		return Changes{}, err
	}
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	for _, c := range s.certificates {
		if err := c.reload(); err != nil {
			return Changes{}, err
		}
	}
	if err := s.meter(context.Background(), &cfg.Access); err != nil {
		return Changes{}, err
	}
	next := *s.config()
	changes := s.compare(&next, &cfg)
	s.live.config.Store(&next)
	admitted.Open = s.policy.Load().Open
	s.policy.Store(admitted)
	if next.Log.Var != nil {
		next.Log.Var.Set(next.Log.Level)
	}
	s.broker.SetRetention(rulesOf(next.Retention))
	s.broker.SetBounds(boundsOf(next.Inboxes), boundsOf(next.DeadLetters))
	s.sessions.limit(next.HTTP.Connections, next.HTTP.PerAddress)
	s.access.limit(&next.Access)
	for _, l := range s.live.limiters {
		l.Set(aboveLimit(next.HTTP.Connections), aboveLimit(next.HTTP.PerAddress))
	}
	for _, c := range s.live.conns {
		c.Store(s.current(c.Load()))
	}
	return changes, nil
}

// compare says what differs in wanted, and copies to next what can be reloaded.
func (s *Server) compare(next, wanted *Config) Changes {
	changes := Changes{Applied: []string{}}
	for _, setting := range Settings() {
		if slices.Equal(setting.get(next), setting.get(wanted)) {
			continue
		}
		value := strings.Join(setting.get(wanted), " ")
		if setting.Secret {
			value = hidden
		}
		change := setting.Key + ": " + value
		// The level of a logger that a program has made is that program's.
		if !setting.Reloaded || setting.Key == "log" && next.Log.Var == nil {
			changes.Pending = append(changes.Pending, change)
			continue
		}
		changes.Applied = append(changes.Applied, change)
		setting.copy(next, wanted)
	}
	return changes
}

// conns is how connections of a dialect behave, now and after each reload.
func (s *Server) conns(c *wire.Config) *atomic.Pointer[wire.Config] {
	s.live.mu.Lock()
	defer s.live.mu.Unlock()
	conns := new(atomic.Pointer[wire.Config])
	conns.Store(s.current(c))
	s.live.conns = append(s.live.conns, conns)
	return conns
}

// current is a copy of c with what is in force now.
func (s *Server) current(c *wire.Config) *wire.Config {
	now := *c
	now.Policy = *s.policy.Load()
	now.WriteTimeout = s.config().HTTP.WriteTimeout
	return &now
}

// policyOf says who may connect.
func policyOf(c *Config) (*wire.Policy, error) {
	admitted := &wire.Policy{Open: !c.HTTP.OpenToNetwork && !c.authenticates()}
	for _, text := range c.HTTP.Origins {
		origin, err := wire.ParseOrigin(text)
		if err != nil {
			return nil, fmt.Errorf("server: origin %q: %w", text, err)
		}
		admitted.Origins = append(admitted.Origins, origin)
	}
	return admitted, nil
}

// ReloadFrom reads a configuration as [Load] does, applies it as Reload does,
// and logs what came of it: what has changed, what needs a restart, or
// everything that is wrong while the old configuration stays.
func (s *Server) ReloadFrom(ctx context.Context, src Sources) {
	cfg, err := Load(src)
	var changes Changes
	if err == nil {
		changes, err = s.Reload(cfg) //nolint:contextcheck // what it begins in the store does not end with who asked
	}
	if wrong, ok := errors.AsType[*ConfigError](err); ok {
		for _, f := range wrong.Faults {
			s.logger.ErrorContext(ctx, "cannot reload: a fault in the configuration; the old one stays", "fault", f.String())
		}
		return
	}
	if err != nil {
		s.logger.ErrorContext(ctx, "cannot reload; the old configuration stays", "error", err)
		return
	}
	s.logger.InfoContext(ctx, "configuration reloaded", "changed", changes.Applied)
	if len(changes.Pending) > 0 {
		s.logger.WarnContext(ctx, "these settings change with the next start only", "settings", changes.Pending)
	}
}
