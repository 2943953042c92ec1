package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley/cmd/parley/internal/bench"
)

func newBench() *cobra.Command {
	c := group("bench", "Measure a server")
	c.Long = "Bench puts a load on a server, writes a line a second on stderr and a table at the end on stdout. It leaves its\n" +
		"messages in the store; \"parley topic purge\" removes them."
	publish, f := newLoad("publish", "Publish as fast as the window or --rate allows; count until each is on disk", bench.Publish)
	publish.Example = "  parley bench publish\n" +
		"  parley bench publish --topics 1000000 --prefix /root/x --random\n" +
		"  parley bench publish --rate 100000 --publishers 4"
	f.topics().publishing()

	deliver, f := newLoad("deliver", "Publish, and count what subscribers get, in order and complete", bench.Deliver)
	deliver.Example = "  parley bench deliver --topics 4 --subscribers 25\n" +
		"  parley bench deliver --publishers 1 --topics 1 --window 1   # one message at a time\n" +
		"  parley bench deliver --protocol sse --topics 1 --subscribers 1000 --rate 100"
	f.topics().publishing()
	f.protocol()
	deliver.Flags().IntVar(&f.cfg.Subscribers, "subscribers", f.cfg.Subscribers, "`NUMBER` of subscribers to each topic")

	fetch, f := newLoad("fetch", "Replay what is stored, all of every topic once", bench.Fetch)
	fetch.Example = "  parley bench publish && parley bench fetch"
	f.topics().connections(4)

	idle, f := newLoad("idle", "Hold connections with a subscription each, and see what they cost", bench.Idle)
	idle.Example = "  parley bench idle --connections 10000 --duration 30s\n" +
		"  parley bench idle --protocol sse --connections 10000"
	f.protocol()
	f.connections(f.cfg.Connections)
	f.prefix()
	f.duration()

	c.AddCommand(publish, deliver, fetch, idle)
	c.AddCommand(peopleLoads()...)
	return c
}

// peopleLoads are the loads of users with inboxes.
func peopleLoads() []*cobra.Command {
	dm, f := newLoad("dm", "Send from user to user, acknowledge, and count what is confirmed", bench.DM)
	dm.Long = "Dm has each publisher send to a user of its own, whose device acknowledges what it gets. Every letter must arrive, in order, and\n" +
		"be acknowledged at the server, or the command fails. The time begins when all are connected and ends with the last\n" +
		"acknowledgement; what was connecting is not in it."
	dm.Example = "  parley bench dm --publishers 4 --duration 20s\n" +
		"  parley bench dm --dialect titan --duration 20s --jwt-key-file key --jwt-issuer bench --jwt-audience parley\n" +
		"  parley bench dm --publishers 4 --batch 64 --window 4096\n" +
		"  parley bench dm --jwt-key-file key --jwt-issuer https://auth.example --jwt-audience parley"
	f.prefix()
	f.publishing()
	f.users()
	dm.Flags().StringVar(&f.cfg.Dialect, "dialect", f.cfg.Dialect, "what users speak: `native|titan`")
	f.batch()

	inboxes, f := newLoad("inboxes", "Put a letter into each of many inboxes, have some of their users fetch it, and see what it costs", bench.Inboxes)
	inboxes.Example = "  parley bench inboxes\n" +
		"  parley bench inboxes --inboxes 100000 --online 5"
	inboxes.Flags().IntVar(&f.cfg.Inboxes, "inboxes", f.cfg.Inboxes, "`NUMBER` of users with an inbox")
	inboxes.Flags().Float64Var(&f.cfg.Online, "online", f.cfg.Online, "`PERCENT` of the users that come online")
	f.cfg.Batch = 64
	f.batch()
	f.prefix()
	f.sending()
	f.users()

	storm, f := newLoad("storm", "Cut many devices at once, and see how long it takes until all are back and nothing is lost", bench.Storm)
	storm.Example = "  parley bench storm --connections 5000 --rate 2000\n" +
		"  parley bench storm --connections 5000 --jwt-key-file ec.pem --jwks-listen 127.0.0.1:9000 --jwt-issuer bench --jwt-audience parley"
	f.connections(f.cfg.Connections)
	f.prefix()
	f.duration()
	f.rate()
	f.users()

	auth, f := newLoad("auth", "Connect and authenticate, again and again", bench.Authenticate)
	auth.Example = "  parley bench auth --publishers 16 --jwt-key-file ec.pem --jwks-listen 127.0.0.1:9000 --jwt-issuer bench --jwt-audience parley\n" +
		"  parley bench auth --publishers 16 --jwt-key-file key --jwt-issuer https://auth.example --jwt-audience parley"
	auth.Flags().IntVar(&f.cfg.Publishers, "publishers", 16, "`NUMBER` of clients at a time")
	auth.Flags().IntVar(&f.cfg.Tokens, "tokens", f.cfg.Tokens, "`NUMBER` of tokens that each of them shows in turn; of so many that the server does not remember them each signature is checked")
	f.prefix()
	f.duration()
	f.users()

	return []*cobra.Command{dm, inboxes, storm, auth}
}

// loadFlags adds the flags of a load.
type loadFlags struct {
	c   *cobra.Command
	cfg *bench.Config
}

func newLoad(use, short string, run func(context.Context, bench.Config) (bench.Report, error)) (*cobra.Command, *loadFlags) {
	cfg := bench.Default()
	c := &cobra.Command{Use: use, Short: short, Args: between(0, 0)}
	url := serverFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg.URL, cfg.Progress = *url, c.ErrOrStderr()
		if err := cfg.Check(); err != nil {
			return usage(c.CommandPath(), "%w", err)
		}
		report, err := run(c.Context(), cfg)
		if len(report) > 0 {
			if err := report.Print(c.OutOrStdout()); err != nil {
				return err
			}
		}
		return err
	}
	return c, &loadFlags{c, &cfg}
}

func (f *loadFlags) prefix() *loadFlags {
	f.c.Flags().StringVar(&f.cfg.Prefix, "prefix", f.cfg.Prefix, "topic i is `PREFIX`i: /x makes as many roots as topics, /root/x one")
	return f
}

func (f *loadFlags) protocol() {
	f.c.Flags().StringVar(&f.cfg.Protocol, "protocol", f.cfg.Protocol, "what subscribers speak: `gobbler|sse`")
}

func (f *loadFlags) duration() {
	f.c.Flags().DurationVar(&f.cfg.Duration, "duration", f.cfg.Duration, "`DURATION` of publishing or holding, from when all are connected")
}

func (f *loadFlags) topics() *loadFlags {
	f.c.Flags().IntVar(&f.cfg.Topics, "topics", f.cfg.Topics, "`NUMBER` of topics")
	return f.prefix()
}

func (f *loadFlags) connections(n int) {
	f.cfg.Connections = n
	f.c.Flags().IntVar(&f.cfg.Connections, "connections", n, "`NUMBER` of connections")
}

func (f *loadFlags) publishing() {
	f.duration()
	f.c.Flags().BoolVar(&f.cfg.Random, "random", false, "choose each message's topic at random, not in turn")
	f.sending()
	f.rate()
}

func (f *loadFlags) batch() {
	f.c.Flags().IntVar(&f.cfg.Batch, "batch", f.cfg.Batch, "`NUMBER` of messages that one request takes at most")
}

func (f *loadFlags) sending() {
	flags := f.c.Flags()
	flags.IntVar(&f.cfg.Publishers, "publishers", f.cfg.Publishers, "`NUMBER` of connections that publish")
	flags.IntVar(&f.cfg.Size, "size", f.cfg.Size, "`BYTES` of a body")
	flags.IntVar(&f.cfg.Window, "window", f.cfg.Window, "`NUMBER` of unacknowledged messages of a publisher")
}

func (f *loadFlags) rate() {
	f.c.Flags().Float64Var(&f.cfg.Rate, "rate", 0, "`NUMBER` of messages per second in all, sent whether the server keeps up or not; latency counts from when each was due")
}

// users adds the flags of loads by users.
func (f *loadFlags) users() {
	flags := f.c.Flags()
	flags.IntVar(&f.cfg.InFlight, "in-flight", 0, "`NUMBER` of unacknowledged deliveries to a device; 0 is as the server has it")
	file := flags.String("jwt-key-file", "", "`FILE` with what tokens are signed with: a secret for HS256, or a private key in PEM for RS256, ES256 or EdDSA; "+
		"without it users say their names, for a server in open mode")
	flags.StringVar(&f.cfg.KeysAt, "jwks-listen", "", "`HOST:PORT` at which the public key is published as long as the load lasts, for a server with --jwks")
	flags.StringVar(&f.cfg.Signer.KeyID, "jwt-key-id", "", "`KID` of the tokens")
	flags.StringVar(&f.cfg.Signer.Issuer, "jwt-issuer", "", "`ISSUER` of the tokens")
	flags.StringVar(&f.cfg.Signer.Audience, "jwt-audience", "", "`AUDIENCE` of the tokens")
	f.c.PreRunE = func(c *cobra.Command, _ []string) error {
		if *file == "" {
			return nil
		}
		key, err := readPrivate(*file)
		if err == nil {
			if err = f.cfg.Signer.SetKey(key); err != nil {
				err = fmt.Errorf("%s: %w", *file, err)
			}
		}
		if err != nil {
			return usage(c.CommandPath(), "%w", err)
		}
		return nil
	}
}
