package main

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/parley-im/parley/server"
)

func newMan() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages into a directory",
		Long: "Man writes a page of section 1 for every command into DIR, which is made if it is missing. The date in them is\n" +
			"that of SOURCE_DATE_EPOCH, or of the commit that the program was built from, so that packages can be built again\n" +
			"byte for byte.",
		Example: "  parley man /usr/local/share/man/man1\n" +
			"  parley man /tmp/parley-man && man -l /tmp/parley-man/parley-serve.1",
		Args: between(1, 1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil { //nolint:gosec // manual pages are for everybody
				return err
			}
			return writePages(c.Root(), args[0], pageDate(time.Now()))
		},
	}
}

// pageDate is what stands in the pages, unless neither the environment nor the
// program knows better than today.
func pageDate(today time.Time) string {
	if seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
		return time.Unix(seconds, 0).UTC().Format(time.DateOnly)
	}
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, s := range build.Settings {
			if t, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil {
				return t.UTC().Format(time.DateOnly)
			}
		}
	}
	return today.UTC().Format(time.DateOnly)
}

// writePages writes the page of c and those of all commands below it.
func writePages(c *cobra.Command, dir, date string) error {
	name := filepath.Join(dir, pageName(c)+".1")
	if err := os.WriteFile(name, []byte(page(c, date)), 0o644); err != nil { //nolint:gosec // as above
		return err
	}
	for _, sub := range c.Commands() {
		if !sub.IsAvailableCommand() {
			continue
		}
		if err := writePages(sub, dir, date); err != nil {
			return err
		}
	}
	return nil
}

// pageName is a command's path with dashes, as git has it.
func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// page is the manual page of one command, in the macros of man(7).
func page(c *cobra.Command, date string) string {
	c.InitDefaultHelpFlag()
	var p roff
	p.request("TH", strings.ToUpper(pageName(c)), "1", date, "parley "+server.Version(), "Parley")
	p.request("nh") // no word is divided: many are names
	p.request("SH", "NAME")
	p.line(escape(pageName(c)) + ` \- ` + escape(c.Short))
	p.request("SH", "SYNOPSIS")
	p.line(`\fB` + escape(c.CommandPath()) + `\fR` + escape(strings.TrimPrefix(c.UseLine(), c.CommandPath())))
	p.request("SH", "DESCRIPTION")
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	p.prose(text)
	p.commands(c)
	p.request("SH", "OPTIONS")
	c.NonInheritedFlags().VisitAll(p.option)
	if c.Example != "" {
		p.request("SH", "EXAMPLES")
		p.verbatim(c.Example)
	}
	p.related(c)
	return p.text.String()
}

// roff is a page as it is being written.
type roff struct{ text strings.Builder }

// request writes a macro with its arguments, which hold nothing special.
func (p *roff) request(macro string, args ...string) {
	p.text.WriteString("." + macro)
	for _, arg := range args {
		p.text.WriteString(` "` + arg + `"`)
	}
	p.text.WriteByte('\n')
}

// line writes one line of text that is escaped already.
func (p *roff) line(s string) { p.text.WriteString(s + "\n") }

// prose writes paragraphs, which empty lines separate; one with an indented line
// is a table, and stays as it is.
func (p *roff) prose(text string) {
	for i, paragraph := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			p.request("PP")
		}
		if strings.Contains(paragraph, "\n  ") {
			p.verbatim(paragraph)
			continue
		}
		p.fill(paragraph)
	}
}

// fill writes text in lines of moderate length, which the reader's program joins.
func (p *roff) fill(text string) {
	const width = 72
	length := 0
	for i, word := range strings.Fields(text) {
		word = escape(word)
		switch {
		case i == 0:
		case length+len(word) > width:
			p.text.WriteByte('\n')
			length = 0
		default:
			p.text.WriteByte(' ')
		}
		if length == 0 && strings.HasPrefix(word, ".") {
			word = `\&` + word // a word, not a macro
		}
		p.text.WriteString(word)
		length += len(word) + 1
	}
	p.text.WriteByte('\n')
}

// verbatim writes lines that stay as they are.
func (p *roff) verbatim(text string) {
	p.request("EX")
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		if strings.HasPrefix(line, ".") {
			p.text.WriteString(`\&`)
		}
		p.line(escape(line))
	}
	p.request("EE")
}

// commands writes what c holds.
func (p *roff) commands(c *cobra.Command) {
	first := true
	for _, sub := range c.Commands() {
		if !sub.IsAvailableCommand() {
			continue
		}
		if first {
			p.request("SH", "COMMANDS")
			first = false
		}
		p.request("TP")
		p.line(`\fB` + escape(sub.Name()) + `\fR`)
		p.fill(sub.Short + ".")
	}
}

// option writes one flag.
func (p *roff) option(f *pflag.Flag) {
	if f.Hidden {
		return
	}
	value, text := pflag.UnquoteUsage(f)
	p.request("TP")
	head := `\fB\-\-` + escape(f.Name) + `\fR`
	if f.Shorthand != "" {
		head = `\fB\-` + escape(f.Shorthand) + `\fR, ` + head
	}
	if value != "" {
		head += ` \fI` + escape(value) + `\fR`
	}
	p.line(head)
	if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "[]" {
		text += "; default " + f.DefValue
	}
	p.fill(text + ".")
}

// related writes where to read on.
func (p *roff) related(c *cobra.Command) {
	var pages []string
	if c.HasParent() {
		pages = append(pages, `\fB`+escape(pageName(c.Parent()))+`\fR(1)`)
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			pages = append(pages, `\fB`+escape(pageName(sub))+`\fR(1)`)
		}
	}
	p.request("SH", "SEE ALSO")
	p.line(strings.Join(pages, ",\n"))
}

// escape makes text mean itself: typesetters would make hyphens, quotes and
// accents of what must be typed as it is.
func escape(s string) string {
	return strings.NewReplacer(
		`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`,
	).Replace(s)
}
