package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley"
)

// durable is what a server tells of a durable subscription.
type durable struct {
	Owner    string       `json:"owner"`
	Name     string       `json:"name"`
	Topic    parley.Topic `json:"topic"`
	Floor    parley.Seq   `json:"floor"`
	Cursor   parley.Seq   `json:"cursor"`
	Lag      int          `json:"lag"`
	InFlight int          `json:"in_flight"`
	Waiting  int          `json:"waiting"`
	Members  int          `json:"members"`
	Paused   bool         `json:"paused"`
	Active   time.Time    `json:"active,omitzero"`
}

func newDurable() *cobra.Command {
	c := group("durable", "Durable subscriptions: list with lag, pause, resume, seek, delete")
	c.AddCommand(newDurableList(), newDurablePause(), newDurableResume(), newDurableSeek(), newDurableDelete())
	return c
}

// ownerFlag adds the flag --owner.
func ownerFlag(c *cobra.Command) *string {
	return c.Flags().String("owner", "", "the `USER` whose it is; without it, that of clients that were asked for no credential")
}

func newDurableList() *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "List durable subscriptions, and how far each is behind",
		Long: "List shows the durable subscriptions of one owner, and the places of their devices in the inbox. LAG is how many\n" +
			"stored messages are not acknowledged, FLIGHT how many of them were delivered.",
		Example: "  parley durable list\n  parley durable list --owner billing --json\n  parley durable list --owner '*'", Args: between(0, 0),
	}
	server, owner := serverFlag(c), ownerFlag(c)
	asJSON := jsonFlag(c, "each")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return list(c, listing[durable]{
			server: *server, path: "/v1/subscriptions", member: "subscriptions", query: url.Values{"owner": {*owner}}, asJSON: *asJSON, once: true,
			head: "OWNER\tNAME\tTOPIC\tLAG\tFLIGHT\tMEMBERS\tSTATE\n",
			row: func(d durable) string {
				return fmt.Sprintf("%s\t%s\t%s\t%d\t%d\t%d\t%s\n", dash(d.Owner), d.Name, d.Topic, d.Lag, d.InFlight, d.Members, d.state())
			},
		})
	}
	return c
}

func (d *durable) state() string {
	if d.Paused {
		return "paused"
	}
	return "running"
}

// durablePath is where the HTTP API has a durable subscription.
func durablePath(c *cobra.Command, topic, name, owner string) (string, error) {
	path, err := topicPath(c, topic)
	if err != nil {
		return "", err
	}
	return "/v1/subscriptions" + strings.TrimPrefix(path, "/v1/topics") + "?" + url.Values{"name": {name}, "owner": {owner}}.Encode(), nil
}

// durableCommand makes c ask for one thing of a durable subscription, and say where
// that stands. Body is sent with PATCH; without one the subscription is deleted.
func durableCommand(c *cobra.Command, done string, body func() (map[string]any, error)) *cobra.Command {
	server, owner := serverFlag(c), ownerFlag(c)
	c.Args = between(2, 2)
	c.RunE = func(c *cobra.Command, args []string) error {
		path, err := durablePath(c, args[0], args[1], *owner)
		if err != nil {
			return err
		}
		d := demand{method: http.MethodDelete, server: *server, path: path}
		if body != nil {
			if d.body, err = body(); err != nil {
				return err
			}
			d.method = http.MethodPatch
		}
		var now durable
		if err := d.send(c.Context(), &now); err != nil {
			return ownerless(err, *owner)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s %s of %s: %d behind\n", done, now.Name, now.Topic, now.Lag)
		return err
	}
	return c
}

// ownerless reminds who looked among nobody's things that most have an owner.
func ownerless(err error, owner string) error {
	if owner == "" && errors.Is(err, parley.ErrNotFound) {
		return fmt.Errorf("%w; that of a user needs --owner USER", err)
	}
	return err
}

func pausing(paused bool) func() (map[string]any, error) {
	return func() (map[string]any, error) { return map[string]any{"paused": paused}, nil }
}

func newDurablePause() *cobra.Command {
	return durableCommand(&cobra.Command{
		Use: "pause TOPIC NAME", Short: "Deliver nothing by a durable subscription until it is resumed",
		Example: "  parley durable pause /orders billing --owner shop",
	}, "paused", pausing(true))
}

func newDurableResume() *cobra.Command {
	return durableCommand(&cobra.Command{
		Use: "resume TOPIC NAME", Short: "Go on after a pause", Example: "  parley durable resume /orders billing --owner shop",
	}, "resumed", pausing(false))
}

func newDurableDelete() *cobra.Command {
	return durableCommand(&cobra.Command{
		Use: "delete TOPIC NAME", Short: "Forget a durable subscription and its place", Example: "  parley durable delete /orders billing --owner shop",
	}, "deleted", nil)
}

func newDurableSeek() *cobra.Command {
	c := &cobra.Command{
		Use: "seek TOPIC NAME", Short: "Say where a durable subscription goes on",
		Long: "Seek sets the place: what is behind it is delivered, again where it was already, and what was in flight is forgotten.",
		Example: "  parley durable seek /orders billing --after 0\n  parley durable seek /orders billing --since 1h\n" +
			"  parley durable seek /orders billing --now",
	}
	flags := c.Flags()
	after := flags.Uint64("after", 0, "behind this `SEQ`; 0 is the oldest message")
	since := flags.String("since", "", "at this `TIME`, or so long ago")
	last := flags.Int("last", 0, "with the newest `NUMBER` of messages")
	now := flags.Bool("now", false, "with what is published from now on")
	return durableCommand(c, "set", func() (map[string]any, error) {
		body := map[string]any{}
		for name, value := range map[string]any{"after": *after, "since": *since, "last": *last, "now": *now} {
			if flags.Changed(name) {
				body[name] = value
			}
		}
		if len(body) != 1 {
			return nil, usage(c.CommandPath(), "one of --after, --since, --last and --now")
		}
		return body, nil
	})
}

func newDead() *cobra.Command {
	c := group("dead", "Dead letters: messages that could not be dealt with; list, replay, remove")
	c.AddCommand(newDeadList(),
		deadCommand(http.MethodPost, "replay", "Deliver a dead letter again", "replayed"),
		deadCommand(http.MethodDelete, "remove", "Remove a dead letter", "removed"))
	return c
}

// deadLetter is what a server tells of a dead letter.
type deadLetter struct {
	Seq      parley.Seq      `json:"seq"`
	Time     time.Time       `json:"time"`
	Owner    string          `json:"owner"`
	Name     string          `json:"name"`
	Topic    parley.Topic    `json:"topic"`
	Reason   string          `json:"reason"`
	Attempts int             `json:"attempts"`
	Message  json.RawMessage `json:"message"`
}

func newDeadList() *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "List an owner's dead letters",
		Long: "List shows messages that were delivered too often without being acknowledged, or refused for good, and why. With\n" +
			"--json the messages are shown too.",
		Example: "  parley dead list --owner shop\n  parley dead list --owner shop --json | jq .message", Args: between(0, 0),
	}
	server, owner := serverFlag(c), ownerFlag(c)
	asJSON := jsonFlag(c, "each")
	c.RunE = func(c *cobra.Command, _ []string) error {
		return list(c, listing[deadLetter]{
			server: *server, path: "/v1/dead-letters", member: "letters", query: url.Values{"owner": {*owner}}, asJSON: *asJSON,
			head: "SEQ\tTIME\tNAME\tTOPIC\tATTEMPTS\tREASON\n",
			row: func(l deadLetter) string {
				return fmt.Sprintf("%d\t%s\t%s\t%s\t%d\t%s\n", l.Seq, moment(l.Time), l.Name, l.Topic, l.Attempts, l.Reason)
			},
			id: func(l deadLetter) string { return l.Seq.String() },
		})
	}
	return c
}

// deadCommand is a command about one dead letter.
func deadCommand(method, name, short, past string) *cobra.Command {
	c := &cobra.Command{Use: name + " SEQ", Short: short, Example: "  parley dead " + name + " 1798761600000000 --owner shop", Args: between(1, 1)}
	server, owner := serverFlag(c), ownerFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if _, err := strconv.ParseUint(args[0], 10, 64); err != nil {
			return usage(c.CommandPath(), "SEQ is a number, as list shows it")
		}
		path := "/v1/dead-letters/" + args[0]
		if method == http.MethodPost {
			path += "/replay"
		}
		var done struct {
			Seq parley.Seq `json:"seq"`
		}
		if err := call(c.Context(), method, *server, path+"?"+url.Values{"owner": {*owner}}.Encode(), &done); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.OutOrStdout(), "%s %d\n", past, done.Seq)
		return err
	}
	return c
}
