package server

import (
	"fmt"
	"strings"
)

// Reference is the list of all settings in Markdown, as the documentation has
// it.
func Reference() string {
	cell := strings.NewReplacer("|", `\|`, "<", "&lt;")
	var b strings.Builder
	group := ""
	for _, s := range Settings() {
		if s.Instead != "" {
			continue
		}
		if s.Group != group {
			if group != "" {
				b.WriteString("\n")
			}
			group = s.Group
			fmt.Fprintf(&b, "### %s\n\n", group)
			b.WriteString("| flag, and key in the file | environment | default | allowed | what it does | changes |\n|---|---|---|---|---|---|\n")
		}
		def := "`" + s.Default + "`"
		switch {
		case s.Repeatable && s.Default == "":
			def = "none; a list"
		case s.Repeatable:
			def += "; a list"
		case s.Default == "":
			def = "empty"
		}
		reloaded := "at the next start"
		if s.Reloaded {
			reloaded = "on SIGHUP"
		}
		names := make([]string, 0, 1+len(s.Fallbacks))
		for _, name := range append([]string{s.Env()}, s.Fallbacks...) {
			names = append(names, "`"+name+"`")
		}
		key := "`--" + s.Flag() + "`"
		if s.Secret {
			key = "`" + s.Key + "`, no flag"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n",
			key, strings.Join(names, "<br>"), def, cell.Replace(s.Allowed), cell.Replace(s.Usage), reloaded)
	}
	return b.String()
}
