package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley"
)

// stored is what a server tells of a topic.
type stored struct {
	Topic parley.Topic `json:"topic"`
	Count int          `json:"count"`
	First parley.Seq   `json:"first"`
	Last  parley.Seq   `json:"last"`
	Floor parley.Seq   `json:"floor"`

	Retention *keeps `json:"retention,omitempty"`
}

func newTopic() *cobra.Command {
	c := group("topic", "Look at what is stored, say for how long, or remove it")
	c.AddCommand(newTopicList(), newTopicShow(), newTopicRetention(), newTopicPurge())
	return c
}

func newTopicList() *cobra.Command {
	c := &cobra.Command{
		Use:     "list [PREFIX]",
		Short:   "List the streams: a topic's first segment, and all below it",
		Example: "  parley topic list\n  parley topic list /or --json",
		Args:    between(0, 1),
	}
	server := serverFlag(c)
	asJSON := c.Flags().Bool("json", false, "print each as an object of JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		query := url.Values{}
		if len(args) > 0 {
			query.Set("prefix", args[0])
		}
		out := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
		if !*asJSON {
			tell(out, "TOPIC\tMESSAGES\tFIRST\tLAST\tFLOOR\n")
		}
		for {
			var page struct {
				Topics []stored `json:"topics"`
				More   bool     `json:"more"`
			}
			if err := call(c.Context(), http.MethodGet, *server, "/v1/topics?"+query.Encode(), &page); err != nil {
				return err
			}
			for _, t := range page.Topics {
				if *asJSON {
					if err := json.NewEncoder(c.OutOrStdout()).Encode(t); err != nil {
						return err
					}
					continue
				}
				tell(out, "%s\t%d\t%d\t%d\t%d\n", t.Topic, t.Count, t.First, t.Last, t.Floor)
			}
			if !page.More || len(page.Topics) == 0 {
				return out.Flush()
			}
			query.Set("after", string(page.Topics[len(page.Topics)-1].Topic))
		}
	}
	return c
}

func newTopicShow() *cobra.Command {
	c := &cobra.Command{
		Use:   "show TOPIC",
		Short: "Say what is stored at a topic and below it",
		Long: "Show counts the messages of TOPIC and of all topics below it. Floor is that of the whole stream: everything up\n" +
			"to that seq has been removed.",
		Example: "  parley topic show /orders\n  parley topic show /orders/eu --json",
		Args:    between(1, 1),
	}
	server := serverFlag(c)
	asJSON := c.Flags().Bool("json", false, "print an object of JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		_, t, err := lookUp(c, *server, args[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(c.OutOrStdout()).Encode(t)
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "topic      %s\nmessages   %d\nfirst      %d\nlast       %d\nfloor      %d\nretention  %s\n",
			t.Topic, t.Count, t.First, t.Last, t.Floor, t.Retention)
		return err
	}
	return c
}

// lookUp asks the server what it has at a topic, and returns the path to ask for
// more.
func lookUp(c *cobra.Command, server, topic string) (path string, t stored, err error) {
	if path, err = topicPath(c, topic); err != nil {
		return "", stored{}, err
	}
	err = call(c.Context(), http.MethodGet, server, path, &t)
	return path, t, err
}

func newTopicPurge() *cobra.Command {
	c := &cobra.Command{
		Use:   "purge TOPIC",
		Short: "Remove every message of a stream",
		Long: "Purge removes every message that TOPIC and the topics below it hold at this moment. TOPIC must have one segment,\n" +
			"because that is what is stored together. There is no way back, so it asks unless --yes is given.",
		Example: "  parley topic purge /orders\n  parley topic purge /orders --yes",
		Args:    between(1, 1),
	}
	server := serverFlag(c)
	yes := c.Flags().Bool("yes", false, "do not ask")
	c.RunE = func(c *cobra.Command, args []string) error {
		path, t, err := lookUp(c, *server, args[0])
		if err != nil {
			return err
		}
		if !*yes {
			if err := confirm(c, fmt.Sprintf("Remove all %d messages of %s for good? Type yes: ", t.Count, t.Topic)); err != nil {
				return err
			}
		}
		var purged stored
		if err := call(c.Context(), http.MethodDelete, *server, path, &purged); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "removed %d messages\n", purged.Count)
		return err
	}
	return c
}

// topicPath is where the HTTP API has a topic.
func topicPath(c *cobra.Command, arg string) (string, error) {
	topic, err := parley.ParseTopic(arg)
	if err != nil {
		return "", usage(c.CommandPath(), "%w", err)
	}
	segments := strings.Split(string(topic), "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return "/v1/topics" + strings.Join(segments, "/"), nil
}

// confirm asks on the terminal.
func confirm(c *cobra.Command, question string) error {
	if !terminal(c.InOrStdin()) {
		return usage(c.CommandPath(), "stdin is no terminal to ask on; give --yes")
	}
	tell(c.ErrOrStderr(), "%s", question)
	answer, err := bufio.NewReader(c.InOrStdin()).ReadString('\n')
	if err != nil && strings.TrimSpace(answer) == "" {
		return usage(c.CommandPath(), "not confirmed")
	}
	if strings.TrimSpace(answer) != "yes" {
		return usage(c.CommandPath(), "not confirmed")
	}
	return nil
}
