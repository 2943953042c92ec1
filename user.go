package parley

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of the names of users and devices.
const (
	// MaxNameBytes leaves room for two names, and what is said of them, in one
	// topic of an inbox.
	MaxNameBytes = 112
)

// ParseUser checks the name of a user and returns it in lower case: Ann and ann
// are one user, everywhere. It has 1 to MaxNameBytes bytes of UTF-8 that can be
// one segment of a topic: no slash, comma, space or control character; it is
// neither . nor .., and does not begin with '$'. The error wraps ErrInvalid.
func ParseUser(s string) (string, error) {
	return parseName("user", strings.ToLower(s))
}

// ParseDevice checks the name of a device, which has the form of a user's but
// is kept as it is.
func ParseDevice(s string) (string, error) { return parseName("device", s) }

func parseName(what, s string) (string, error) {
	switch {
	case s == "":
		return "", fmt.Errorf("the %s has no name: %w", what, ErrInvalid)
	case len(s) > MaxNameBytes:
		return "", fmt.Errorf("the %s's name is longer than %d bytes: %w", what, MaxNameBytes, ErrInvalid)
	case plain(s) && s != "." && s != "..":
		return s, nil // as nearly all are
	case !utf8.ValidString(s):
		return "", fmt.Errorf("the %s's name is not valid UTF-8: %w", what, ErrInvalid)
	case s[0] == '$' || s == "." || s == "..":
		return "", fmt.Errorf("the %s's name is the server's own: %w", what, ErrInvalid)
	case strings.ContainsFunc(s, unnameable):
		return "", fmt.Errorf("the %s's name contains a slash, a comma, a space or a control character: %w", what, ErrInvalid)
	}
	return s, nil
}

// plain reports whether s consists of characters that need no closer look.
func plain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == '@':
		default:
			return false
		}
	}
	return true
}

func unnameable(r rune) bool { return r == '/' || r == unicode.ReplacementChar || forbidden(r) }

// InboxTopic is the topic of all that is sent to, and by, the user with that
// valid name. Below it stands who the other is: /$inbox/ann/bob is what Ann and
// Bob wrote to each other, as Ann has it.
func InboxTopic(user string) Topic { return Topic("/" + inboxes + user) }

// DeadTopic is the topic of the dead letters of the user with that name.
func DeadTopic(user string) Topic { return Topic("/" + deadLetters + user) }

// Inbox is whose inbox t belongs to, and who the other one is; empty where t
// names none.
func (t Topic) Inbox() (owner, peer string) {
	rest, ok := strings.CutPrefix(string(t), "/"+inboxes)
	if !ok {
		return "", ""
	}
	owner, rest, _ = strings.Cut(rest, "/")
	peer, _, _ = strings.Cut(rest, "/")
	return owner, peer
}
