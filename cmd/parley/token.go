package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

func newToken() *cobra.Command {
	c := group("token", "Tokens that prove who a user is: issue, revoke")
	c.AddCommand(newTokenIssue(), newTokenRevoke())
	return c
}

func newTokenIssue() *cobra.Command {
	c := &cobra.Command{
		Use:   "issue USER",
		Short: "Issue a token for a user",
		Long: "Issue prints a token (JWT) that the server accepts, and on stderr its id, by which it can be revoked. The server does\n" +
			"not keep it: it is shown this once.",
		Example: "  parley token issue ann\n  parley token issue ann --device phone --ttl 90d\n  TOKEN=$(parley token issue ann)", Args: between(1, 1),
	}
	server := serverFlag(c)
	flags := c.Flags()
	device := flags.String("device", "", "the only `DEVICE` that it is good for")
	ttl := ttlFlag(c, "")
	grants := grantFlag(c, "what its holder may do beside what the user may")
	asJSON := jsonFlag(c, "all of it, the token among it,")
	c.RunE = func(c *cobra.Command, args []string) error {
		path, err := userPath(c, args[0], "tokens")
		if err != nil {
			return err
		}
		body := map[string]any{}
		given(body, "device", *device)
		given(body, "ttl", *ttl)
		if len(*grants) > 0 {
			body["grants"] = *grants
		}
		var made struct {
			User    string    `json:"user"`
			Device  string    `json:"device,omitempty"`
			ID      string    `json:"id"`
			Issued  time.Time `json:"issued"`
			Expires time.Time `json:"expires"`
			Token   string    `json:"token"`
		}
		d := demand{method: http.MethodPost, server: *server, path: path, body: body}
		if err := d.send(c.Context(), &made); err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(c.OutOrStdout()).Encode(made)
		}
		tell(c.ErrOrStderr(), "token %s of %s, until %s\n", made.ID, made.User, moment(made.Expires))
		_, err = fmt.Fprintln(c.OutOrStdout(), made.Token)
		return err
	}
	return c
}

// ttlFlag adds the flag --ttl.
func ttlFlag(c *cobra.Command, otherwise string) *string {
	return c.Flags().String("ttl", otherwise, "how long it is good for, a `DURATION` such as 12h or 90d")
}

// given puts a value into a body unless it is empty.
func given(body map[string]any, member, value string) {
	if value != "" {
		body[member] = value
	}
}

func newTokenRevoke() *cobra.Command {
	c := &cobra.Command{
		Use:   "revoke [ID]",
		Short: "Revoke a token, or everything that was issued to a user",
		Long: "With an ID, which is the token's jti, that token is not accepted any more, whoever issued it. With --user, nothing is\n" +
			"accepted that was issued to the user until now: tokens, keys and certificates. Sessions that were opened with it\n" +
			"end within seconds.",
		Example: "  parley token revoke 5f1c09d0a1b2c3d4\n  parley token revoke --user ann", Args: between(0, 1),
	}
	server := serverFlag(c)
	user := c.Flags().String("user", "", "revoke everything of this `USER`")
	c.RunE = func(c *cobra.Command, args []string) error {
		switch {
		case (len(args) == 1) == (*user != ""):
			return usage(c.CommandPath(), "either an ID or --user")
		case *user == "":
			var gone struct{ ID string }
			if err := call(c.Context(), http.MethodDelete, *server, "/v1/tokens/"+url.PathEscape(args[0]), &gone); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "revoked %s\n", gone.ID)
			return err
		}
		path, err := userPath(c, *user, "tokens")
		if err != nil {
			return err
		}
		var u person
		if err := call(c.Context(), http.MethodDelete, *server, path, &u); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "revoked what was issued to %s before %s\n", u.User, moment(u.NotBefore))
		return err
	}
	return c
}
