package server

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/broker"
)

// retentionAllowed is what an error says about the right form of a rule.
const retentionAllowed = "STREAM=BOUND,…, where STREAM is a topic's first segment, or * for all others, and BOUND is " +
	"age:DURATION, bytes:SIZE or messages:NUMBER, such as orders=age:30d,bytes:10GiB"

// boundsAllowed is the same for bounds alone.
const boundsAllowed = "BOUND,…, where BOUND is age:DURATION, bytes:SIZE or messages:NUMBER, such as age:30d,bytes:256MiB,messages:100000; " +
	"what is not given has no bound"

// ParseRetention reads a rule such as orders=age:30d,bytes:10GiB,messages:1000000.
// Each bound may be given once, at least one must be, and none may be 0.
func ParseRetention(s string) (Retention, error) {
	name, bounds, ok := strings.Cut(s, "=")
	if !ok {
		return Retention{}, errors.New("has no '='")
	}
	if err := checkStream(name); err != nil {
		return Retention{}, err
	}
	b, err := ParseBounds(bounds)
	if err != nil {
		return Retention{}, err
	}
	return Retention{Stream: parley.Stream(name), Age: b.Age, Bytes: b.Bytes, Messages: b.Messages}, nil
}

// ParseBounds reads bounds such as age:30d,bytes:256MiB,messages:100000. Each may
// be given once, at least one must be, and none may be 0.
func ParseBounds(s string) (Bounds, error) {
	var b Bounds
	seen := make(map[string]bool)
	for bound := range strings.SplitSeq(s, ",") {
		kind, value, _ := strings.Cut(bound, ":")
		if seen[kind] {
			return Bounds{}, fmt.Errorf("gives %s twice", kind)
		}
		seen[kind] = true
		if err := setBound(&b, kind, value); err != nil {
			return Bounds{}, err
		}
	}
	return b, nil
}

// setBound sets one bound of b from its text.
func setBound(b *Bounds, kind, value string) error {
	var n int64
	var err error
	switch kind {
	case "age":
		b.Age, err = ParseDuration(value)
		n = int64(b.Age)
	case "bytes":
		b.Bytes, err = ParseSize(value)
		n = b.Bytes
	case "messages":
		b.Messages, err = strconv.ParseInt(value, 10, 64)
		n = b.Messages
		if err != nil {
			err = errors.New("not a whole number")
		}
	default:
		return fmt.Errorf("has an unknown bound %q", kind)
	}
	if err != nil {
		return fmt.Errorf("%s %q is %w", kind, value, err)
	}
	if n <= 0 {
		return fmt.Errorf("%s %q is not above 0", kind, value)
	}
	return nil
}

// String is r as ParseRetention reads it.
func (r Retention) String() string {
	return string(r.Stream) + "=" + Bounds{r.Age, r.Bytes, r.Messages}.String()
}

// String is b as ParseBounds reads it.
func (b Bounds) String() string {
	var bounds []string
	if b.Age > 0 {
		bounds = append(bounds, "age:"+formatDuration(b.Age))
	}
	if b.Bytes > 0 {
		bounds = append(bounds, "bytes:"+FormatSize(b.Bytes))
	}
	if b.Messages > 0 {
		bounds = append(bounds, "messages:"+strconv.FormatInt(b.Messages, 10))
	}
	return strings.Join(bounds, ",")
}

// bounds are what each stream of a kind keeps.
func bounds() kind[Bounds] {
	return kind[Bounds]{value: "BOUNDS", allowed: boundsAllowed, parse: ParseBounds, format: Bounds.String}
}

// boundsOf translates b: what it leaves open is not the broker's default.
func boundsOf(b Bounds) broker.Bounds {
	return broker.Bounds{Age: cmp.Or(b.Age, -1), Messages: int(cmp.Or(b.Messages, -1)), Bytes: cmp.Or(b.Bytes, -1)}
}

// checkStream says what is wrong with the name of a rule's stream.
func checkStream(name string) error {
	if name == "*" {
		return nil
	}
	topic, err := parley.ParseTopic("/" + name)
	switch {
	case err != nil:
		return fmt.Errorf("names no stream: %w", err)
	case topic.Stream() != parley.Stream(name) || topic.Parent() != "" || name == "":
		return fmt.Errorf("names a topic, %q, where only its first segment has rules", name)
	case topic.Reserved():
		return fmt.Errorf("names the server's own stream %q", name)
	}
	return nil
}
