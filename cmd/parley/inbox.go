package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
)

func newInbox() *cobra.Command {
	var q reading
	c := &cobra.Command{
		Use:   "inbox",
		Short: "Read what was sent to you",
		Long: "Inbox prints the newest messages of your inbox, one a line, the oldest first, and says on stderr how many are\n" +
			"unread. A line is \"USER: MESSAGE\" for what USER sent you, \"> USER: MESSAGE\" for what you sent, and \"= USER\n" +
			"delivered ID\" or \"= USER read ID\" for a receipt.\n\n" +
			"With --ack it prints what your device has not acknowledged yet, and acknowledges each message when it is\n" +
			"printed: the next --ack of this device goes on after it, and whatever breaks in between, nothing is lost. A new\n" +
			"device begins with everything that is stored. With --follow it goes on with what comes until it is interrupted.",
		Example: "  parley inbox --token-file ~/.parley-token\n" +
			"  parley inbox --last 50 --peer bob --read\n" +
			"  parley inbox --follow --ack --device laptop\n" +
			"  parley inbox --ack --device cron --json | ./import     # what came since the last time\n" +
			"  parley inbox --follow --user alice                     # at a server that asks for no credential",
		Args: between(0, 0),
	}
	k := credentialFlags(c)
	f := c.Flags()
	f.BoolVar(&q.follow, "follow", false, "go on with what comes")
	f.BoolVar(&q.ack, "ack", false, "print what this device has not acknowledged, and acknowledge it")
	f.StringVar(&q.peer, "peer", "", "only what you and `USER` wrote to each other; not with --ack")
	f.IntVar(&q.last, "last", 20, "begin with the newest `N` messages; with --ack, where a device that is new begins")
	f.IntVar(&q.count, "count", 0, "exit after `N` messages; with --follow or --ack")
	f.BoolVar(&q.read, "read", false, "mark as read what is printed")
	asJSON := f.Bool("json", false, "print each message as an object of JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		q.chosen = f.Changed("last")
		if err := q.check(); err != nil {
			return usage(c.CommandPath(), "%w", err)
		}
		conn, err := connect(c, k, "")
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }() // never fails
		me, err := who(c.Context(), conn)
		if err != nil {
			return err
		}
		q.me, q.conn, q.printer = me.User, conn, newPrinter(c, *asJSON)
		return q.run(c.Context())
	}
	return c
}

// reading is what the flags of inbox say, and with what to do it.
type reading struct {
	follow, ack, read, chosen bool
	peer                      string
	last, count               int

	me      string
	conn    *client.Client
	printer *printer
}

func (q *reading) check() error {
	switch {
	case q.last < 0 || q.count < 0:
		return errors.New("--last and --count must be above 0")
	case q.ack && q.peer != "":
		return errors.New("--ack and --peer exclude each other")
	case q.count > 0 && !q.ack && !q.follow:
		return errors.New("--count needs --follow or --ack; --last is what limits what is stored")
	}
	if q.peer == "" {
		return nil
	}
	var err error
	q.peer, err = parley.ParseUser(q.peer)
	return err
}

func (q *reading) run(ctx context.Context) error {
	if q.ack {
		return q.acknowledge(ctx)
	}
	newest, err := q.stored(ctx)
	if err != nil {
		return err
	}
	if q.follow {
		return q.live(ctx, newest)
	}
	marker, err := q.conn.MarkRead(ctx, 0) // it never goes back, so this only asks
	if err != nil {
		return err
	}
	tell(q.printer.talk, "%d unread\n", marker.Unread)
	return nil
}

// stored prints the newest messages and returns the seq of the last one.
func (q *reading) stored(ctx context.Context) (newest parley.Seq, err error) {
	var entries []client.Entry
	page := client.InboxPage{More: true}
	for len(entries) < q.last && page.More {
		page, err = q.conn.InboxHistory(ctx, client.InboxQuery{
			Peer: q.peer, Before: page.Next, Limit: min(q.last-len(entries), historyPage), Reverse: true,
		})
		if err != nil {
			return 0, err
		}
		entries = append(entries, page.Entries...)
	}
	for _, e := range slices.Backward(entries) {
		newest = e.Seq
		if err := q.print(e); err != nil {
			return 0, err
		}
	}
	return newest, q.mark(ctx, newest)
}

// mark marks as read what was printed.
func (q *reading) mark(ctx context.Context, seq parley.Seq) error {
	if !q.read || seq == 0 {
		return nil
	}
	_, err := q.conn.MarkRead(ctx, seq)
	return err
}

// live prints what comes, without acknowledging it.
func (q *reading) live(ctx context.Context, after parley.Seq) error {
	topic := parley.InboxTopic(q.me)
	if q.peer != "" {
		topic += parley.Topic("/" + q.peer)
	}
	options := []client.SubscribeOption{client.Max(q.count)}
	if after > 0 {
		options = append(options, client.After(after))
	}
	for m, err := range q.conn.Subscribe(ctx, topic, options...) {
		if err != nil {
			if !remark(err) {
				return err
			}
			tell(q.printer.talk, "parley: %v\n", err)
			continue
		}
		if err := q.print(client.EntryOf(m)); err != nil {
			return err
		}
		if err := q.mark(ctx, m.Seq); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// acknowledge prints what the device has not acknowledged, and acknowledges it.
func (q *reading) acknowledge(ctx context.Context) error {
	options := []client.SubscribeOption{client.Max(q.count)}
	if q.chosen && q.last > 0 {
		options = append(options, client.Last(q.last))
	}
	if !q.follow {
		options = append(options, client.ReplayOnly())
	}
	for d, err := range q.conn.Inbox(ctx, options...) {
		if err != nil {
			if !remark(err) {
				return err
			}
			tell(q.printer.talk, "parley: %v\n", err)
			continue
		}
		if err := q.print(d.Entry); err != nil {
			return err
		}
		if err := d.Ack(ctx); err != nil {
			return err
		}
		if err := q.mark(ctx, d.Seq); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// print writes one entry.
func (q *reading) print(e client.Entry) error {
	if q.printer.json {
		l := entryLine{line: newLine(e.Message), Receipt: string(e.Receipt)}
		return json.NewEncoder(q.printer.out).Encode(l)
	}
	text := string(e.Body)
	if q.printer.tame {
		text = tamed(text)
	}
	switch {
	case e.Receipt != client.NoReceipt:
		text = fmt.Sprintf("= %s %s %s\n", e.Peer(), e.Receipt, e.ID)
	case e.Sender.User == q.me && e.Peer() != q.me:
		text = "> " + e.Peer() + ": " + text + "\n"
	default:
		text = e.Sender.User + ": " + text + "\n"
	}
	_, err := io.WriteString(q.printer.out, text)
	return err
}

// entryLine is an entry as an object of JSON.
type entryLine struct {
	line

	Receipt string `json:"receipt,omitempty"`
}
