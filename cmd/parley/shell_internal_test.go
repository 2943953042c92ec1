package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/parley-im/parley/test/require"
)

// TestCompletion loads the script of each shell into that shell, and completes.
func TestCompletion(t *testing.T) {
	t.Parallel()
	for shell, ask := range map[string]func(script, line string) string{
		// The three functions of bash-completion that the script calls.
		"bash": func(script, line string) string {
			return fmt.Sprintf(`_get_comp_words_by_ref() { cur=${COMP_WORDS[COMP_CWORD]}; prev=${COMP_WORDS[COMP_CWORD-1]}; words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; }
_filedir() { :; }
__ltrim_colon_completions() { :; }
compopt() { :; }
source %s
COMP_LINE='%s'
COMP_POINT=${#COMP_LINE}
COMP_TYPE=9
COMP_WORDS=($COMP_LINE)
[[ $COMP_LINE == *' ' ]] && COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]}-1))
__start_parley parley
printf '%%s\n' "${COMPREPLY[@]}"`, script, line)
		},
		// Zsh completes in its line editor only, so what the script hands to it is
		// printed in the place of _describe.
		"zsh": func(script, line string) string {
			return fmt.Sprintf(`compdef() { :; }
_describe() { print -l -- "${completions[@]}"; }
source %s
words=(${=:-'%s'})
[[ '%[2]s' == *' ' ]] && words+=('')
CURRENT=${#words}
_parley`, script, line)
		},
		"fish": func(script, line string) string {
			return fmt.Sprintf("source %s\ncomplete --do-complete '%s'", script, line)
		},
	} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			require.Program(t, shell, shell)
			script := filepath.Join(t.TempDir(), "parley."+shell)
			text, err := exec.CommandContext(t.Context(), "parley", "completion", shell).Output()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(script, text, 0o600); err != nil {
				t.Fatal(err)
			}
			for line, want := range map[string]string{
				"parley se":                   "serve",
				"parley topic p":              "purge",
				"parley serve --ms m":         "memory",
				"parley serve --log ":         "debug",
				"parley client --log w":       "warn",
				"parley completion f":         "fish",
				"parley serve --open-to-netw": "--open-to-network",
			} {
				if testing.Short() && line != "parley serve --ms m" {
					continue // each starts a shell and this program
				}
				var stderr bytes.Buffer
				c := exec.CommandContext(t.Context(), shell, "-c", ask(script, line))
				c.Env = append(os.Environ(), "HOME="+t.TempDir())
				c.Stderr = &stderr
				out, err := c.Output()
				if !hasWord(string(out), want) {
					t.Errorf("%q completes to %q, want %q among it (%v)\n%s", line, out, want, err, &stderr)
				}
			}
		})
	}
}

// TestNothingCompletesToFiles asks what the scripts ask: what no file can be is
// not completed to files, which is a shell's habit.
func TestNothingCompletesToFiles(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]cobra.ShellCompDirective{
		"sub ":                  cobra.ShellCompDirectiveNoFileComp,
		"pub /x ":               cobra.ShellCompDirectiveNoFileComp,
		"topic show ":           cobra.ShellCompDirectiveNoFileComp,
		"serve --retention ":    cobra.ShellCompDirectiveNoFileComp,
		"bench idle --server ":  cobra.ShellCompDirectiveNoFileComp,
		"serve --storage-path ": cobra.ShellCompDirectiveFilterDirs,
		"serve --config ":       cobra.ShellCompDirectiveFilterFileExt,
		"serve --tls-cert ":     cobra.ShellCompDirectiveDefault,
		"man ":                  cobra.ShellCompDirectiveFilterDirs,
	} {
		root := newRoot()
		var out, stderr bytes.Buffer
		root.SetArgs(append([]string{cobra.ShellCompNoDescRequestCmd}, strings.Split(line, " ")...))
		root.SetOut(&out)
		root.SetErr(&stderr)
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		if tail := fmt.Sprintf(":%d\n", want); !strings.HasSuffix(out.String(), tail) {
			t.Errorf("%q completes to %q, want %q at the end", line, &out, tail)
		}
	}
}

// hasWord reports whether a line of text begins with the word.
func hasWord(text, word string) bool {
	for line := range strings.Lines(text) {
		first, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
		first, _, _ = strings.Cut(first, ":")
		first, _, _ = strings.Cut(first, " ")
		if first == word {
			return true
		}
	}
	return false
}

// TestEveryCommandExplainsItself holds commands to what help and manual need.
func TestEveryCommandExplainsItself(t *testing.T) {
	t.Parallel()
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Hidden {
			return
		}
		switch {
		case c.Short == "" || strings.HasSuffix(c.Short, "."):
			t.Errorf("%s: Short is %q, want a phrase without a full stop", c.CommandPath(), c.Short)
		case !c.HasSubCommands() && c.Example == "":
			t.Errorf("%s has no example", c.CommandPath())
		}
		for line := range strings.Lines(c.Example) {
			if !strings.HasPrefix(line, "  ") || !strings.Contains(line, "parley") {
				t.Errorf("%s: the example %q is not an indented command", c.CommandPath(), line)
			}
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(newRoot())
}

// TestManualPages writes all pages and lets a strict reader judge them.
func TestManualPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man1")
	t.Setenv("SOURCE_DATE_EPOCH", "1000000000")
	var stdout bytes.Buffer
	root := newRoot()
	root.SetArgs([]string{"man", dir})
	root.SetOut(&stdout)
	if err := root.Execute(); err != nil || stdout.Len() > 0 {
		t.Fatalf("parley man: %v, says %q", err, &stdout)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "parley*.1"))
	if err != nil || len(pages) < 15 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "parley-serve.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`.TH "PARLEY-SERVE" "1" "2001-09-09"`,
		`\fB\-\-storage\-path\fR \fIDIR\fR`,
		`parley serve \-\-retention orders=age:30d,bytes:10GiB \-\-retention \(aq*=messages:1000000\(aq`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page of serve lacks %s", want)
		}
	}
	for _, reader := range [][]string{{"mandoc", "-T", "lint", "-W", "warning"}, {"man", "--warnings", "-l", "-E", "UTF-8"}} {
		t.Run(reader[0], func(t *testing.T) {
			require.Program(t, reader[0], reader[0])
			for _, page := range pages {
				var stderr bytes.Buffer
				c := exec.CommandContext(t.Context(), reader[0], append(reader[1:], page)...)
				c.Stderr = &stderr
				out, err := c.Output()
				if err != nil || stderr.Len() > 0 {
					t.Errorf("%s: %v\n%s%s", page, err, out, &stderr)
				}
			}
		})
	}
}
