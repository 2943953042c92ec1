package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend/redis"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/texto"
	"github.com/parley-im/parley/internal/wire"
)

// Texto says how the Texto protocol is served.
type Texto struct {
	// Path is where, over WebSocket; empty for nowhere. Then its page is not served
	// either.
	Path string
	// Anonymous serves it although clients are asked for a credential, which this
	// protocol has no way to show: anybody who reaches the server may then chat.
	Anonymous bool
	// Redis is how its nodes hand messages to each other.
	Redis Redis
}

// Redis says where Redis is.
type Redis struct {
	// URL is redis://[USER@]HOST[:PORT][/DB], or
	// redis-sentinel://[USER@]HOST[:PORT],…/MASTER[/DB], or the same with rediss
	// for TLS; empty for none. It holds no password.
	URL string
	// Password is Redis's, SentinelPassword that of the Sentinels.
	Password, SentinelPassword string
	// CA is a PEM file with the authorities that TLS trusts; empty is those of the
	// system.
	CA string
}

const (
	textoName = "texto"
	textoPath = "/v1/texto"
	// textoPage is where the page is, with all that belongs to it.
	textoPage = "/texto"
	// textoIdle is above the 5 minutes after which the protocol itself says goodbye:
	// its clients need not answer pings.
	textoIdle = 6 * time.Minute
)

// errAnonymous is what a client learns where everybody is asked for a credential.
var errAnonymous = fmt.Errorf("the Texto protocol has no login, and this server asks for one; --texto-anonymous serves it to anybody: %w", parley.ErrForbidden)

func textoSettings() []Setting {
	return []Setting{
		one("texto", "path of the Texto protocol over WebSocket, whose page is at "+textoPage+"/; with authentication it needs texto-anonymous too", textoEndpoint(),
			func(c *Config) *string { return &c.Texto.Path }),
		toggle("texto-anonymous", "with authentication, serve the Texto protocol although it has no login and anybody who reaches the server may then chat",
			func(c *Config) *bool { return &c.Texto.Anonymous }),
		one("redis-url", "Redis by way of which Texto nodes hand messages to each other", optional(redisURL()),
			func(c *Config) *string { return &c.Texto.Redis.URL }),
		secretly(one("redis-password", "password of Redis", password(),
			func(c *Config) *string { return &c.Texto.Redis.Password })),
		secretly(one("redis-sentinel-password", "password of its Sentinels", password(),
			func(c *Config) *string { return &c.Texto.Redis.SentinelPassword })),
		one("redis-ca", "PEM file with the authorities whose certificates Redis may have; empty is those of the system", file(),
			func(c *Config) *string { return &c.Texto.Redis.CA }),
	}
}

// secretly makes a setting one that is never shown.
func secretly(s Setting) Setting {
	s.Secret = true
	return s
}

// textoEndpoint is the protocol's own path, or any that is free.
func textoEndpoint() kind[string] {
	k := endpoint()
	parse := k.parse
	k.allowed = textoPath + ", another path such as /chat that nothing else has, or empty for none"
	k.parse = func(s string) (string, error) {
		if s == textoPath {
			return s, nil
		}
		return parse(s)
	}
	return k
}

// redisURL is where Redis is.
func redisURL() kind[string] {
	return kind[string]{
		value: "URL", format: asIs,
		allowed: "redis://HOST:PORT, redis://USER@HOST:PORT/DB, or redis-sentinel://HOST:PORT,HOST:PORT/MASTER; " +
			"with TLS rediss and rediss-sentinel; passwords are settings of their own",
		parse: func(s string) (string, error) {
			if _, err := redis.ParseAddress(s); errors.Is(err, redis.ErrPassword) {
				return "", fmt.Errorf("%w (%w)", err, errUnshown)
			} else if err != nil {
				return "", err
			}
			return s, nil
		},
	}
}

// password is any text of one line.
func password() kind[string] {
	const longest = 1 << 10
	return kind[string]{
		value: "SECRET", allowed: "up to 1024 characters without control characters; or empty for none", format: asIs,
		parse: func(s string) (string, error) {
			for _, r := range s {
				if r < ' ' || r == '\x7f' {
					return "", errors.New("has a control character")
				}
			}
			if len(s) > longest {
				return "", errors.New("is too long")
			}
			return s, nil
		},
	}
}

// textoFaults checks what one setting alone cannot show.
func (c *Config) textoFaults(add func(key, problem string)) {
	t := &c.Texto
	if t.Redis.URL == "" {
		for _, s := range []struct{ key, value string }{
			{"redis-password", t.Redis.Password}, {"redis-sentinel-password", t.Redis.SentinelPassword}, {"redis-ca", t.Redis.CA},
		} {
			if s.value != "" {
				add(s.key, "is not used without --redis-url URL")
			}
		}
		return
	}
	at, err := redis.ParseAddress(t.Redis.URL)
	if err != nil {
		return // said already
	}
	if t.Path == "" {
		add("redis-url", "is not used without --texto PATH")
	}
	if t.Redis.SentinelPassword != "" && at.Master == "" {
		add("redis-sentinel-password", "is not used without Sentinels in --redis-url")
	}
	if t.Redis.CA != "" && !at.TLS {
		add("redis-ca", "is not used without TLS in --redis-url")
	}
}

// textoAnonymous reports whether Texto is open to anybody although others are asked
// for a credential.
func (c *Config) textoAnonymous() bool {
	return c.authenticates() && c.Texto.Path != "" && c.Texto.Anonymous
}

// textoRefused reports whether Texto is not served because others are asked for a
// credential.
func (c *Config) textoRefused() bool {
	return c.authenticates() && c.Texto.Path != "" && !c.Texto.Anonymous
}

// openTexto makes the relay, and with it the client of Redis if there is one. It
// does not connect.
func (s *Server) openTexto() error {
	t := &s.cfg.Texto
	cfg := texto.Config{TextBytes: int(s.cfg.Limits.Message), WaitingBytes: s.cfg.Limits.PublishQueue, Logger: s.logger}
	if t.Redis.URL != "" && !s.cfg.textoRefused() {
		address, err := redis.ParseAddress(t.Redis.URL)
		if err != nil {
			return fmt.Errorf("server: redis-url %w: %w", err, parley.ErrInvalid)
		}
		options := redis.Options{Address: address, Password: t.Redis.Password, SentinelPassword: t.Redis.SentinelPassword, Logger: s.logger}
		if t.Redis.CA != "" {
			if options.Roots, err = readRoots("redis-ca", t.Redis.CA); err != nil {
				return err
			}
		}
		s.redis = redis.Open(options)
		cfg.Publish = s.redis.Publish
	}
	s.texto = texto.NewRelay(cfg)
	return nil
}

// relayTexto looks after the sessions of Texto, and follows what other nodes
// publish, until ctx ends.
func (s *Server) relayTexto(ctx context.Context) error {
	if s.redis == nil {
		return s.texto.Run(ctx)
	}
	var following sync.WaitGroup
	defer func() { _ = s.redis.Close() }() // nobody sends any more
	defer following.Wait()
	following.Go(func() { _ = s.redis.Follow(ctx, texto.Channels, s.texto.Deliver) }) // it ends with ctx alone
	return s.texto.Run(ctx)
}

// textoDialect speaks the Texto protocol.
func (s *Server) textoDialect() *dialect {
	const twice = 2 // text of which every character is escaped once
	config := s.wireConfig(twice*int(s.cfg.Limits.Message) + 64<<10)
	config.AnyText, config.AnyClose, config.Compression = true, true, false
	config.Idle = textoIdle
	config.Refuse = texto.Refuse
	return &dialect{
		name: textoName,
		wire: config,
		begin: func(r *http.Request, _ *account.Principal) (func(*wire.WebSocket) protocol.Conversation, error) {
			if s.cfg.textoRefused() {
				return nil, errAnonymous
			}
			greet, watch := texto.Greets(r.URL.Query()), s.watch(r.Context(), s.at(r, textoName))
			return func(conn *wire.WebSocket) protocol.Conversation {
				anyone := account.Anyone(parley.Identity{})
				return s.texto.Conversation(conn, s.broker, texto.Terms{
					Greet: greet,
					// Nothing that its clients can ask for needs leave; Open keeps
					// them from being asked who they are.
					Principal: anyone,
					Spend: func(to texto.UUID, bytes int) error {
						return watch.Spend(anyone, account.Send, parley.Topic(textoPage+"/"+to.String()), bytes)
					},
				})
			}, nil
		},
	}
}

// textoRoutes are the protocol and its page.
func (s *Server) textoRoutes(ctx context.Context, mux *http.ServeMux) {
	path := s.cfg.Texto.Path
	if path == "" {
		return
	}
	mux.Handle(path, s.upgrade(ctx, s.textoDialect()))
	mux.Handle(path+"/", http.NotFoundHandler())
	if !s.cfg.textoRefused() {
		mux.Handle("GET "+textoPage+"/", texto.Page(textoPage+"/", path))
		mux.Handle("GET "+textoPage, http.RedirectHandler(textoPage+"/", http.StatusMovedPermanently))
	}
}

func textoMetrics() []metric {
	return []metric{
		gauge("texto_anonymous", "1 when anybody may chat by Texto although other clients are asked for a credential.",
			func(s *snapshot) float64 { return flag(s.server.cfg.textoAnonymous()) }),
		gauge("texto_waiting_bytes", "Texto messages that their recipients have yet to read.", func(s *snapshot) float64 { return float64(s.texto.Waiting) }),
		counter("texto_sent_messages_total", "Texto messages of clients that were acknowledged.", func(s *snapshot) float64 { return float64(s.texto.Sent) }),
		counter("texto_failed_messages_total", "Texto messages of clients that were answered with EBROKER.", func(s *snapshot) float64 { return float64(s.texto.Failed) }),
		counter("texto_delivered_messages_total", "Texto messages handed to a session of this node.", func(s *snapshot) float64 { return float64(s.texto.Delivered) }),
		counter("texto_astray_messages_total", "Texto messages for a session that this node does not have.", func(s *snapshot) float64 { return float64(s.texto.Astray) }),
		counter("texto_overflowed_messages_total", "Texto messages lost because their recipient did not read.", func(s *snapshot) float64 { return float64(s.texto.Overflowed) }),
		counter("texto_unreadable_messages_total", "What other Texto nodes published and was no message.", func(s *snapshot) float64 { return float64(s.texto.Unreadable) }),
		gauge("redis_connected", "1 while Redis is heard; 0 without Redis.", func(s *snapshot) float64 { return flag(s.redis.Connected) }),
		counter("redis_connects_total", "Times that following Redis began.", func(s *snapshot) float64 { return float64(s.redis.Connects) }),
		labelled(prometheus.CounterValue, "redis_messages_total", "Messages to and from Redis; failed are those that it did not take.", "way",
			func(s *snapshot) map[string]int64 {
				return map[string]int64{"out": s.redis.Published, "in": s.redis.Received, "failed": s.redis.Failed}
			}),
	}
}
