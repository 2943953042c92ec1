//go:build linux

package image_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// instruction is one of a Dockerfile, with its flags apart.
type instruction struct {
	name  string
	flags map[string]string
	args  string
}

// parseDockerfile joins continued lines and drops comments.
func parseDockerfile(text string) []instruction {
	var all []instruction
	joined := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if rest, more := strings.CutSuffix(line, `\`); more {
			joined += rest
			continue
		}
		name, args, _ := strings.Cut(joined+line, " ")
		joined = ""
		in := instruction{name: name, flags: make(map[string]string), args: strings.TrimSpace(args)}
		for strings.HasPrefix(in.args, "--") {
			flag, rest, _ := strings.Cut(in.args, " ")
			key, value, _ := strings.Cut(flag, "=")
			in.flags[key], in.args = value, strings.TrimSpace(rest)
		}
		all = append(all, in)
	}
	return all
}

// only is an error when an instruction has other flags than these: what is not
// understood must not be passed over.
func (in instruction) only(flags ...string) error {
	for f := range in.flags {
		if !slices.Contains(flags, f) {
			return fmt.Errorf("%s has the unknown flag %s", in.name, f)
		}
	}
	return nil
}

// list reads the form of a command that needs no shell.
func (in instruction) list() ([]string, error) {
	var words []string
	if err := json.Unmarshal([]byte(in.args), &words); err != nil {
		return nil, fmt.Errorf("%s %s is not a list of words: %w", in.name, in.args, err)
	}
	return words, nil
}

// expand replaces $NAME and ${NAME}.
func expand(s string, values map[string]string) string {
	return os.Expand(s, func(name string) string { return values[name] })
}

// ignored reads a .dockerignore of plain names, and of names in any folder.
func ignored(text string) (func(path string) bool, error) {
	var patterns []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.ContainsAny(strings.TrimPrefix(line, "**/"), "*?![") {
			return nil, fmt.Errorf(".dockerignore: %q is not understood", line)
		}
		patterns = append(patterns, line)
	}
	return func(path string) bool {
		for _, p := range patterns {
			if anywhere, ok := strings.CutPrefix(p, "**/"); ok {
				if slices.Contains(strings.Split(path, "/"), anywhere) {
					return true
				}
			} else if path == p || strings.HasPrefix(path, p+"/") {
				return true
			}
		}
		return false
	}, nil
}

// TestUnknownInstructions plants what this reader does not understand: it must
// say so.
func TestUnknownInstructions(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"FROM scratch\nADD x /x",
		"FROM scratch\nENV A=b\nSHELL [\"sh\"]",
		"FROM scratch\nCOPY --link x /x",
		"FROM scratch\nUSER nobody",
		"FROM scratch\nENTRYPOINT parley serve",
		"FROM scratch\nHEALTHCHECK CMD parley health",
		"FROM scratch\nHEALTHCHECK NONE",
		"FROM alpine",
		"FROM golang:1.26 AS build\nRUN cp x /usr/bin",
		"FROM golang:1.26 AS build\nRUN false",
		"FROM golang:1.26 AS build\nRUN --mount=type=cache true",
		"FROM scratch\nCOPY --from=other x /x",
		"FROM scratch\nRUN true",
		"WORKDIR /x",
	} {
		if _, err := build(t, text, "amd64"); err == nil {
			t.Errorf("this builds:\n%s", text)
		}
	}
	if _, err := ignored("*.go"); err == nil {
		t.Error("a pattern of .dockerignore that is not understood is accepted")
	}
}

// TestGoVersion compares the Dockerfile's compiler with what the module needs.
func TestGoVersion(t *testing.T) {
	t.Parallel()
	need := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(source(t, "go.mod"))
	have := regexp.MustCompile(`(?m)^ARG GO_VERSION=(\d+\.\d+)`).FindStringSubmatch(source(t, "deploy/Dockerfile"))
	if need == nil || have == nil || need[1] != have[1] {
		t.Errorf("the image is built with Go %v, the module needs %v", have, need)
	}
}
