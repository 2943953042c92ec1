package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/server"
)

// keeps is what a server tells of a stream's retention.
type keeps struct {
	Age      string `json:"age,omitempty"`
	Bytes    int64  `json:"bytes,omitempty"`
	Messages int64  `json:"messages,omitempty"`
	Source   string `json:"source"`
}

// String says it to people.
func (k *keeps) String() string {
	if k == nil || k.Source == "none" {
		return "everything, for ever"
	}
	var bounds []string
	if k.Age != "" {
		bounds = append(bounds, "age "+k.Age)
	}
	if k.Bytes > 0 {
		bounds = append(bounds, "bytes "+server.FormatSize(k.Bytes))
	}
	if k.Messages > 0 {
		bounds = append(bounds, fmt.Sprintf("messages %d", k.Messages))
	}
	if len(bounds) == 0 {
		bounds = []string{"everything, for ever"}
	}
	return strings.Join(bounds, ", ") + " (" + map[string]string{"set": "set here", "configuration": "by the server's configuration"}[k.Source] + ")"
}

func newTopicRetention() *cobra.Command {
	c := &cobra.Command{
		Use:   "retention TOPIC",
		Short: "Say what a stream keeps, or see it",
		Long: "Retention without a flag shows the rule in force. With bounds it sets a rule: the first bound that is exceeded drops\n" +
			"the oldest messages, at once and from now on. The rule survives restarts and wins over the server's configuration,\n" +
			"until --reset. TOPIC must have one segment, because that is what is stored together.",
		Example: "  parley topic retention /orders\n" +
			"  parley topic retention /orders --age 30d --bytes 10GiB\n" +
			"  parley topic retention /orders --reset",
		Args: between(1, 1),
	}
	server := serverFlag(c)
	flags := c.Flags()
	flags.String("age", "", "drop messages older than this `DURATION`, such as 12h or 30d")
	flags.String("bytes", "", "keep at most this `SIZE`, such as 10GiB")
	flags.Int64("messages", 0, "keep at most this `NUMBER` of messages")
	reset := flags.Bool("reset", false, "forget what was set, so that the configuration counts")
	c.RunE = func(c *cobra.Command, args []string) error {
		path, err := streamPath(c, args[0])
		if err != nil {
			return err
		}
		d := demand{method: http.MethodGet, server: *server, path: path}
		rule, err := boundsOf(c)
		switch {
		case err != nil:
			return err
		case *reset && len(rule) > 0:
			return usage(c.CommandPath(), "either --reset or bounds")
		case *reset:
			d.method = http.MethodDelete
		case len(rule) > 0:
			d.method, d.body = http.MethodPut, rule
		}
		var k keeps
		if err := d.send(c.Context(), &k); err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), k.String())
		return err
	}
	return c
}

// boundsOf are the bounds that the flags give, as the HTTP API takes them.
func boundsOf(c *cobra.Command) (map[string]any, error) {
	rule := map[string]any{}
	flags := c.Flags()
	if flags.Changed("age") {
		text, _ := flags.GetString("age")
		if _, err := server.ParseDuration(text); err != nil {
			return nil, usage(c.CommandPath(), "--age %q is %w; write 90s, 12h or 30d", text, err)
		}
		rule["age"] = text
	}
	if flags.Changed("bytes") {
		text, _ := flags.GetString("bytes")
		n, err := server.ParseSize(text)
		if err != nil {
			return nil, usage(c.CommandPath(), "--bytes %q is %w; write a number with B, KiB, MiB, GiB or TiB", text, err)
		}
		rule["bytes"] = n
	}
	if flags.Changed("messages") {
		rule["messages"], _ = flags.GetInt64("messages")
	}
	return rule, nil
}

// streamPath is where the HTTP API has the retention of a topic's stream.
func streamPath(c *cobra.Command, arg string) (string, error) {
	topic, err := parley.ParseTopic(arg)
	if err != nil {
		return "", usage(c.CommandPath(), "%w", err)
	}
	if topic != topic.Stream().Topic() || topic == "/" {
		return "", usage(c.CommandPath(), "only a whole stream has a retention: %s", topic.Stream().Topic())
	}
	return "/v1/retention/" + url.PathEscape(string(topic.Stream())), nil
}
