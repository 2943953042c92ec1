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

// completeAll says of every command and flag what completes it, where that is
// not said yet: words where the usage names them as "one|other", directories
// and files where it says DIR and FILE, and otherwise nothing, for neither
// topics nor numbers are files.
func completeAll(c *cobra.Command) {
	if c.ValidArgsFunction == nil && len(c.ValidArgs) == 0 && !c.HasSubCommands() {
		c.ValidArgsFunction = cobra.NoFileCompletions
	}
	c.Flags().VisitAll(func(f *pflag.Flag) {
		_, known := c.GetFlagCompletionFunc(f.Name)
		switch value, _ := pflag.UnquoteUsage(f); {
		case known || f.NoOptDefVal != "" || value == "FILE":
		case value == "DIR":
			_ = c.MarkFlagDirname(f.Name) // it is there
		case strings.Contains(value, "|"):
			fixed(c, f.Name, strings.Split(value, "|")...)
		default:
			fixed(c, f.Name)
		}
	})
	for _, sub := range c.Commands() {
		completeAll(sub)
	}
}
