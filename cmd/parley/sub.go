package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/server"
)

func newSub() *cobra.Command {
	var f following
	c := &cobra.Command{
		Use:   "sub TOPIC",
		Short: "Follow a topic and all below it",
		Long: "Sub prints the messages of TOPIC and of all topics below it, one a line, as they are published, until it is\n" +
			"interrupted. --from and --last begin with stored messages; nothing is missing or repeated between those and what\n" +
			"comes live, nor when the connection breaks in between.\n\n" +
			"With --durable the server keeps the place under a name of yours: the next one of that name goes on after the last\n" +
			"message that was acknowledged, and several at once take turns, each message going to one of them. --ack\n" +
			"acknowledges each message when it is printed; without it all come again. --from and --last are then where a name\n" +
			"that is new begins.",
		Example: "  parley sub /hello\n" +
			"  parley sub /orders --from oldest\n" +
			"  parley sub /orders --from 10m                    # what came in the last ten minutes, then live\n" +
			"  parley sub /orders --from 1795245935123456       # what came after that seq\n" +
			"  parley sub /orders --last 5 --json | jq .text\n" +
			"  parley sub /orders --max 1000                    # the oldest 1000, then exit\n" +
			"  parley sub /jobs --count 1                       # wait for one message\n" +
			"  parley sub /orders --durable billing --ack       # go on where billing was; several share its messages",
		Args: between(1, 1),
	}
	k := credentialFlags(c)
	c.Flags().StringVar(&f.from, "from", "", "`WHERE` to begin: oldest, the seq after which to read on, a time such as 2030-01-02T15:04:05Z, or a duration such as 10m before now")
	c.Flags().IntVar(&f.last, "last", 0, "begin with the newest `N` messages")
	c.Flags().IntVar(&f.most, "max", 0, "print at most `N` stored messages, from the oldest unless --from or --last says otherwise, and exit")
	c.Flags().IntVar(&f.count, "count", 0, "exit after `N` messages")
	c.Flags().StringVar(&f.durable, "durable", "", "`NAME` under which the server keeps what was acknowledged")
	c.Flags().BoolVar(&f.ack, "ack", false, "acknowledge what is printed; with --durable")
	asJSON := c.Flags().Bool("json", false, "print each message as an object of JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		topic, err := parley.ParseTopic(args[0])
		if err != nil {
			return usage(c.CommandPath(), "%w", err)
		}
		options, err := f.options(time.Now())
		if err != nil {
			return usage(c.CommandPath(), "%w", err)
		}
		conn, err := connect(c, k, "")
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }() // never fails
		if f.durable != "" {
			return f.settle(c.Context(), conn, topic, options, newPrinter(c, *asJSON))
		}
		return follow(c.Context(), conn, topic, options, newPrinter(c, *asJSON))
	}
	return c
}

// following is what the flags of sub say.
type following struct {
	from              string
	last, most, count int
	durable           string
	ack               bool
}

// options translates the flags for the client.
func (f *following) options(now time.Time) ([]client.SubscribeOption, error) {
	switch {
	case f.last < 0 || f.most < 0 || f.count < 0:
		return nil, errors.New("--last, --max and --count must be above 0")
	case f.from != "" && f.last > 0:
		return nil, errors.New("--from and --last exclude each other")
	case f.durable != "" && f.most > 0:
		return nil, errors.New("--max is for what is stored, a durable subscription goes on: use --count")
	case f.ack && f.durable == "":
		return nil, errors.New("--ack needs --durable")
	case f.most > 0 && f.count > 0:
		return nil, errors.New("--max and --count exclude each other")
	}
	var options []client.SubscribeOption
	switch {
	case f.last > 0:
		options = append(options, client.Last(f.last))
	case f.from != "":
		start, err := parseFrom(f.from, now)
		if err != nil {
			return nil, err
		}
		options = append(options, start)
	case f.most > 0:
		options = append(options, client.After(0))
	}
	switch {
	case f.most > 0:
		options = append(options, client.ReplayOnly(), client.Max(f.most))
	case f.count > 0:
		options = append(options, client.Max(f.count))
	}
	return options, nil
}

// parseFrom reads where a subscription begins.
func parseFrom(s string, now time.Time) (client.SubscribeOption, error) {
	if s == "oldest" {
		return client.After(0), nil
	}
	if seq, err := strconv.ParseUint(s, 10, 64); err == nil && parley.Seq(seq) < parley.MaxSeq {
		return client.After(parley.Seq(seq)), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return client.Since(t), nil
	}
	if d, err := server.ParseDuration(strings.TrimSuffix(s, " ago")); err == nil {
		return client.Since(now.Add(-d)), nil
	}
	return nil, fmt.Errorf("--from %q is none of: oldest, a seq, a time such as 2030-01-02T15:04:05Z, a duration such as 10m", s)
}

// follow prints a subscription's messages until it or ctx ends.
func follow(ctx context.Context, conn *client.Client, topic parley.Topic, options []client.SubscribeOption, p *printer) error {
	for m, err := range conn.Subscribe(ctx, topic, options...) {
		if err == nil {
			if err := p.print(m); err != nil {
				return err
			}
			continue
		}
		if !remark(err) {
			return err
		}
		tell(p.talk, "parley: %v\n", err)
	}
	return context.Cause(ctx)
}

// settle is follow for a durable subscription.
func (f *following) settle(ctx context.Context, conn *client.Client, topic parley.Topic, options []client.SubscribeOption, p *printer) error {
	for d, err := range conn.Durable(ctx, topic, f.durable, options...) {
		if err != nil {
			if !remark(err) {
				return err
			}
			tell(p.talk, "parley: %v\n", err)
			continue
		}
		if err := p.print(d.Message); err != nil {
			return err
		}
		if f.ack {
			if err := d.Ack(ctx); err != nil {
				return err
			}
		}
	}
	return context.Cause(ctx)
}

// remark reports whether a subscription goes on after err.
func remark(err error) bool {
	_, gap := errors.AsType[*client.GapError](err)
	_, reset := errors.AsType[*client.ResetError](err)
	return gap || reset
}
