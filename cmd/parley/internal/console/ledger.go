package console

import (
	"slices"
	"strconv"
	"strings"

	"github.com/parley-im/parley"
)

// ledger knows which commands wait for an answer and which subscriptions there
// are. Answers of the protocol do not name their command, but say enough: what
// kind it was, and for which path.
type ledger struct {
	pending []command
	subs    []subscription
	lost    int // commands whose answer a broken connection took along
}

// greeting is, as a command's name, the server's first word on a connection,
// which is waited for like an answer.
const greeting = '#'

// command is what an answer is matched with.
type command struct {
	name byte // '>', '+', '-', greeting, or 0 for what the server will not understand
	path string
	// bounded says of a '+' that it has a maximum: it fetches, and makes no
	// subscription.
	bounded bool
}

// subscription is made again on a new connection, from after the last message
// that came for it; from its own start if none did.
type subscription struct {
	path  string
	first string // the line that asked for it
	last  uint64 // the id of its last message; 0 if there was none
}

// parse reads what is needed of a command.
func parse(text string) command {
	line, _, _ := strings.Cut(text, "\n")
	name, arg, _ := strings.Cut(line, " ")
	path, numbers, _ := strings.Cut(arg, " ")
	switch {
	case name == ">" && path != "":
		return command{name: '>'}
	case name == "-" && arg != "":
		return command{name: '-', path: arg}
	case name == "+":
		bounded, ok := parseNumbers(numbers, arg != path)
		if _, err := parley.ParseTopic(path); ok && err == nil {
			return command{name: '+', path: path, bounded: bounded}
		}
	}
	return command{}
}

// parseNumbers reads where a '+' starts and whether it has a maximum, which
// follows a space or, in the documented dialect, a comma.
func parseNumbers(text string, given bool) (bounded, ok bool) {
	if !given {
		return false, true
	}
	start, most, bounded := text, "", false
	if i := strings.IndexAny(text, " ,"); i >= 0 {
		start, most, bounded = text[:i], text[i+1:], true
	}
	if bounded {
		if _, err := strconv.Atoi(most); err != nil {
			return bounded, false
		}
	}
	_, negative := strconv.ParseInt(start, 10, 64)
	_, positive := strconv.ParseUint(start, 10, 64)
	return bounded, negative == nil || positive == nil
}

// sent enters a command.
func (l *ledger) sent(text string) {
	c := parse(text)
	switch {
	case c.name == '+' && !c.bounded:
		line, _, _ := strings.Cut(text, "\n")
		l.forget(c.path)
		l.subs = append(l.subs, subscription{path: c.path, first: line})
	case c.name == '-' && !l.forget(c.path):
		return // there is nothing to cancel, and so no answer
	}
	l.pending = append(l.pending, c)
}

func (l *ledger) empty() bool { return len(l.pending) == 0 }

// idle reports whether a command can be sent without overtaking the answer to
// another: only publishes may follow each other at once.
func (l *ledger) idle(text string) bool {
	if parse(text).name != '>' {
		return l.empty()
	}
	return !slices.ContainsFunc(l.pending, func(c command) bool { return c.name != '>' })
}

// forget removes a subscription and reports whether there was one.
func (l *ledger) forget(path string) bool {
	before := len(l.subs)
	l.subs = slices.DeleteFunc(l.subs, func(s subscription) bool { return s.path == path })
	return len(l.subs) < before
}

// received enters what the server said.
func (l *ledger) received(frame string) {
	if frame == "" || frame[0] != status && frame[0] != failure {
		l.message(frame)
		return
	}
	line, _, _ := strings.Cut(frame, "\n")
	name, arg, _ := strings.Cut(line, " ")
	path, _, _ := strings.Cut(arg, " ")
	switch name {
	case "#connected":
		l.settle(func(c command) bool { return c.name == greeting })
	case "#send", "!error-send":
		l.settle(func(c command) bool { return c.name == '>' })
	case "#subscribed-to":
		l.settle(func(c command) bool { return c.name == '+' && !c.bounded && c.path == arg })
	case "#fetch-end", "#fetch-done":
		l.settle(func(c command) bool { return c.name == '+' && c.bounded && c.path == arg })
	case "#canceled":
		l.canceled(arg)
	case "!error-subscribed-to":
		l.refused(func(c command) bool { return c.name == '+' && c.path == path })
	default:
		if frame[0] == failure {
			l.failed()
		}
	}
}

// failed enters an error that names nothing. It is about what the server cannot
// understand or else about a '+', for a '>' has an error of its own.
func (l *ledger) failed() {
	for _, name := range []byte{0, '+'} {
		if l.refused(func(c command) bool { return c.name == name }) {
			return
		}
	}
	l.refused(func(command) bool { return true })
}

// settle strikes out the first command that matches.
func (l *ledger) settle(match func(command) bool) (c command, ok bool) {
	i := slices.IndexFunc(l.pending, match)
	if i < 0 {
		return command{}, false
	}
	c = l.pending[i]
	if i == 0 { // as nearly always: answers come in order, and there may be many
		l.pending = l.pending[1:]
	} else {
		l.pending = slices.Delete(l.pending, i, i+1)
	}
	return c, true
}

// canceled strikes out a cancellation, and with it what it broke off.
func (l *ledger) canceled(path string) {
	end := slices.Index(l.pending, command{name: '-', path: path})
	if end < 0 {
		return
	}
	settled := slices.DeleteFunc(slices.Clone(l.pending[:end]), func(c command) bool { return c.name == '+' && c.path == path })
	l.pending = append(settled, l.pending[end+1:]...)
}

// refused strikes out a command that failed. What it would have subscribed to is
// not there, and cancelling that has no answer.
func (l *ledger) refused(match func(command) bool) bool {
	c, ok := l.settle(match)
	if ok && c.name == '+' && !c.bounded {
		l.forget(c.path)
		l.settle(func(d command) bool { return d.name == '-' && d.path == c.path })
	}
	return ok
}

// message moves the subscriptions that a message came for.
func (l *ledger) message(frame string) {
	topic, rest, _ := strings.Cut(frame, ",")
	text, _, _ := strings.Cut(rest, ",")
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return
	}
	for i := range l.subs {
		s := &l.subs[i]
		if topic == s.path || strings.HasPrefix(topic, s.path+"/") {
			s.last = max(s.last, id)
		}
	}
}

// broke enters the end of a connection and returns how many commands have no
// answer now. Subscriptions are none of them, for they will be made again.
func (l *ledger) broke() int {
	lost := 0
	for _, c := range l.pending {
		if c.name == '>' || c.bounded || c.name == 0 {
			lost++
		}
	}
	l.pending = nil
	l.lost += lost
	return lost
}

// begin enters a new connection and returns the commands that make the
// subscriptions again.
func (l *ledger) begin() []string {
	var commands []string
	l.pending = append(l.pending, command{name: greeting})
	for _, s := range l.subs {
		text := s.first
		if s.last > 0 {
			text = "+ " + s.path + " " + strconv.FormatUint(s.last+1, 10)
		}
		commands = append(commands, text)
		l.pending = append(l.pending, command{name: '+', path: s.path})
	}
	return commands
}
