package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley/server"
)

func newRestore() *cobra.Command {
	c := &cobra.Command{
		Use:   "restore FILE DIR",
		Short: "Make a store from a backup",
		Long: "Restore checks the backup FILE, or stdin when FILE is -, and makes the store DIR from it. DIR must not exist or be\n" +
			"empty; it appears when it is whole and was checked as by \"parley doctor\".\n\n" +
			"What was published after the backup is lost. So that no seq is ever used for two messages, the restored store\n" +
			"goes on an hour past the clock: clients that have seen what is lost are told \"reset\" or \"gap\" and never get\n" +
			"another message under a seq that they know.",
		Example: "  parley restore parley.tar /var/lib/parley\n" +
			"  parley restore --verify parley.tar\n" +
			"  ssh vault 'cat parley.tar.zst' | zstd -d | parley restore - /var/lib/parley",
		Args:              between(1, 2),
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
	}
	verify := c.Flags().Bool("verify", false, "only check FILE, and make nothing")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *verify != (len(args) == 1) {
			return usage(c.CommandPath(), "give FILE and DIR, or --verify and FILE")
		}
		in := c.InOrStdin()
		if args[0] != "-" {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer func() { _ = f.Close() }()
			in = f
		}
		if *verify {
			a, err := server.VerifyArchive(c.Context(), in)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s is whole: %s\n", args[0], summary(a))
			return err
		}
		return restore(c, in, args[0], args[1])
	}
	return c
}

func restore(c *cobra.Command, in io.Reader, name, dir string) error {
	done, err := server.RestoreStore(c.Context(), in, dir)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "%s: %s\n%s: %s; the next seq is %d\n", name, summary(done.Archive), dir, holds(&done.Report), done.Next)
	return err
}
