package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func newDevice() *cobra.Command {
	c := group("device", "A user's devices: list, forget")
	c.AddCommand(newDeviceList(), newDeviceForget())
	return c
}

func newDeviceList() *cobra.Command {
	c := &cobra.Command{
		Use: "list USER", Short: "List a user's devices", Example: "  parley device list ann\n  parley device list ann --json", Args: between(1, 1),
	}
	server := serverFlag(c)
	asJSON := jsonFlag(c, "each")
	c.RunE = func(c *cobra.Command, args []string) error {
		path, err := userPath(c, args[0], "devices")
		if err != nil {
			return err
		}
		type device struct {
			Device   string    `json:"device"`
			Display  string    `json:"display,omitempty"`
			Platform string    `json:"platform,omitempty"`
			Created  time.Time `json:"created"`
			Seen     time.Time `json:"seen"`
		}
		var all struct {
			Devices []device `json:"devices"`
		}
		if err := call(c.Context(), http.MethodGet, *server, path, &all); err != nil {
			return err
		}
		if *asJSON {
			for _, v := range all.Devices {
				if err := json.NewEncoder(c.OutOrStdout()).Encode(v); err != nil {
					return err
				}
			}
			return nil
		}
		out := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
		tell(out, "DEVICE\tDISPLAY\tPLATFORM\tSEEN\tCREATED\n")
		for _, v := range all.Devices {
			tell(out, "%s\t%s\t%s\t%s\t%s\n", v.Device, dash(v.Display), dash(v.Platform), moment(v.Seen), moment(v.Created))
		}
		return out.Flush()
	}
	return c
}

func newDeviceForget() *cobra.Command {
	c := &cobra.Command{
		Use:   "forget USER DEVICE",
		Short: "Forget a device, with its place in the inbox",
		Long: "Forget ends the device's sessions. If it has a credential that is still good it can come back, as a new device:\n" +
			"for one that was lost, revoke the credential too.",
		Example: "  parley device forget ann phone\n  parley token revoke --user ann", Args: between(2, 2),
	}
	server := serverFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		path, err := userPath(c, args[0], "devices", args[1])
		if err != nil {
			return err
		}
		var gone struct{ User, Device string }
		if err := call(c.Context(), http.MethodDelete, *server, path, &gone); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "forgot %s of %s\n", gone.Device, gone.User)
		return err
	}
	return c
}
