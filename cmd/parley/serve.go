package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/parley-im/parley/server"
)

func newServe() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: "Serve runs the server until it gets SIGTERM or SIGINT; then it says goodbye to its clients and stops. A second\n" +
			"signal ends it at once. SIGHUP reads the configuration again and applies what can change while it runs.\n\n" +
			"Every flag can also be given in the environment (--storage-path as PARLEY_STORAGE_PATH; a repeatable one holds\n" +
			"values separated by spaces) and in a YAML file named by --config (storage-path: DIR). Flags win over the\n" +
			"environment, the environment over the file. What a flag switches on, the same with no- switches off (--no-ws).\n" +
			"\"parley config\" shows what comes of it, and \"parley config --check\" only whether it is right.\n\n" +
			"Without authentication (--auth, --jwt-key, --jwks, --oidc, --google-client, --ca-dir) the server is for this machine alone,\n" +
			"unless --open-to-network says otherwise.",
		Example: "  parley serve\n" +
			"  parley serve --http 127.0.0.1:9000 --storage-path /var/lib/parley\n" +
			"  parley serve --retention orders=age:30d,bytes:10GiB --retention '*=messages:1000000'\n" +
			"  parley serve --auth --grant 'send:/$inbox/*'          # everybody needs a credential; see parley user, token and key\n" +
			"  parley serve --auth --rate send/user=10/s:100 --user-quota 1GiB   # how fast somebody may send, and how much of it is kept\n" +
			"  parley serve --config /etc/parley.yaml",
		Args: between(0, 0),
	}
	sources := settingsFlags(c)
	c.RunE = func(c *cobra.Command, _ []string) error { return serve(c, sources()) }
	return c
}

// serve runs the server and greets whoever started it.
func serve(c *cobra.Command, src server.Sources) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP) // first of all: a signal that nobody takes ends the process
	defer signal.Stop(hangup)
	cfg, err := server.Load(src)
	if err != nil {
		return err
	}
	keepPrivate()
	cfg.Log.Var = new(slog.LevelVar)
	cfg.Logger = cfg.Log.Logger(os.Stderr, term.IsTerminal(int(os.Stderr.Fd())))
	s, err := server.New(cfg)
	if err != nil {
		return err
	}
	_, greetErr := fmt.Fprint(c.OutOrStdout(), s.Greeting())
	ctx, stop := context.WithCancel(c.Context())
	if greetErr != nil {
		stop() // Run releases what New has taken
	}
	var reloading sync.WaitGroup
	defer reloading.Wait()
	defer stop()
	reloading.Go(func() {
		for {
			select {
			case <-hangup:
				s.ReloadFrom(ctx, src)
			case <-ctx.Done():
				return
			}
		}
	})
	return errors.Join(greetErr, s.Run(ctx))
}
