package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
)

func newSend() *cobra.Command {
	var p publication
	c := &cobra.Command{
		Use:   "send USER[,USER]... [MESSAGE]",
		Short: "Send a message to users, or each line of stdin",
		Long: "Send puts MESSAGE into the inbox of every USER and prints its seq there when it is on disk; they need not be\n" +
			"connected. Without MESSAGE it sends each line of stdin as it comes, in order, and says at the end how many there\n" +
			"were; if the connection breaks meanwhile, it waits for the next one and goes on, without losing or repeating a\n" +
			"line. With --receipts your own inbox is told when a recipient has received the message, and when they have read\n" +
			"it: see \"parley inbox\".",
		Example: "  parley send alice \"hi\"\n" +
			"  parley send alice,bob \"lunch?\" --receipts --token-file ~/.parley-token\n" +
			"  parley send alice \"your code is 1234\" --expires 10m --id code-17     # may be repeated: stored once\n" +
			"  make 2>&1 | parley send alice\n" +
			"  parley send alice \"hi\" --user bob            # at a server that asks for no credential",
		Args: between(1, 2),
	}
	k := credentialFlags(c)
	p.flags(c)
	receipts := c.Flags().Bool("receipts", false, "ask to be told, in your own inbox, when it was received and read")
	c.RunE = func(c *cobra.Command, args []string) error {
		template, err := p.template("/send") // letters have no topic
		if err != nil {
			return usage(c.CommandPath(), "%w", err)
		}
		to := strings.Split(args[0], ",")
		for i, name := range to {
			if to[i], err = parley.ParseUser(name); err != nil {
				return usage(c.CommandPath(), "%w", err)
			}
		}
		conn, err := connect(c, k, "")
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }() // never fails
		post := &post{conn, client.Letter{To: to, Receipts: *receipts}}
		if len(args) == 1 {
			n, err := publishLines(c.Context(), post, template, c.InOrStdin())
			tell(c.ErrOrStderr(), "sent %d\n", n)
			return err
		}
		template.Body = []byte(args[1])
		sent, err := conn.Send(c.Context(), post.letter(&template))
		if printed := printSent(c.OutOrStdout(), sent); err == nil {
			err = printed
		}
		return err
	}
	return c
}

// post sends the messages that it is to publish.
type post struct {
	conn     *client.Client
	template client.Letter
}

func (p *post) letter(m *parley.Message) client.Letter {
	l := p.template
	l.ID, l.Header, l.Body, l.Expires = m.ID, m.Header, m.Body, m.Expires
	return l
}

// PublishAll sends messages to all recipients. A receipt has no Seq when one of
// them does not have the message.
func (p *post) PublishAll(ctx context.Context, messages []parley.Message) ([]client.Receipt, error) {
	letters := make([]client.Letter, len(messages))
	for i := range messages {
		letters[i] = p.letter(&messages[i])
	}
	sent, err := p.conn.SendAll(ctx, letters)
	receipts := make([]client.Receipt, len(sent))
	for i, s := range sent {
		receipts[i].ID = s.ID
		for j, r := range s.Recipients {
			if j == 0 || r.Seq == 0 {
				receipts[i].Seq = r.Seq
			}
			if r.Seq == 0 {
				break
			}
		}
	}
	return receipts, err
}

// printSent prints where a letter is: for one recipient as pub does, for several
// a line each. Who does not have it is not named here.
func printSent(out io.Writer, sent client.Sent) error {
	if len(sent.Recipients) == 1 && sent.Recipients[0].Err == nil {
		return printReceipt(out, sent.Recipients[0].Seq, sent.Recipients[0].Duplicate)
	}
	for _, r := range sent.Recipients {
		if r.Err != nil {
			continue
		}
		if _, err := fmt.Fprint(out, r.User, " "); err != nil {
			return err
		}
		if err := printReceipt(out, r.Seq, r.Duplicate); err != nil {
			return err
		}
	}
	return nil
}
