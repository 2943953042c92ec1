package server

import (
	"fmt"
	"strconv"
	"strings"
)

// hidden takes the place of a secret.
const hidden = "***"

// Effective reads a configuration as [Load] does, and writes it as a file that
// Load reads: a line for each setting, with where its value comes from as a
// comment. Secrets are hidden.
func Effective(src Sources) (string, error) { return effective(Settings(), src) }

func effective(settings []Setting, src Sources) (string, error) {
	l, err := load(settings, src)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, s := range settings {
		if s.Instead != "" {
			continue
		}
		source := "default"
		if g, ok := l.last[s.Key]; ok {
			source = strings.TrimSuffix(g.source, " "+s.Key) // a line of the file names its key
		}
		fmt.Fprintf(&b, "%s: %s # %s\n", s.Key, yamlValue(s, s.get(&l.config)), strings.Map(oneLine, source))
	}
	return b.String(), nil
}

// oneLine keeps the name of a file from ending the comment that it is in.
func oneLine(r rune) rune {
	if r < ' ' || r == '\u0085' || r == '\u2028' || r == '\u2029' {
		return '?'
	}
	return r
}

// yamlValue is the value of a setting on one line of a file.
func yamlValue(s Setting, values []string) string {
	items := make([]string, len(values))
	for i, v := range values {
		if s.Secret && v != "" {
			v = hidden
		}
		if items[i] = v; !plain(v) {
			items[i] = strconv.Quote(v) // YAML knows all escapes of Go
		}
	}
	if s.Repeatable {
		return "[" + strings.Join(items, ", ") + "]"
	}
	return items[0]
}

// plain reports whether a value needs no quotes.
func plain(v string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return strings.Trim(v, letters+"./-_") == "" && strings.IndexAny(v, letters+"./") == 0 && !strings.EqualFold(v, "null")
}
