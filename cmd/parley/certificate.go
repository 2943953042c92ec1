package main

import (
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
