package account

import (
	"fmt"
	"slices"
	"strings"

	"github.com/parley-im/parley"
)

// Operation is one kind of thing to do, or a set of them.
type Operation uint8

// The operations. Each is granted by itself.
const (
	Publish   Operation = 1 << iota // to a topic
	Subscribe                       // to a topic: what is published from now on
	History                         // what a topic has stored: replays, pages and counts
	Presence                        // who is there
	Send                            // to a user's inbox
	Admin                           // what is an operator's business
)

// All is every operation but Admin.
const All = Publish | Subscribe | History | Presence | Send

// names are in the order of the bits.
func names() []string {
	return []string{"publish", "subscribe", "history", "presence", "send", "admin"}
}

// String lists the names of the operations, separated by commas.
func (o Operation) String() string {
	var has []string
	for i, name := range names() {
		if o&(1<<i) != 0 {
			has = append(has, name)
		}
	}
	return strings.Join(has, ",")
}

// ParseOperations reads names separated by commas; "all" is All. The error wraps
// parley.ErrInvalid.
func ParseOperations(s string) (Operation, error) {
	var o Operation
	for name := range strings.SplitSeq(s, ",") {
		if name == "all" {
			o |= All
			continue
		}
		i := slices.Index(names(), name)
		if i < 0 {
			return 0, fmt.Errorf("there is no operation %.20q, but %s and all: %w", name, strings.Join(names(), ", "), parley.ErrInvalid)
		}
		o |= 1 << i
	}
	return o, nil
}

// Grant allows operations on the topics that a pattern covers. For Send the
// topic is the inbox of the recipient, and the pattern usually /$inbox/*.
type Grant struct {
	Operations Operation
	// Pattern is a topic that covers itself and all below it. A segment * stands
	// for any one, and {user} for the name of who asks. A principal without a
	// user is covered by no pattern with {user}.
	Pattern string
}

// ParseGrant reads operations and a pattern, such as "publish,history:/orders/*".
// The error wraps parley.ErrInvalid.
func ParseGrant(s string) (Grant, error) {
	operations, pattern, found := strings.Cut(s, ":")
	if !found {
		return Grant{}, fmt.Errorf("a grant is operations and a topic, such as publish,history:/orders/*: %w", parley.ErrInvalid)
	}
	o, err := ParseOperations(operations)
	if err != nil {
		return Grant{}, err
	}
	if _, err := parley.ParseTopic(pattern); err != nil {
		return Grant{}, err
	}
	if strings.ContainsAny(strings.ReplaceAll(pattern, "{user}", ""), "{}") {
		return Grant{}, fmt.Errorf("the pattern %.40q has braces but for {user}: %w", pattern, parley.ErrInvalid)
	}
	for segment := range strings.SplitSeq(pattern, "/") {
		if strings.Contains(segment, "*") && segment != "*" || strings.Contains(segment, "{user}") && segment != "{user}" {
			return Grant{}, fmt.Errorf("in the pattern %.40q, * and {user} must be whole segments: %w", pattern, parley.ErrInvalid)
		}
	}
	return Grant{o, pattern}, nil
}

// String is as ParseGrant reads it.
func (g Grant) String() string { return g.Operations.String() + ":" + g.Pattern }

// covers reports whether g's pattern covers t for that user, segment by segment:
// in time linear in both.
func (g Grant) covers(t parley.Topic, user string) bool {
	pattern, topic := g.Pattern, string(t)
	if pattern == "/" || topic == "/" {
		return pattern == topic || pattern == "/*"
	}
	for pattern != "" {
		if topic == "" {
			return false
		}
		var want, has string
		want, pattern = next(pattern)
		has, topic = next(topic)
		if want == "*" || want == "{user}" && user != "" && has == user || want == has && want != "{user}" {
			continue
		}
		return false
	}
	return true
}

// next cuts the first segment from a path that begins with a slash.
func next(path string) (segment, rest string) {
	segment = path[1:]
	if i := strings.IndexByte(segment, '/'); i >= 0 {
		return segment[:i], segment[i:]
	}
	return segment, ""
}
