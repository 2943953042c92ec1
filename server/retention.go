package server

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/parley-im/parley"
)

// retentionAllowed is what an error says about the right form of a rule.
const retentionAllowed = "STREAM=BOUND,…, where STREAM is a topic's first segment, or * for all others, and BOUND is " +
	"age:DURATION, bytes:SIZE or messages:NUMBER, such as orders=age:30d,bytes:10GiB"

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
	r := Retention{Stream: parley.Stream(name)}
	seen := make(map[string]bool)
	for bound := range strings.SplitSeq(bounds, ",") {
		kind, value, _ := strings.Cut(bound, ":")
		if seen[kind] {
			return Retention{}, fmt.Errorf("gives %s twice", kind)
		}
		seen[kind] = true
		if err := setBound(&r, kind, value); err != nil {
			return Retention{}, err
		}
	}
	return r, nil
}

// setBound sets one bound of r from its text.
func setBound(r *Retention, kind, value string) error {
	var n int64
	var err error
	switch kind {
	case "age":
		r.Age, err = ParseDuration(value)
		n = int64(r.Age)
	case "bytes":
		r.Bytes, err = ParseSize(value)
		n = r.Bytes
	case "messages":
		r.Messages, err = strconv.ParseInt(value, 10, 64)
		n = r.Messages
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
	var bounds []string
	if r.Age > 0 {
		bounds = append(bounds, "age:"+formatDuration(r.Age))
	}
	if r.Bytes > 0 {
		bounds = append(bounds, "bytes:"+FormatSize(r.Bytes))
	}
	if r.Messages > 0 {
		bounds = append(bounds, "messages:"+strconv.FormatInt(r.Messages, 10))
	}
	return string(r.Stream) + "=" + strings.Join(bounds, ",")
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
