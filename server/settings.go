package server

import (
	"log/slog"
	"slices"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
)

// Bounds of settings that the server could not work beyond.
const (
	maxMessage     = 64 << 20
	maxConnections = 10_000_000
)

// Settings are all settings in the order in which help and documentation list
// them; those that only say what to use instead come last.
func Settings() []Setting {
	settings := slices.Concat(
		grouped("Network", slices.Concat(httpSettings(), acmeSettings(), titanSettings(), textoSettings())),
		grouped("Access", accessSettings()),
		grouped("Identities", authSettings()),
		grouped("Store", storeSettings()),
		grouped("Running", runSettings()),
		absentSettings(),
	)
	reloaded := reloadedKeys()
	old := oldNames()
	for i := range settings {
		s := &settings[i]
		s.Reloaded = slices.Contains(reloaded, s.Key)
		if name := old[s.Key]; name != "" {
			for _, prefix := range oldPrefixes() {
				s.Fallbacks = append(s.Fallbacks, prefix+name)
			}
		}
	}
	return settings
}

// grouped puts settings under a heading.
func grouped(group string, settings []Setting) []Setting {
	for i := range settings {
		settings[i].Group = group
	}
	return settings
}

func httpSettings() []Setting {
	return []Setting{
		one("http", "address to listen on; beside https, one wider than loopback only redirects there", optional(address()),
			func(c *Config) *string { return &c.HTTP.Listen }),
		one("https", "address to listen on with TLS", optional(address()),
			func(c *Config) *string { return &c.HTTP.TLS.Listen }),
		one("tls-cert", "PEM file with the certificate and its chain; read again when it changes", file(),
			func(c *Config) *string { return &c.HTTP.TLS.Cert }),
		one("tls-key", "PEM file with the certificate's key, which others may not read", file(),
			func(c *Config) *string { return &c.HTTP.TLS.Key }),
		toggle("open-to-network", "listen beyond loopback although anybody who reaches the server may publish and read",
			func(c *Config) *bool { return &c.HTTP.OpenToNetwork }),
		toggle("plain-to-network", "with authentication, listen beyond loopback without TLS although credentials can be read on the way; for servers behind a proxy that has TLS",
			func(c *Config) *bool { return &c.HTTP.PlainToNetwork }),
		list("allow-origin", "web origin whose pages may connect, besides the server's own", origin(),
			func(c *Config) *[]string { return &c.HTTP.Origins }),
		toggle("ws", "serve the Gobbler protocol over WebSocket",
			func(c *Config) *bool { return &c.HTTP.Gobbler }),
		list("ws-prefix", "path of the Gobbler protocol over WebSocket, and the dialect there if it is not that of gobbler-dialect", gobblerPrefix(),
			func(c *Config) *[]GobblerPrefix { return &c.HTTP.GobblerPrefixes }),
		one("gobbler-dialect", "dialect of the Gobbler protocol: as its clients are deployed, or as it was documented", choice(GobblerDeployed, GobblerDocumented),
			func(c *Config) *string { return &c.HTTP.GobblerDialect }),
		one("health-endpoint", "path of the health check", endpoint(),
			func(c *Config) *string { return &c.HTTP.Health }),
		one("prometheus-endpoint", "path of the metrics", endpoint(),
			func(c *Config) *string { return &c.HTTP.Prometheus }),
		one("metrics-endpoint", "path of the metrics as JSON, as the Gobbler server had them", endpoint(),
			func(c *Config) *string { return &c.HTTP.Metrics }),
		one("toggles-endpoint", "path of the switches for parts of the server", endpoint(),
			func(c *Config) *string { return &c.HTTP.Toggles }),
		one("admin-listen", "address of a listener of its own for metrics, profiles and purging; without one they are served to this machine only", optional(address()),
			func(c *Config) *string { return &c.HTTP.Admin }),
		toggle("admin-open-to-network", "let admin-listen be wider than loopback although anybody who reaches it may look and purge",
			func(c *Config) *bool { return &c.HTTP.AdminOpen }),
		one("max-connections", "most connections at a time", count(1, maxConnections),
			func(c *Config) *int { return &c.HTTP.Connections }),
		one("max-connections-per-ip", "most connections at a time from one address", count(1, maxConnections),
			func(c *Config) *int { return &c.HTTP.PerAddress }),
		one("write-timeout", "time after which a client that reads nothing is closed", duration(time.Second, time.Hour),
			func(c *Config) *time.Duration { return &c.HTTP.WriteTimeout }),
		toggle("ws-compression", "compress WebSocket messages with clients that offer it (permessage-deflate)",
			func(c *Config) *bool { return &c.HTTP.Compression }),
	}
}

func titanSettings() []Setting {
	return []Setting{
		toggle("titan", "serve the Titan protocol over WebSocket at every path that nothing else has",
			func(c *Config) *bool { return &c.Titan.WebSocket }),
		one("titan-ack-wait", "time after which a Titan or Devastator client gets a message again that it has not acknowledged, or that it refused", duration(100*time.Millisecond, 24*time.Hour),
			func(c *Config) *time.Duration { return &c.Titan.AckWait }),
		toggle("titan-test", "serve it at titan-test-listen too, with the secret of Titan's tests, which everybody knows",
			func(c *Config) *bool { return &c.Titan.Test }),
		one("titan-test-listen", "address for titan-test, of loopback", address(),
			func(c *Config) *string { return &c.Titan.TestListen }),
		one("devastator-listen", "address to listen on for the Devastator protocol, with TLS", optional(address()),
			func(c *Config) *string { return &c.Titan.Devastator }),
		one("devastator-cert", "PEM file with the certificate of devastator-listen; empty is tls-cert", file(),
			func(c *Config) *string { return &c.Titan.DevastatorCert }),
		one("devastator-key", "PEM file with its key, which others may not read; empty is tls-key", file(),
			func(c *Config) *string { return &c.Titan.DevastatorKey }),
		one("devastator-byte-order", "order of the bytes of a frame's length there", choice(LittleEndian, BigEndian),
			func(c *Config) *string { return &c.Titan.DevastatorOrder }),
	}
}

func accessSettings() []Setting {
	return []Setting{
		toggle("auth", "ask everybody for a credential; a key for tokens, an issuer or a CA asks too, so this is for servers that have API keys only",
			func(c *Config) *bool { return &c.Access.Required }),
		list("grant", "what every user may do", grant(),
			func(c *Config) *[]account.Grant { return &c.Access.Grants }),
		one("max-connections-per-user", "most connections at a time of one user who has authenticated", count(1, maxConnections),
			func(c *Config) *int { return &c.Access.PerUser }),
		list("rate", "how often something may be done; past it clients are told when to try again", rateLimit(),
			func(c *Config) *[]RateLimit { return &c.Access.Rates }),
		one("user-quota", "most bytes that each user who has authenticated may have stored, in messages that they have sent and nothing has removed; past it what they send is refused; 0 is without bound",
			size(0, account.MaxQuota), func(c *Config) *int64 { return &c.Access.Quota }),
	}
}

// grant is operations on a topic.
func grant() kind[account.Grant] {
	return kind[account.Grant]{
		value: "GRANT", allowed: "OPERATION,…:TOPIC, where OPERATION is publish, subscribe, history, presence, send, admin or all, and TOPIC may have * for a segment " +
			"and {user} for the user's own, such as all:/chat/* or publish,history:/users/{user}",
		parse: account.ParseGrant, format: account.Grant.String,
	}
}

func storeSettings() []Setting {
	return []Setting{
		one("ms", "where messages are kept", messageStore(),
			func(c *Config) *string { return &c.Storage.Kind }),
		one("kvs", "where the server's own records are kept; empty is where messages are", recordStore(),
			func(c *Config) *string { return &c.Storage.Records }),
		one("storage-path", "directory of the store", path(),
			func(c *Config) *string { return &c.Storage.Path }),
		one("disk-reserve", "free space below which publishes are refused; 0 is 1 % of the disk, at most 1GiB; never less than the store needs to go on", size(0, 1<<50),
			func(c *Config) *int64 { return &c.Storage.Reserve }),
		list("retention", "what a stream keeps; without a rule it keeps everything", rule(),
			func(c *Config) *[]Retention { return &c.Retention }),
		one("inbox-retention", "what each user's inbox keeps", bounds(),
			func(c *Config) *Bounds { return &c.Inboxes }),
		one("dead-letter-retention", "what is kept of each user's dead letters", bounds(),
			func(c *Config) *Bounds { return &c.DeadLetters }),
		one("max-message", "largest body of a message", size(1, maxMessage),
			func(c *Config) *int64 { return &c.Limits.Message }),
		one("publish-queue", "most bytes received and not yet durable, past which publishes are refused for the moment", size(1<<20, 1<<40),
			func(c *Config) *int64 { return &c.Limits.PublishQueue }),
		one("tail", "bytes of the newest messages kept in memory for live readers", size(1<<20, 1<<40),
			func(c *Config) *int64 { return &c.Limits.Tail }),
	}
}

func runSettings() []Setting {
	return []Setting{
		one("log", "least severe level that is logged", level(),
			func(c *Config) *slog.Level { return &c.Log.Level }),
		one("log-format", "form of the log; auto is text on a terminal and JSON otherwise; logstash is JSON with the Gobbler server's names", choice(LogAuto, LogText, LogJSON, LogLogstash),
			func(c *Config) *string { return &c.Log.Format }),
		one("env", "name of the environment that the server runs in, for the log", environment(),
			func(c *Config) *string { return &c.Log.Environment }),
		one("profile", "profile that is written to the working directory when the server stops", optional(choice(ProfileCPU, ProfileMemory, ProfileBlock)),
			func(c *Config) *string { return &c.Profile }),
		one("drain-timeout", "longest time that stopping takes", duration(time.Second, time.Hour),
			func(c *Config) *time.Duration { return &c.Drain }),
	}
}

// rule is a retention rule.
func rule() kind[Retention] {
	return kind[Retention]{
		value: "RULE", allowed: retentionAllowed,
		parse: ParseRetention, format: Retention.String,
	}
}

// everyStream is the name of the rule for streams without one of their own.
const everyStream parley.Stream = "*"
