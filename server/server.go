package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/audit"
	"github.com/parley-im/parley/internal/backend/redis"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/clock"
	"github.com/parley-im/parley/internal/httpapi"
	"github.com/parley-im/parley/internal/protocol/texto"
	"github.com/parley-im/parley/internal/protocol/titan"
	"github.com/parley-im/parley/internal/wire"
)

// How long connections may be silent, and how slow.
const (
	pingInterval   = 25 * time.Second
	idleTimeout    = 60 * time.Second
	messageTimeout = 30 * time.Second
	headerTimeout  = 10 * time.Second
	maxHeaderBytes = 64 << 10
)

// Server is one messaging server. Make it with New, then call Run, which also
// releases what New has taken.
type Server struct {
	cfg    Config
	logger *slog.Logger
	listeners
	certificate      *certificate   // nil without TLS, or with ordered
	certificates     []*certificate // all of all listeners, but those of ordered
	ordered          *ordered       // nil without ACME
	ids              *titan.IDs
	devastatorConfig *tls.Config
	clock            *clock.Clock
	store            *store
	broker           *broker.Broker
	accounts         *account.Directory
	arriving         *broker.Room // for bodies of requests
	api              *httpapi.API
	keeper           wire.Keeper
	policy           policy
	access           access
	sessions         *sessions
	talks            sync.WaitGroup // one for each conversation
	count            counters
	census           census
	toggles          toggles
	ready            atomic.Bool
	profile          *profile // nil without one
	live             live
	texto            *texto.Relay
	redis            *redis.Client // nil without
}

// New checks cfg, opens the store, and listens; clients that connect are served
// once Run is called. The error wraps parley.ErrInvalid when the configuration
// is wrong and parley.ErrUnavailable when another process has the store open.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Log.Var = cmp.Or(cfg.Log.Var, new(slog.LevelVar))
		cfg.Logger = cfg.Log.Logger(os.Stderr, false)
	}
	s := &Server{
		cfg:      cfg,
		logger:   cfg.Logger,
		keeper:   wire.Keeper{PingInterval: pingInterval, IdleTimeout: idleTimeout, MessageTimeout: messageTimeout},
		sessions: newSessions(cfg.HTTP.Connections, cfg.HTTP.PerAddress),
	}
	s.toggles.logger = s.logger
	s.access.audit = audit.New(s.logger)
	s.access.limit(&cfg.Access)
	s.live.config.Store(&cfg)
	admitted, err := policyOf(&cfg)
	if err != nil {
		return nil, err
	}
	s.policy.Store(admitted)
	s.clock = clock.New(clock.Options{Elapsed: elapsed(), Logger: s.logger})
	if err := s.openTLS(); err != nil {
		return nil, err
	}
	if s.store, err = openStore(cfg.Storage, s.logger, s.clock); err != nil {
		return nil, err
	}
	s.broker = broker.New(s.brokerConfig())
	s.arriving = broker.NewRoom(cfg.Limits.PublishQueue)
	if err := s.broker.LoadRules(context.Background()); err != nil {
		return nil, errors.Join(fmt.Errorf("server: retention: %w", err), s.store.Close())
	}
	if err := s.openAccounts(context.Background()); err != nil {
		return nil, errors.Join(err, s.store.Close())
	}
	if err := s.meter(context.Background(), &cfg.Access); err != nil {
		return nil, errors.Join(err, s.store.Close())
	}
	if err := s.openAccess(); err != nil {
		return nil, errors.Join(err, s.store.Close())
	}
	if err := s.openTitan(context.Background()); err != nil {
		return nil, errors.Join(err, s.store.Close())
	}
	if err := s.openTexto(); err != nil {
		return nil, errors.Join(err, s.store.Close())
	}
	if s.listeners, err = listen(&cfg); err != nil {
		return nil, errors.Join(err, s.store.Close())
	}
	if cfg.Profile != "" {
		if s.profile, err = startProfile(cfg.Profile); err != nil {
			return nil, errors.Join(err, s.close(), s.store.Close())
		}
	}
	s.api = httpapi.New(httpapi.Config{
		Log: s.store, Broker: s.broker, Logger: s.logger, Admit: s.policy.Check, Subscribe: s.events(context.Background()), Principal: s.restCaller, Denied: s.denied, Spend: s.spend, Over: s.over,
		Separate: s.admin != nil, Version: version, Arriving: s.arriving, AnswerBytes: s.cfg.Limits.PublishQueue,
		Accounts: s.accountRoutes(),
	})
	return s, nil
}

// brokerConfig translates the configuration.
func (s *Server) brokerConfig() broker.Config {
	return broker.Config{
		Log:        s.store,
		Clock:      s.clock,
		KV:         s.store,
		Logger:     s.logger,
		Limits:     broker.Limits{MessageBytes: int(s.cfg.Limits.Message)},
		QueueBytes: int(s.cfg.Limits.PublishQueue),
		TailBytes:  int(s.cfg.Limits.Tail),
		Retention:  rulesOf(s.cfg.Retention),
		Inbox:      boundsOf(s.cfg.Inboxes),
		Dead:       boundsOf(s.cfg.DeadLetters),
		Quota:      s.quotaOf,
	}
}

// rulesOf translates the configured retention rules; this is the one place they
// come from. The rule for every stream comes last, because the first that
// matches counts.
func rulesOf(configured []Retention) []broker.Rule {
	var rules, last []broker.Rule
	for _, r := range configured {
		rule := broker.Rule{Stream: string(r.Stream), Age: r.Age, Bytes: r.Bytes, Messages: int(r.Messages)}
		if r.Stream == everyStream {
			last = append(last, rule)
			continue
		}
		rules = append(rules, rule)
	}
	return append(rules, last...)
}

// Run serves until ctx ends, then says goodbye to every client and stops, all
// within Config.Drain. It returns nil after a clean stop, and otherwise what
// failed. It must be called once, even when the server is not wanted any more
// (ctx may be over already), for it releases the store and the port.
func (s *Server) Run(ctx context.Context) error {
	var down stack
	failed := make(chan error, 8)
	down.push("close the store", func(context.Context) error { return s.store.Close() })
	s.start(ctx, &down, failed, task{"store messages", s.broker.Run})
	s.start(ctx, &down, failed, task{"keep accounts", s.accounts.Run})
	s.start(ctx, &down, failed, task{"watch connections", s.keeper.Run})
	s.start(ctx, &down, failed, task{"watch the disk", s.watchDisk})
	for _, a := range s.access.authenticators {
		s.start(ctx, &down, failed, task{"fetch keys", a.Run})
	}
	s.start(ctx, &down, failed, task{"relay Texto messages", s.relayTexto})
	for _, c := range s.certificates {
		s.start(ctx, &down, failed, task{"watch a certificate", c.watch})
	}
	if s.ordered != nil {
		s.start(ctx, &down, failed, task{"order certificates", s.ordered.run})
	}
	if s.admin != nil {
		s.start(ctx, &down, failed, task{"serve operators", s.serveOperators})
	}
	// Clients are told goodbye while the requests in hand are finished: one that
	// does not end must not keep the others waiting.
	stopListening, finish := launch(ctx, failed, task{"serve clients", s.serveClients})
	down.push("finish requests", finish)
	down.push("say goodbye", s.goodbye)
	down.push("stop listening", func(context.Context) error {
		stopListening()
		return nil
	})
	down.push("be not ready", func(context.Context) error {
		s.ready.Store(false)
		return nil
	})
	s.announce(ctx)
	s.ready.Store(true)

	var err error
	select {
	case <-ctx.Done():
		s.logger.InfoContext(ctx, "stopping")
	case err = <-failed:
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config().Drain)
	defer cancel()
	err = errors.Join(err, down.unwind(last, s.logger))
	if s.profile != nil {
		err = errors.Join(err, s.finishProfile(last))
	}
	if err == nil {
		s.logger.InfoContext(ctx, "stopped")
	}
	return err
}

// task is a part that runs until its context ends.
type task struct {
	name string
	run  func(context.Context) error
}

// start runs a task and pushes the step that stops it.
func (s *Server) start(ctx context.Context, down *stack, failed chan<- error, t task) {
	stop, finish := launch(ctx, failed, t)
	down.push(t.name, func(last context.Context) error {
		stop()
		return finish(last)
	})
}

// launch runs a task until stop is called; finish waits until it has ended. What
// a task returns goes to failed.
func launch(ctx context.Context, failed chan<- error, t task) (stop context.CancelFunc, finish func(last context.Context) error) {
	ctx, stop = context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		defer close(done)
		if err := t.run(ctx); err != nil {
			failed <- fmt.Errorf("%s: %w", t.name, err)
		}
	})
	return stop, func(last context.Context) error {
		select {
		case <-done:
			running.Wait()
			return nil
		case <-last.Done():
			return context.Cause(last)
		}
	}
}

// goodbye ends all conversations: each client is told when to come back, at
// random, so that not all come at once.
func (s *Server) goodbye(ctx context.Context) error {
	err := s.sessions.drain(ctx, func() {
		s.broker.Goodbye(func() *broker.Bye {
			return &broker.Bye{Code: broker.ByeShutdown, Reason: errStopping.Error(), Retry: retryAfter()}
		})
	})
	if err == nil {
		s.talks.Wait()
	}
	return err
}

// retryAfter is when a client that was sent away may come back: half a second
// to five seconds.
func retryAfter() time.Duration {
	const least, most = 500 * time.Millisecond, 5 * time.Second
	return least + rand.N(most-least) //nolint:gosec // spreads a load
}
