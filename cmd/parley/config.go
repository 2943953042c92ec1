package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley/server"
)

func newConfig() *cobra.Command {
	var check, reference bool
	c := &cobra.Command{
		Use:   "config",
		Short: "Show or check the configuration of the server",
		Long: "Config reads the configuration as serve does, with the same flags, environment and file, and prints it as a file\n" +
			"that --config reads: a line for each setting, with where its value comes from. Secrets are hidden. It starts\n" +
			"nothing, and exits with 2 when serve would not accept it. --check looks at the certificate, too.",
		Example: "  parley config\n" +
			"  parley config --config /etc/parley.yaml --log debug\n" +
			"  parley config --check --config /etc/parley.yaml\n" +
			"  parley config --reference",
		Args: between(0, 0),
	}
	sources := settingsFlags(c)
	c.Flags().BoolVar(&check, "check", false, "only say whether it is right")
	c.Flags().BoolVar(&reference, "reference", false, "print what all settings are, in Markdown")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if check && reference {
			return usage(c.CommandPath(), "--check and --reference do not go together")
		}
		text, err := server.Reference(), error(nil)
		switch {
		case check:
			text, err = "the configuration is good\n", server.CheckSources(sources())
		case !reference:
			text, err = server.Effective(sources())
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(c.OutOrStdout(), text)
		return err
	}
	return c
}
