package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

// clientCertificate is what a server tells of a client certificate.
type clientCertificate struct {
	Serial  string    `json:"serial"`
	User    string    `json:"user,omitempty"`
	Issued  time.Time `json:"issued,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	Revoked time.Time `json:"revoked,omitzero"`
}

func newCA() *cobra.Command {
	c := group("ca", "Client certificates: issue, list, revoke")
	c.AddCommand(newCAIssue(), newCAList(), newCARevoke())
	return c
}

func newCAIssue() *cobra.Command {
	c := &cobra.Command{
		Use:   "issue USER",
		Short: "Issue a client certificate",
		Long: "Issue prints, in PEM, a certificate that the server accepts, those of the authorities that made it, and its private\n" +
			"key. The server does not keep the key: it is shown this once. The certificate's serial, on stderr, is the device of\n" +
			"who connects with it.",
		Example: "  (umask 077 && parley ca issue ann > ann.pem)\n  parley ca issue ann --ttl 365d --json", Args: between(1, 1),
	}
	server := serverFlag(c)
	ttl := ttlFlag(c, "")
	asJSON := jsonFlag(c, "all of it, the key among it,")
	c.RunE = func(c *cobra.Command, args []string) error {
		body := map[string]any{"user": args[0]}
		given(body, "ttl", *ttl)
		var made struct {
			clientCertificate

			PEM string `json:"pem"`
			Key string `json:"key"`
		}
		d := demand{method: http.MethodPost, server: *server, path: "/v1/certificates", body: body}
		if err := d.send(c.Context(), &made); err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(c.OutOrStdout()).Encode(made)
		}
		tell(c.ErrOrStderr(), "certificate %s of %s, until %s\n", made.Serial, made.User, moment(made.Expires))
		_, err := fmt.Fprint(c.OutOrStdout(), made.PEM, made.Key)
		return err
	}
	return c
}

func newCAList() *cobra.Command {
	c := &cobra.Command{
		Use: "list [USER]", Short: "List the client certificates",
		Long:    "List shows those that the server has issued, and those that were revoked, until they expire.",
		Example: "  parley ca list\n  parley ca list ann --json", Args: between(0, 1),
	}
	server := serverFlag(c)
	asJSON := jsonFlag(c, "each")
	c.RunE = func(c *cobra.Command, args []string) error {
		return list(c, listing[clientCertificate]{
			server: *server, path: "/v1/certificates", member: "certificates", query: ofUser(args), asJSON: *asJSON,
			head: "SERIAL\tUSER\tISSUED\tEXPIRES\tREVOKED\n",
			row: func(v clientCertificate) string {
				return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\n", v.Serial, dash(v.User), moment(v.Issued), moment(v.Expires), moment(v.Revoked))
			},
			id: func(v clientCertificate) string { return v.Serial },
		})
	}
	return c
}

func newCARevoke() *cobra.Command {
	c := &cobra.Command{
		Use: "revoke SERIAL", Short: "Revoke a client certificate",
		Long:    "Revoke refuses the certificate with that serial, in hexadecimal, from now on, and ends its sessions within seconds.",
		Example: "  parley ca revoke 1f0a", Args: between(1, 1),
	}
	server := serverFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		var gone struct{ ID string }
		if err := call(c.Context(), http.MethodDelete, *server, "/v1/certificates/"+url.PathEscape(args[0]), &gone); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.OutOrStdout(), "revoked %s\n", gone.ID)
		return err
	}
	return c
}
