package server

import (
	"log/slog"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
)

// Config says how a server runs. Start from [Default] and change what differs;
// [New] checks the whole. Every field but Logger and Log.Var is also a setting that flags,
// the environment and a file can give, see [Settings] and [Load].
type Config struct {
	HTTP      HTTP
	Titan     Titan
	Texto     Texto
	Access    Access
	Auth      Auth
	Storage   Storage
	Limits    Limits
	Retention []Retention
	// Inboxes is what the inbox of each user keeps, DeadLetters what becomes of
	// the messages that each user's devices and durable subscriptions could not
	// deal with.
	Inboxes, DeadLetters Bounds
	Log                  Log
	// Profile is "cpu", "mem" or "block" for a profile that is written to the
	// working directory when the server stops; empty for none.
	Profile string
	// Drain bounds how long a stopping server takes to say goodbye and to
	// finish what it has begun.
	Drain time.Duration
	// Logger takes the place of the one that Log describes; it is not a
	// setting.
	Logger *slog.Logger
}

// HTTP says where the server listens, and for whom.
type HTTP struct {
	// Listen is host:port for plain HTTP; empty for none. Port 0 takes a free
	// one. Beside TLS, a Listen wider than loopback only redirects there.
	Listen string
	// TLS says where the server listens with TLS; by default nowhere.
	TLS TLS
	// OpenToNetwork allows Listen to be wider than loopback although anybody
	// who reaches it may then publish, read and connect without a credential.
	OpenToNetwork bool
	// PlainToNetwork allows Listen to be wider than loopback without TLS where
	// clients are asked for credentials, which can then be read on the way unless
	// a proxy has TLS.
	PlainToNetwork bool
	// Origins are the web origins, such as https://chat.example, whose pages
	// may connect in addition to the server's own.
	Origins []string
	// Gobbler serves the Gobbler protocol over WebSocket.
	Gobbler bool
	// GobblerPrefixes are where it is served; without any it is not.
	GobblerPrefixes []GobblerPrefix
	// GobblerDialect is which dialect of it is spoken, GobblerDeployed or
	// GobblerDocumented, where neither the prefix nor the client says another.
	GobblerDialect string
	// Health, Prometheus, Metrics (the old JSON form) and Toggles are the paths
	// of those endpoints; empty switches one off.
	Health, Prometheus, Metrics, Toggles string
	// Admin is host:port of a listener of its own for what is an operator's
	// business: metrics, profiles, purging. Empty serves that beside
	// everything else, to programs on this machine only.
	Admin string
	// AdminOpen allows Admin to be wider than loopback although nobody is asked
	// for a credential there.
	AdminOpen bool
	// Connections bounds all connections, PerAddress those from one address.
	Connections, PerAddress int
	// WriteTimeout is how long a client may take without reading anything
	// before it is closed as slow.
	WriteTimeout time.Duration
	// Compression agrees to compress WebSocket messages, in both directions,
	// with clients that offer it.
	Compression bool
}

// TLS is a listener with TLS.
type TLS struct {
	// Listen is host:port, or empty for none.
	Listen string
	// Cert and Key are PEM files: the certificate with its chain, and its key.
	// They are read again when they change.
	Cert, Key string
	// ACME takes the place of Cert and Key.
	ACME ACME
}

// Titan says how the clients of the Titan server and of Devastator are served.
type Titan struct {
	// WebSocket serves Titan's protocol at every path of the clients' listeners
	// that nothing else has.
	WebSocket bool
	// AckWait is how long a client has to acknowledge a message before it is
	// delivered again, and how long one that it refused waits.
	AckWait time.Duration
	// Test serves it at TestListen too, to whoever has a token signed with the
	// secret that Titan's tests use, which everybody knows. Then no listener may be
	// wider than loopback.
	Test       bool
	TestListen string
	// Devastator is host:port for Devastator's protocol over TLS; empty for none.
	Devastator string
	// DevastatorCert and DevastatorKey are its certificate, as those of TLS and
	// by default the same. Clients' are of the server's CA.
	DevastatorCert, DevastatorKey string
	// DevastatorOrder is the order of the bytes of a frame's length: LittleEndian
	// or BigEndian.
	DevastatorOrder string
}

// The orders of a length's bytes.
const (
	LittleEndian = "little"
	BigEndian    = "big"
)

// GobblerPrefix is one place of the Gobbler protocol.
type GobblerPrefix struct {
	// Path begins and ends with a slash.
	Path string
	// Dialect is spoken there; empty is that of HTTP.GobblerDialect.
	Dialect string
}

// The dialects of the Gobbler protocol: what its server spoke, and what its page
// documented.
const (
	GobblerDeployed   = "deployed"
	GobblerDocumented = "documented"
)

// Access says who may do what, and how much.
type Access struct {
	// Required asks everybody for a credential, even where API keys are the only
	// kind that there is.
	Required bool
	// Grants are what every user may do, besides what their credential and their
	// record say.
	Grants []account.Grant
	// PerUser bounds the connections of one user who has authenticated.
	PerUser int
	// Rates bound how often things are done. All that are about something count.
	Rates []RateLimit
	// Quota is how many bytes each user who has authenticated may have stored,
	// unless their record says something else; 0 is without bound.
	Quota int64
}

// Storage says where messages are kept.
type Storage struct {
	// Kind is "file", or "memory": nothing outlives the process.
	Kind string
	// Records is where the server's own records are kept: as Kind, or empty for
	// the same as Kind.
	Records string
	// Path is the directory of the store, made with mode 0700 when missing.
	// It is not used when all is in memory.
	Path string
	// Reserve is the free space in bytes below which nothing more is stored; 0
	// chooses by the size of the disk. It is never less than what the store
	// needs to go on.
	Reserve int64
}

// The kinds of storage.
const (
	StorageFile   = "file"
	StorageMemory = "memory"
)

// Limits bound what clients can make the server hold, in bytes.
type Limits struct {
	// Message bounds the body of one message.
	Message int64
	// PublishQueue bounds what has been received and is not yet durable; past
	// it a publish is answered with an error that says to try again.
	PublishQueue int64
	// Tail bounds the newest messages kept in memory for live readers; who
	// falls behind it reads from the store.
	Tail int64
}

// Retention is a rule for what one stream keeps. A zero bound keeps everything;
// the first bound that is exceeded drops the oldest messages.
type Retention struct {
	// Stream is whose rule this is; "*" stands for every stream that has no
	// rule of its own.
	Stream   parley.Stream
	Age      time.Duration
	Bytes    int64
	Messages int64
}

// Bounds are what a stream keeps: the first bound that is exceeded drops the
// oldest messages. A zero bound keeps everything; one of them must be given.
type Bounds struct {
	Age      time.Duration
	Bytes    int64
	Messages int64
}

// Log says what the server logs and how.
type Log struct {
	Level slog.Level
	// Format is "text", "json", "logstash" (JSON with the names of fields that
	// the Gobbler server had), or "auto": text on a terminal, otherwise JSON.
	Format string
	// Environment is where the server runs: "dev", "int", "pre" or "prod". It is
	// only shown in the log. Empty is not shown, and "dev" in the format
	// logstash.
	Environment string
	// Var, when it is not nil, holds the level of the loggers made by Logger,
	// so that it can change. It is not a setting.
	Var *slog.LevelVar
}

// The formats of the log.
const (
	LogAuto     = "auto"
	LogText     = "text"
	LogJSON     = "json"
	LogLogstash = "logstash"
)

// The profiles.
const (
	ProfileCPU    = "cpu"
	ProfileMemory = "mem"
	ProfileBlock  = "block"
)

// Default is a server on 127.0.0.1:8080 with its store in ./parley-data, that
// keeps topics for ever.
func Default() Config {
	return Config{
		HTTP: HTTP{
			Listen:          "127.0.0.1:8080",
			Gobbler:         true,
			GobblerPrefixes: []GobblerPrefix{{Path: "/stream/"}},
			GobblerDialect:  GobblerDeployed,
			Health:          "/admin/healthcheck",
			Prometheus:      "/admin/metrics",
			Metrics:         "/admin/metrics-old",
			Toggles:         "/admin/toggles",
			Connections:     100_000,
			PerAddress:      20_000,
			WriteTimeout:    20 * time.Second,
		},
		Titan: Titan{WebSocket: true, AckWait: 30 * time.Second, TestListen: "127.0.0.1:3001", DevastatorOrder: LittleEndian},
		Texto: Texto{Path: textoPath},
		Access: Access{
			PerUser: 1_000,
			Rates:   []RateLimit{{What: doAuth, Of: ofAddress, Count: 100, Per: time.Second, Burst: 1_000}},
		},
		Auth:        Auth{TokenTTL: 30 * 24 * time.Hour, CertificateTTL: 90 * 24 * time.Hour},
		Storage:     Storage{Kind: StorageFile, Path: "parley-data"},
		Limits:      Limits{Message: 1 << 20, PublishQueue: 64 << 20, Tail: 16 << 20},
		Inboxes:     Bounds{Age: 30 * 24 * time.Hour, Bytes: 256 << 20, Messages: 100_000},
		DeadLetters: Bounds{Age: 30 * 24 * time.Hour, Bytes: 64 << 20, Messages: 10_000},
		Log:         Log{Level: slog.LevelInfo, Format: LogAuto},
		Drain:       10 * time.Second,
	}
}
