package main

import (
	"cmp"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley/cmd/parley/internal/console"
)

// gobblerURL is where the interactive client looks for a server.
const gobblerURL = "ws://localhost:8080/stream/"

func newClient() *cobra.Command {
	o := console.Options{}
	var level string
	c := &cobra.Command{
		Use:   "client [COMMAND]...",
		Short: "Talk the Gobbler protocol with a server, by hand or from a script",
		Long: "Client is Gobbler's interactive client: same flags, prompts and output. It sends each COMMAND as it is and then\n" +
			"each line of stdin, and prints what the server says: a status, which begins with #, and an empty line; an error\n" +
			"after \"ERROR: \"; a message as \"USER: BODY\". A line that begins with > is followed by two more: the message's header\n" +
			"and its body, for which it prompts. The line ? shows what commands there are. Put -- before a COMMAND that begins\n" +
			"with a dash.\n\n" +
			"On a terminal it goes on printing until it is interrupted. When stdin is a pipe or a file, it sends everything,\n" +
			"waits until each command has its answer, and exits with 0, whatever the answers are, or with 3 if one never comes.\n" +
			"When the connection breaks it connects again and restores the subscriptions, each after the last message that came\n" +
			"for it; commands that had no answer yet are not repeated.\n\n" +
			"A server that asks for a credential takes PARLEY_TOKEN or PARLEY_API_KEY of the environment; --user is then that user.",
		Example: "  parley client\n" +
			"  parley client '+ /orders 0'                            # all stored messages, then what comes\n" +
			"  parley client -x \"$(printf '> /orders\\n\\nhello')\"      # publish and leave\n" +
			"  parley client -v -u ann --url ws://chat.example/stream/\n" +
			"  parley client < commands.txt\n" +
			"  parley client -- '- /orders'",
	}
	c.Flags().BoolVarP(&o.Exit, "exit", "x", false, "exit as soon as the COMMANDs are written, without reading stdin or waiting for answers")
	c.Flags().BoolVarP(&o.Verbose, "verbose", "v", false, "print messages as they are on the wire")
	c.Flags().StringVar(&o.URL, "url", defaultGobbler(), "the server's `URL`; below PARLEY_URL of the environment if that is set")
	c.Flags().StringVarP(&o.User, "user", "u", "guble-cli", "`NAME` to be known by")
	c.Flags().StringVarP(&level, "log", "l", cmp.Or(os.Getenv("GOBBLER_LOG"), os.Getenv("GUBLE_LOG"), "error"),
		"least severe `LEVEL` of what is told on stderr: error, warn, info, debug; GOBBLER_LOG or GUBLE_LOG in the environment")
	fixed(c, "log", "error", "warn", "info", "debug")
	c.RunE = func(c *cobra.Command, args []string) error {
		least, ok := logLevel(level)
		if !ok {
			return usage(c.CommandPath(), "--log %q is not a level; allowed: error, warn, info, debug", level)
		}
		o.Logger = slog.New(talk(c.ErrOrStderr(), least))
		o.Commands, o.In, o.Out = args, c.InOrStdin(), c.OutOrStdout()
		o.Interactive = terminal(o.In)
		o.Credential = cmp.Or(os.Getenv("PARLEY_TOKEN"), os.Getenv("PARLEY_API_KEY"))
		if terminal(o.Out) {
			o.Clean = tamed
		}
		return console.Run(c.Context(), o)
	}
	return c
}

// defaultGobbler is the address of the Gobbler protocol at the server that
// PARLEY_URL names.
func defaultGobbler() string {
	if url := os.Getenv("PARLEY_URL"); url != "" {
		return strings.TrimSuffix(url, "/") + "/stream/"
	}
	return gobblerURL
}

// logLevel reads a level, by the names that Gobbler has for them.
func logLevel(name string) (slog.Level, bool) {
	levels := map[string]slog.Level{
		"panic": slog.LevelError, "fatal": slog.LevelError, "error": slog.LevelError,
		"warn": slog.LevelWarn, "warning": slog.LevelWarn, "info": slog.LevelInfo, "debug": slog.LevelDebug,
	}
	level, ok := levels[strings.ToLower(name)]
	return level, ok
}
