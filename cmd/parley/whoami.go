package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley/client"
)

func newWhoAmI() *cobra.Command {
	c := &cobra.Command{
		Use:   "whoami",
		Short: "Say who the server takes you for",
		Long: "Whoami prints your user, and your device and when your credential expires, if it has such; or nothing but\n" +
			"\"nobody\" when you showed none. With --sessions it also lists where else you are connected.",
		Example: "  parley whoami --token-file ~/.parley-token\n" +
			"  PARLEY_API_KEY=... parley whoami\n" +
			"  parley whoami --user ann --device laptop\n" +
			"  parley whoami --sessions --json",
		Args: between(0, 0),
	}
	k := credentialFlags(c)
	sessions := c.Flags().Bool("sessions", false, "list your live connections too")
	asJSON := c.Flags().Bool("json", false, "print an object of JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		conn, err := connect(c, k, "")
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }() // never fails
		me, err := conn.WhoAmI(c.Context())
		if err != nil {
			return err
		}
		var all []client.SessionInfo
		if *sessions {
			if all, err = conn.Sessions(c.Context()); err != nil {
				return err
			}
		}
		if *asJSON {
			return json.NewEncoder(c.OutOrStdout()).Encode(newIdentity(me, all))
		}
		return printIdentity(c, me, all)
	}
	return c
}

// identity is who somebody is, as an object of JSON.
type identity struct {
	User     string               `json:"user"`
	Device   string               `json:"device,omitempty"`
	Expires  *time.Time           `json:"expires,omitempty"`
	Sessions []client.SessionInfo `json:"sessions,omitempty"`
}

func newIdentity(me client.WhoAmI, all []client.SessionInfo) identity {
	i := identity{User: me.User, Device: me.Device, Sessions: all}
	if !me.Expires.IsZero() {
		i.Expires = &me.Expires
	}
	return i
}

func printIdentity(c *cobra.Command, me client.WhoAmI, all []client.SessionInfo) error {
	t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	line := func(fields ...string) { _, _ = fmt.Fprintln(t, strings.Join(fields, "\t")) } // Flush tells
	if me.User == "" {
		line("nobody")
		return t.Flush()
	}
	line("user", me.User)
	if me.Device != "" {
		line("device", me.Device)
	}
	if !me.Expires.IsZero() {
		line("expires", me.Expires.Local().Format(time.RFC3339))
	}
	for _, s := range all {
		here := ""
		if s.Current {
			here = "this one"
		}
		line("session", fmt.Sprint(s.Session), s.Protocol, s.Remote, tamed(s.Device), s.Since.Local().Format(time.RFC3339), here)
	}
	return t.Flush()
}
