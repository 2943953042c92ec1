package server

import (
	"io"
	"log/slog"
)

// Logger is the logger that l describes, writing to w; terminal says that
// people read w as it comes.
func (l Log) Logger(w io.Writer, terminal bool) *slog.Logger {
	if l.Format == LogLogstash {
		return slog.New(newLogstash(w, l.Level, l.Environment))
	}
	o := &slog.HandlerOptions{Level: l.Level}
	if l.Format == LogText || l.Format == LogAuto && terminal {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}
