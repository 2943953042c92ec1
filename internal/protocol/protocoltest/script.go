package protocoltest

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// A Script is one conversation of a file.
type Script struct {
	File string
	Line int // of the opening fence
	End  int // of the closing fence

	steps []step
}

// Name tells a file's scripts apart: the line that it begins at.
func (s *Script) Name() string { return "line_" + strconv.Itoa(s.Line) }

type verb int

const (
	opens verb = iota
	sends
	receives
	silent
	ends   // the server closes
	leaves // the client closes
)

// A step is one line of a script, with its continuations.
type step struct {
	line int
	conn string // "" where there is only one
	verb verb
	text string
}

// ReadFile returns the scripts of protocol name in a Markdown file, in order.
// An error names the file and the line.
func ReadFile(file, name string) ([]Script, error) {
	p, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parse(file, name, p)
}

func parse(file, name string, p []byte) ([]Script, error) {
	blocks, err := blocksOf(file, p, func(info string) bool { return info == "transcript "+name })
	if err != nil {
		return nil, err
	}
	var scripts []Script
	for _, b := range blocks {
		s := Script{File: file, Line: b.line, End: b.end}
		for i, text := range b.lines {
			if err := s.add(b.line+1+i, text); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, b.line+1+i, err)
			}
		}
		scripts = append(scripts, s)
	}
	return scripts, nil
}

// block is a fenced block of a Markdown file.
type block struct {
	info      string
	line, end int // of the fences
	lines     []string
}

// blocksOf returns the fenced blocks of p whose info string is wanted.
func blocksOf(file string, p []byte, wanted func(info string) bool) ([]block, error) {
	var blocks []block
	var in *block
	lines := bufio.NewScanner(bytes.NewReader(p))
	lines.Buffer(nil, len(p)+1)
	for n := 1; lines.Scan(); n++ {
		info, fence := strings.CutPrefix(lines.Text(), "```")
		switch {
		case in == nil && fence && wanted(info):
			in = &block{info: info, line: n}
		case in != nil && lines.Text() == "```":
			in.end = n
			blocks = append(blocks, *in)
			in = nil
		case in != nil:
			in.lines = append(in.lines, lines.Text())
		}
	}
	if in != nil {
		return nil, fmt.Errorf("%s:%d: the %s has no end", file, in.line, strings.Fields(in.info)[0])
	}
	return blocks, lines.Err()
}

// add appends what line n says.
func (s *Script) add(n int, text string) error {
	if text == "" || strings.HasPrefix(text, "//") {
		return nil
	}
	if text == "|" || strings.HasPrefix(text, "| ") {
		if len(s.steps) == 0 || s.steps[len(s.steps)-1].verb == opens {
			return fmt.Errorf("%q continues no frame", text)
		}
		s.steps[len(s.steps)-1].text += "\n" + strings.TrimPrefix(text[1:], " ")
		return nil
	}
	name := text[:len(text)-len(strings.TrimLeft(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"))]
	st := step{line: n, conn: name}
	rest := strings.TrimPrefix(text[len(name):], ": ")
	var ok bool
	if rest == "close" {
		st.verb = leaves
	} else if st.text, ok = strings.CutPrefix(rest, "open "); ok {
		st.verb = opens
	} else if st.text, ok = strings.CutPrefix(rest, "> "); ok {
		st.verb = sends
	} else if st.text, ok = strings.CutPrefix(rest, "< "); ok {
		st.verb = receives
	} else {
		return fmt.Errorf("%q is neither open, close, > nor <", text)
	}
	if st.verb == receives {
		switch {
		case st.text == "(nothing)":
			st.verb = silent
		case st.text == "(closed)":
			st.verb, st.text = ends, ""
		case strings.HasPrefix(st.text, "(closed ") && strings.HasSuffix(st.text, ")"):
			st.verb, st.text = ends, st.text[len("(closed "):len(st.text)-1]
		}
	}
	if strings.HasPrefix(st.text, `"`) {
		unquoted, err := strconv.Unquote(st.text)
		if err != nil {
			return fmt.Errorf("%s is not a Go string", st.text)
		}
		st.text = unquoted
	}
	s.steps = append(s.steps, st)
	return nil
}
