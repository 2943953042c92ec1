package server

import (
	"cmp"
	"io"
	"log/slog"
)

// Logger is the logger that l describes, writing to w; terminal says that
// people read w as it comes.
func (l Log) Logger(w io.Writer, terminal bool) *slog.Logger {
	var level slog.Leveler = l.Level
	if l.Var != nil {
		l.Var.Set(l.Level)
		level = l.Var
	}
	if l.Format == LogLogstash {
		return slog.New(newLogstash(w, level, cmp.Or(l.Environment, "dev")))
	}
	o := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewJSONHandler(w, o)
	if l.Format == LogText || l.Format == LogAuto && terminal {
		handler = slog.NewTextHandler(w, o)
	}
	if l.Environment != "" {
		handler = handler.WithAttrs([]slog.Attr{slog.String("environment", l.Environment)})
	}
	return slog.New(handler)
}
