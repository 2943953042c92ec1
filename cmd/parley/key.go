package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// apiKey is what a server tells of a key.
type apiKey struct {
	Key     string    `json:"key"`
	User    string    `json:"user"`
	Note    string    `json:"note,omitempty"`
	Grants  []string  `json:"grants"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
	Used    time.Time `json:"used,omitzero"`
}

func newKey() *cobra.Command {
	c := group("key", "API keys for back ends: create, list, revoke")
	c.AddCommand(newKeyCreate(), newKeyList(), newKeyRevoke())
	return c
}

func newKeyCreate() *cobra.Command {
	c := &cobra.Command{
		Use:   "create USER",
		Short: "Make an API key",
		Long: "Create prints the secret of a new key, and on stderr its id. The server keeps a hash: the secret is shown this once.\n" +
			"With grants the key may do those and nothing else; without, what its user may. The user is made if there is none.\n\n" + grantHelp,
		Example: "  parley key create billing --note 'the shop' --grant publish:/orders --ttl 90d\n  KEY=$(parley key create billing)",
		Args:    between(1, 1),
	}
	server := serverFlag(c)
	note := c.Flags().String("note", "", "what it is for, a `TEXT` for people")
	ttl := ttlFlag(c, "")
	grants := grantFlag(c, "what it may do")
	asJSON := jsonFlag(c, "all of it, the secret among it,")
	c.RunE = func(c *cobra.Command, args []string) error {
		body := map[string]any{"user": args[0], "grants": *grants}
		given(body, "note", *note)
		given(body, "ttl", *ttl)
		var made struct {
			apiKey

			Secret string `json:"secret"`
		}
		d := demand{method: http.MethodPost, server: *server, path: "/v1/keys", body: body}
		if err := d.send(c.Context(), &made); err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(c.OutOrStdout()).Encode(made) //nolint:gosec // the secret is what was asked for
		}
		until := "revoked"
		if !made.Expires.IsZero() {
			until = moment(made.Expires)
		}
		tell(c.ErrOrStderr(), "key %s of %s, until %s\n", made.Key, made.User, until)
		_, err := fmt.Fprintln(c.OutOrStdout(), made.Secret)
		return err
	}
	return c
}

func newKeyList() *cobra.Command {
	c := &cobra.Command{
		Use: "list [USER]", Short: "List the API keys", Example: "  parley key list\n  parley key list billing --json", Args: between(0, 1),
	}
	server := serverFlag(c)
	asJSON := jsonFlag(c, "each")
	c.RunE = func(c *cobra.Command, args []string) error {
		return list(c, listing[apiKey]{
			server: *server, path: "/v1/keys", member: "keys", query: ofUser(args), asJSON: *asJSON,
			head: "KEY\tUSER\tNOTE\tGRANTS\tUSED\tEXPIRES\n",
			row: func(k apiKey) string {
				return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\n", k.Key, k.User, dash(k.Note), dash(strings.Join(k.Grants, " ")), moment(k.Used), moment(k.Expires))
			},
			id: func(k apiKey) string { return k.Key },
		})
	}
	return c
}

// ofUser is the query for what belongs to the user that args name, if they do.
func ofUser(args []string) url.Values {
	query := url.Values{}
	if len(args) > 0 {
		query.Set("user", args[0])
	}
	return query
}

func newKeyRevoke() *cobra.Command {
	c := &cobra.Command{
		Use: "revoke KEY", Short: "Revoke an API key",
		Long:    "Revoke ends the key, and within seconds the sessions that it opened. KEY is the id, as list shows it.",
		Example: "  parley key revoke 0123456789abcdef", Args: between(1, 1),
	}
	server := serverFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if strings.HasPrefix(args[0], "parley_") {
			return usage(c.CommandPath(), "that is the secret, which now has been seen on the command line; give the id, its first 16 digits")
		}
		var gone struct{ ID string }
		if err := call(c.Context(), http.MethodDelete, *server, "/v1/keys/"+url.PathEscape(args[0]), &gone); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.OutOrStdout(), "revoked %s\n", gone.ID)
		return err
	}
	return c
}
