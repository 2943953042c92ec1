package server

import (
	"context"
	"io"
	"log/slog"
	"os"
	"time"
)

// logstash writes one JSON object for each record, with the field names that the
// Gobbler server gave its logs for Logstash:
//
//	{"@timestamp":"…","loglevel":"info","msg":"serving","service":"parley",
//	 "application_type":"service","log_type":"application",
//	 "environment":"prod","host":"node1", …}
//
// An attribute with the name of one of these that come from the record or the
// machine is written with "fields." before it.
type logstash struct{ json slog.Handler }

var _ slog.Handler = logstash{}

func newLogstash(w io.Writer, level slog.Leveler, environment string) logstash {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	json := slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: logstashNames})
	return logstash{json.WithAttrs([]slog.Attr{
		slog.String("service", "parley"),
		slog.String("application_type", "service"),
		slog.String("log_type", "application"),
		slog.String("environment", environment),
		slog.String("host", host),
	})}
}

// logstashNames renames what slog itself writes; attributes have come through
// apart, and none of theirs is one of these.
func logstashNames(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		return slog.String("@timestamp", a.Value.Time().Format(time.RFC3339Nano))
	case slog.LevelKey:
		return slog.String("loglevel", logstashLevel(a.Value))
	}
	return a
}

// logstashLevel is a level by the name that the Gobbler server had for it.
func logstashLevel(v slog.Value) string {
	level, ok := v.Any().(slog.Level)
	switch {
	case !ok:
		return v.String()
	case level >= slog.LevelError:
		return "error"
	case level >= slog.LevelWarn:
		return "warning"
	case level >= slog.LevelInfo:
		return "info"
	}
	return "debug"
}

// apart renames an attribute whose name is taken.
func apart(a slog.Attr) slog.Attr {
	switch a.Key {
	case slog.TimeKey, slog.LevelKey, slog.MessageKey, "host", "type", "loglevel", "@timestamp",
		"service", "application_type", "log_type", "environment":
		a.Key = "fields." + a.Key
	}
	return a
}

// Enabled implements slog.Handler.
func (l logstash) Enabled(ctx context.Context, level slog.Level) bool {
	return l.json.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (l logstash) Handle(ctx context.Context, r slog.Record) error {
	renamed := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		renamed.AddAttrs(apart(a))
		return true
	})
	return l.json.Handle(ctx, renamed)
}

// WithAttrs implements slog.Handler.
func (l logstash) WithAttrs(attrs []slog.Attr) slog.Handler {
	renamed := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		renamed[i] = apart(a)
	}
	return logstash{l.json.WithAttrs(renamed)}
}

// WithGroup implements slog.Handler.
func (l logstash) WithGroup(name string) slog.Handler { return logstash{l.json.WithGroup(name)} }
