package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/server"
)

// pubProducer is the producer of every message that is published with --id, so
// that a command may be repeated by another process: all pub commands share one
// space of ids.
const pubProducer = "70617262c079207075620000000000ff"

func newPub() *cobra.Command {
	var p publication
	c := &cobra.Command{
		Use:   "pub TOPIC [MESSAGE]",
		Short: "Publish a message, or each line of stdin",
		Long: "Pub publishes MESSAGE to TOPIC and prints its seq when it is on disk. Without MESSAGE it publishes each line\n" +
			"of stdin as it comes, in order, and says at the end how many there were; if the connection breaks meanwhile, it\n" +
			"waits for the next one and goes on, without losing or repeating a line.",
		Example: "  parley pub /hello \"hi there\"\n" +
			"  parley pub /orders/eu '{\"id\":42}' --header type=order --id order-42\n" +
			"  parley pub /alerts \"disk full\" --expires 10m\n" +
			"  tail -f access.log | parley pub /logs/web\n" +
			"  parley pub /import --id import-7 < lines.txt    # may be repeated: each line is stored once",
		Args: between(1, 2),
	}
	k := credentialFlags(c)
	p.flags(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		template, err := p.template(args[0])
		if err != nil {
			return usage(c.CommandPath(), "%w", err)
		}
		producer := ""
		if p.id != "" {
			producer = pubProducer
		}
		conn, err := connect(c, k, producer)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }() // never fails
		if len(args) == 1 {
			n, err := publishLines(c.Context(), conn, template, c.InOrStdin())
			tell(c.ErrOrStderr(), "published %d\n", n)
			return err
		}
		template.Body = []byte(args[1])
		receipt, err := conn.Publish(c.Context(), template)
		if err != nil {
			return err
		}
		return printReceipt(c.OutOrStdout(), receipt.Seq, receipt.Duplicate)
	}
	return c
}

func printReceipt(out io.Writer, seq parley.Seq, duplicate bool) error {
	line := seq.String()
	if duplicate {
		line += " duplicate"
	}
	_, err := fmt.Fprintln(out, line)
	return err
}

// publication is what the flags of pub say.
type publication struct {
	id      string
	headers []string
	expires string
}

func (p *publication) flags(c *cobra.Command) {
	c.Flags().StringVar(&p.id, "id", "", "`ID` that makes repeating safe: the same id and message is stored once; lines of stdin get ID-1, ID-2, …")
	c.Flags().StringArrayVar(&p.headers, "header", nil, "header `KEY=VALUE`; may be repeated")
	c.Flags().StringVar(&p.expires, "expires", "", "`WHEN` it is no longer worth delivering: a duration such as 10m or 7d, or a time such as 2030-01-02T15:04:05Z")
}

// template is a message without a body.
func (p *publication) template(topic string) (parley.Message, error) {
	t, err := parley.ParseTopic(topic)
	if err != nil {
		return parley.Message{}, err
	}
	m := parley.Message{Topic: t, ID: p.id}
	if len(p.headers) > 0 {
		fields := make(map[string]string)
		for _, h := range p.headers {
			k, v, ok := strings.Cut(h, "=")
			if !ok || k == "" {
				return m, fmt.Errorf("--header %q is not KEY=VALUE", h)
			}
			fields[k] = v
		}
		header, err := json.Marshal(fields)
		if err != nil {
			return m, fmt.Errorf("--header: %w", err)
		}
		m.Header = string(header)
	}
	if p.expires != "" {
		if m.Expires, err = parseExpiry(p.expires, time.Now()); err != nil {
			return m, err
		}
	}
	return m, nil
}

// parseExpiry reads a time, or a duration from now.
func parseExpiry(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	d, err := server.ParseDuration(s)
	if err != nil || d == 0 {
		return time.Time{}, fmt.Errorf("--expires %q is neither a duration such as 10m nor a time such as 2030-01-02T15:04:05Z", s)
	}
	return now.Add(d), nil
}
