package parley

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a topic.
const (
	MaxTopicBytes    = 255
	MaxTopicSegments = 16
)

// Topic is a rooted path that messages are sent to, such as /orders/eu/42. A
// subscription to a topic covers it and all below it. The root alone, "/", is
// a topic too and covers nothing but itself. A Topic made by ParseTopic is
// valid.
type Topic string

// ParseTopic checks that s is a topic: it begins with a slash, has at most
// MaxTopicSegments non-empty segments and MaxTopicBytes bytes, is valid UTF-8
// without control characters, commas or spaces (of any script), and has no
// segment "." or "..". The error wraps ErrInvalid and says which rule failed.
func ParseTopic(s string) (Topic, error) {
	switch {
	case s == "" || s[0] != '/':
		return "", fmt.Errorf("topic must begin with a slash: %w", ErrInvalid)
	case len(s) > MaxTopicBytes:
		return "", fmt.Errorf("topic is longer than %d bytes: %w", MaxTopicBytes, ErrInvalid)
	case s == "/":
		return "/", nil
	case !utf8.ValidString(s):
		return "", fmt.Errorf("topic is not valid UTF-8: %w", ErrInvalid)
	case strings.Count(s, "/") > MaxTopicSegments:
		return "", fmt.Errorf("topic has more than %d segments: %w", MaxTopicSegments, ErrInvalid)
	case strings.ContainsFunc(s, forbidden):
		return "", fmt.Errorf("topic contains a space, a comma or a control character: %w", ErrInvalid)
	}
	for segment := range strings.SplitSeq(s[1:], "/") {
		switch segment {
		case "":
			return "", fmt.Errorf("topic has an empty segment: %w", ErrInvalid)
		case ".", "..":
			return "", fmt.Errorf("topic has a segment %q: %w", segment, ErrInvalid)
		}
	}
	return Topic(s), nil
}

// forbidden also refuses format characters such as the right-to-left override,
// which make two different topics look the same.
func forbidden(r rune) bool {
	return r == ',' || unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r)
}

// Covers reports whether a subscription to t receives what is published to u:
// u is t itself or below it.
func (t Topic) Covers(u Topic) bool {
	if len(u) == len(t) {
		return t == u
	}
	return len(u) > len(t) && u[len(t)] == '/' && u[:len(t)] == t && t != "/"
}

// Parent is the topic above t, or "" when t is a root.
func (t Topic) Parent() Topic {
	i := strings.LastIndexByte(string(t), '/')
	if i <= 0 {
		return ""
	}
	return t[:i]
}

// Reserved reports whether t's root begins with '$': such topics are the
// server's own, and clients may neither publish nor subscribe to them by name.
func (t Topic) Reserved() bool {
	return len(t) > 1 && t[1] == '$'
}

// Stream is the stream that t belongs to: its first segment, or for an inbox
// and a user's dead letters the first two, because each is a stream of its own. The stream of "/"
// is "".
func (t Topic) Stream() Stream {
	if t == "" {
		return ""
	}
	s := string(t[1:])
	skip := 0
	switch {
	case s == "" || s[0] != '$':
	case strings.HasPrefix(s, inboxes):
		skip = len(inboxes)
	case strings.HasPrefix(s, deadLetters):
		skip = len(deadLetters)
	}
	if i := strings.IndexByte(s[skip:], '/'); i >= 0 {
		return Stream(s[:skip+i])
	}
	return Stream(s)
}

const (
	inboxes     = "$inbox/"
	deadLetters = "$dead/"
)
