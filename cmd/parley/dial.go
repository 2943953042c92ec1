package main

import (
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/server"
)

// connect dials the server for a command, as who k says. That the connection
// broke and was mended is told on stderr.
func connect(c *cobra.Command, k *credentials, producer string) (*client.Client, error) {
	o, err := k.options(c)
	if err != nil {
		return nil, err
	}
	o.Name, o.Producer, o.Platform = "parley/"+server.Version(), producer, "parley"
	o.Logger = slog.New(talk(c.ErrOrStderr(), slog.LevelInfo))
	return client.Dial(c.Context(), k.server, o)
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
