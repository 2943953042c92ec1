package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
)

// historyPage is how many messages are asked for at once.
const historyPage = 500

func newHistory() *cobra.Command {
	var q client.HistoryQuery
	var after, before uint64
	c := &cobra.Command{
		Use:   "history TOPIC",
		Short: "Print stored messages",
		Long: "History prints stored messages of TOPIC and of all topics below it, one a line, the oldest first, and says on\n" +
			"stderr how to go on when there are more.",
		Example: "  parley history /orders\n" +
			"  parley history /orders --reverse --limit 10      # the newest ten, newest first\n" +
			"  parley history /orders --after 1795245935123456 --json",
		Args: between(1, 1),
	}
	k := credentialFlags(c)
	c.Flags().IntVar(&q.Limit, "limit", 100, "print at most `N` messages")
	c.Flags().Uint64Var(&after, "after", 0, "only what has a greater `SEQ`")
	c.Flags().Uint64Var(&before, "before", 0, "only what has a smaller `SEQ`")
	c.Flags().BoolVar(&q.Reverse, "reverse", false, "begin with the newest")
	asJSON := c.Flags().Bool("json", false, "print each message as an object of JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		topic, err := parley.ParseTopic(args[0])
		if err == nil && q.Limit < 1 {
			err = errors.New("--limit must be above 0")
		}
		if err == nil && max(after, before) >= uint64(parley.MaxSeq) {
			err = fmt.Errorf("a seq is below %d", parley.MaxSeq)
		}
		if err != nil {
			return usage(c.CommandPath(), "%w", err)
		}
		q.Topic, q.After, q.Before = topic, parley.Seq(after), parley.Seq(before)
		conn, err := connect(c, k, "")
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }() // never fails
		return printHistory(c.Context(), conn, q, newPrinter(c, *asJSON))
	}
	return c
}

// printHistory prints q.Limit messages, page by page.
func printHistory(ctx context.Context, conn *client.Client, q client.HistoryQuery, p *printer) error {
	for left := q.Limit; ; {
		q.Limit = min(left, historyPage)
		page, err := conn.History(ctx, q)
		if err != nil {
			return err
		}
		for _, m := range page.Messages {
			if err := p.print(m); err != nil {
				return err
			}
		}
		left -= len(page.Messages)
		bound := "--after"
		if q.Reverse {
			q.Before, bound = page.Next, "--before"
		} else {
			q.After = page.Next
		}
		switch {
		case !page.More:
			return nil
		case left == 0:
			tell(p.talk, "there is more: %s %d\n", bound, page.Next)
			return nil
		}
	}
}
