package main

import (
	"cmp"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// defaultServer is where clients look for a server.
const defaultServer = "http://127.0.0.1:8080"

// newRoot is the command line.
func newRoot() *cobra.Command {
	root := group("parley", "A messaging server and its clients")
	root.Long = "Parley is a messaging server: publishers send messages to topics, subscribers get them live, replayed, or both,\n" +
		"and every acknowledged message is on disk.\n\n" + exitHelp
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(&cobra.Command{Hidden: true, Use: "no-help"})
	root.AddCommand(newServe(), newConfig(), newPub(), newSub(), newHistory(), newSend(), newInbox(), newWhoAmI(), newTopic(),
		newDurable(), newDead(), newUser(), newDevice(), newGrant(), newToken(), newKey(), newCA(), newClient(), newHealth(), newBackup(),
		newRestore(), newDoctor(), newBench(), newCompletion(), newMan(), newVersion())
	completeAll(root)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usage(c.CommandPath(), "%w", err)
	})
	return root
}

// group is a command that only holds others. By itself it shows its help.
func group(use, short string) *cobra.Command {
	return &cobra.Command{
		Use:   use + " COMMAND",
		Short: short,
		Args:  cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(c.CommandPath(), "there is no command %q", args[0])
			}
			return c.Help()
		},
	}
}

// between checks the number of arguments.
func between(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		switch takes, _ := strings.CutPrefix(c.Use, c.Name()); {
		case len(args) >= least && len(args) <= most:
			return nil
		case most == 0:
			return usage(c.CommandPath(), "there are only flags here, and %q is none", args[0])
		default:
			return usage(c.CommandPath(), "what belongs here is%s, not %d arguments", takes, len(args))
		}
	}
}

// serverFlag adds the flag --server, whose default is the environment's
// PARLEY_URL.
func serverFlag(c *cobra.Command) *string {
	return c.Flags().String("server", cmp.Or(os.Getenv("PARLEY_URL"), defaultServer), "the server's `URL`; PARLEY_URL in the environment")
}
