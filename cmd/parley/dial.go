package main

import (
	"context"
	"io"
	"log/slog"

	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/server"
)

// connect dials the server for a command. That the connection broke and was
// mended is told on stderr.
func connect(ctx context.Context, url, producer string, stderr io.Writer) (*client.Client, error) {
	return client.Dial(ctx, url, client.Options{
		Name:     "parley/" + server.Version(),
		Producer: producer,
		Logger:   slog.New(talk(stderr, slog.LevelInfo)),
	})
}

// talk is how a command tells people on stderr what happens meanwhile: without
// time and level.
func talk(stderr io.Writer, least slog.Level) slog.Handler {
	return slog.NewTextHandler(stderr, &slog.HandlerOptions{
		Level: least,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
				return slog.Attr{}
			}
			return a
		},
	})
}
