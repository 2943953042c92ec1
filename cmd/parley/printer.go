package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/parley-im/parley"
)

// printer writes messages to stdout, one a line.
type printer struct {
	out  io.Writer
	talk io.Writer // where people are told about it
	json bool
	// tame replaces control characters: on a terminal they could do more than
	// be read.
	tame bool
}

func newPrinter(c *cobra.Command, asJSON bool) *printer {
	return &printer{
		out: c.OutOrStdout(), talk: c.ErrOrStderr(),
		json: asJSON, tame: terminal(c.OutOrStdout()),
	}
}

// terminal reports whether stream, stdin or stdout, is one.
func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// tell says something to people. That they cannot be told is no reason to fail.
func tell(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, format, args...)
}

// print writes one message.
func (p *printer) print(m *parley.Message) error {
	if p.json {
		return json.NewEncoder(p.out).Encode(newLine(m))
	}
	body := string(m.Body)
	if p.tame {
		body = tamed(body)
	}
	_, err := io.WriteString(p.out, string(m.Topic)+": "+body+"\n")
	return err
}

// tamed replaces the control characters of a text, but for those that lay it
// out.
func tamed(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return utf8.RuneError
		}
		return r
	}, s)
}

// line is a message as an object of JSON, with the names of the native
// protocol.
type line struct {
	Topic   parley.Topic      `json:"topic"`
	Seq     parley.Seq        `json:"seq"`
	Time    time.Time         `json:"time"`
	ID      string            `json:"id,omitempty"`
	User    string            `json:"user,omitempty"`
	Device  string            `json:"device,omitempty"`
	Headers json.RawMessage   `json:"headers,omitempty"`
	Header  string            `json:"header,omitempty"`
	Expires *time.Time        `json:"expires,omitempty"`
	Filters map[string]string `json:"filters,omitempty"`
	Text    *string           `json:"text,omitempty"`
	Data    []byte            `json:"data,omitempty"`
}

// newLine decides, as the native protocol does, by their bytes whether a body
// is text or data, and whether a header is an object or any line.
func newLine(m *parley.Message) line {
	l := line{
		Topic: m.Topic, Seq: m.Seq, Time: m.Time.UTC(), ID: m.ID,
		User: m.Sender.User, Device: m.Sender.Device, Filters: m.Filters,
	}
	if utf8.Valid(m.Body) {
		text := string(m.Body)
		l.Text = &text
	} else {
		l.Data = m.Body
	}
	var object map[string]json.RawMessage
	if json.Unmarshal([]byte(m.Header), &object) == nil && object != nil {
		l.Headers = json.RawMessage(m.Header)
	} else {
		l.Header = m.Header
	}
	if !m.Expires.IsZero() {
		expires := m.Expires.UTC()
		l.Expires = &expires
	}
	return l
}
