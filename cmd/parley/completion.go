package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newCompletion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that makes a shell complete this command",
		Long: "Completion prints a script for one of three shells. With it, TAB completes commands, flags and the values of flags\n" +
			"that are one of a few words. Nothing is asked of a server. The script for bash needs the package bash-completion.",
		Example: "  source <(parley completion bash)                                        # in this shell only\n" +
			"  parley completion bash > /etc/bash_completion.d/parley\n" +
			"  parley completion zsh > \"${fpath[1]}/_parley\"\n" +
			"  parley completion fish > ~/.config/fish/completions/parley.fish",
		Args:                  between(1, 1),
		ValidArgs:             []string{"bash", "zsh", "fish"},
		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, args []string) error {
			root := c.Root()
			shells := map[string]func(io.Writer) error{
				"bash": func(w io.Writer) error { return root.GenBashCompletionV2(w, true) },
				"zsh":  root.GenZshCompletion,
				"fish": func(w io.Writer) error { return root.GenFishCompletion(w, true) },
			}
			generate, ok := shells[args[0]]
			if !ok {
				return usage(c.CommandPath(), "there is no script for %q; allowed: bash, zsh, fish", args[0])
			}
			return generate(c.OutOrStdout())
		},
	}
}

// fixed makes the value of a flag complete to one of a few words.
func fixed(c *cobra.Command, flag string, words ...string) {
	if err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(fmt.Sprintf("completion of %s --%s: %v", c.Name(), flag, err)) // there is no such flag: the caller's fault
	}
}

// completeValues makes flags whose value is one of a few words, which their
// usage names as "one|other", complete to these, and those of other settings
// complete to nothing rather than to files.
func completeValues(c *cobra.Command) {
	c.Flags().VisitAll(func(f *pflag.Flag) {
		_, known := c.GetFlagCompletionFunc(f.Name)
		switch {
		case known || f.NoOptDefVal != "":
		case strings.Contains(f.Value.Type(), "|"):
			fixed(c, f.Name, strings.Split(f.Value.Type(), "|")...)
		case f.Value.Type() == "DIR":
			_ = c.MarkFlagDirname(f.Name)
		}
	})
}
