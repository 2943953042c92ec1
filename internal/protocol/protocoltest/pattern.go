package protocoltest

import (
	"regexp"
	"strings"
	"unicode"
)

// names are the texts that the names of a conversation stand for.
type names map[string]string

// placeholders finds $_ and $NAME. Lower case is no name, so that a topic such
// as /$inbox stands for itself.
func placeholders() *regexp.Regexp { return regexp.MustCompile(`\$(_|[A-Z][A-Z0-9_]*)`) }

// anyone is the name whose text nobody remembers.
const anyone = "_"

// fill puts the known names into what a client sends.
func (n names) fill(text string) string {
	return placeholders().ReplaceAllStringFunc(text, func(p string) string {
		if v, ok := n[p[1:]]; ok {
			return v
		}
		return p
	})
}

// piece is a part of what is wanted: a name, or else a literal text.
type piece struct{ name, text string }

// match reports whether got is what want describes, and then remembers what its
// new names stand for. Neither need be UTF-8.
func (n names) match(want, got string) bool {
	var pieces []piece
	at := 0
	for _, loc := range placeholders().FindAllStringIndex(want, -1) {
		pieces = append(pieces, piece{text: want[at:loc[0]]}, piece{name: want[loc[0]+1 : loc[1]]})
		at = loc[1]
	}
	return n.matchPieces(append(pieces, piece{text: want[at:]}), got)
}

// matchPieces remembers new names while it tries, and forgets those that did
// not lead to a match.
func (n names) matchPieces(pieces []piece, got string) bool {
	if len(pieces) == 0 {
		return got == ""
	}
	p := pieces[0]
	if known, ok := n[p.name]; ok || p.name == "" {
		rest, ok := strings.CutPrefix(got, p.text+known)
		return ok && n.matchPieces(pieces[1:], rest)
	}
	end := strings.IndexFunc(got, endsToken)
	if end < 0 {
		end = len(got)
	}
	for ; end > 0; end-- {
		if p.name != anyone {
			n[p.name] = got[:end]
		}
		if n.matchPieces(pieces[1:], got[end:]) {
			return true
		}
		delete(n, p.name)
	}
	return false
}

// endsToken says what a placeholder's text cannot have.
func endsToken(r rune) bool {
	return unicode.IsSpace(r) || strings.ContainsRune(`,"]}`, r)
}
