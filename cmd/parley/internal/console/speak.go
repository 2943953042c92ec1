package console

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/parley-im/parley"
)

// maxLine bounds a line of the input: more than any server takes.
const maxLine = 64 << 20

const help = `
## Commands
?           # print this info

+ /topic             # receive what comes to /topic and below it
+ /topic 0           # receive all stored messages, then what comes
+ /topic 42          # from the message with id 42 on, then what comes
+ /topic -5          # the newest five, then what comes
+ /topic 0 20        # the oldest twenty, and no more
+ /topic -20 20      # the newest twenty, and no more
- /topic             # receive no more of /topic

> /topic             # publish; asks for a header, which may be empty or an
                     # object of JSON, and for the body
> /topic 42a         # the same, with an id that the answer repeats

Interrupt, usually Ctrl-C, ends the client.

`

// speak sends the commands and then what the input says.
func (s *session) speak(ctx context.Context) error {
	for _, command := range s.o.Commands {
		if err := s.say(ctx, command); err != nil {
			return err
		}
	}
	if s.o.Exit {
		return errDone
	}
	in := &lines{next: make(chan string)}
	// A read of a terminal ends with a line or with the process, so the reader is
	// waited for only when the input is over.
	var reading sync.WaitGroup
	reading.Go(func() { in.read(ctx, s.o) })
	err := s.converse(ctx, in)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case s.o.Interactive:
		if err != nil {
			s.o.Logger.ErrorContext(ctx, "the input ends", "error", err)
		}
		<-ctx.Done()
		return context.Cause(ctx)
	case err != nil:
		return err
	}
	reading.Wait()
	if err := s.settle(ctx, (*ledger).empty); err != nil {
		return err
	}
	return errDone
}

// say sends a command when it is its turn.
func (s *session) say(ctx context.Context, command string) error {
	if err := s.turn(ctx, command); err != nil {
		return err
	}
	return s.transmit(ctx, command)
}

// turn waits until a command may be sent.
func (s *session) turn(ctx context.Context, command string) error {
	if s.o.Interactive || s.o.Exit {
		return nil
	}
	return s.settle(ctx, func(l *ledger) bool { return l.idle(command) })
}

// converse deals with the input line by line until it ends.
func (s *session) converse(ctx context.Context, in *lines) error {
	for {
		line, ok := in.take(ctx)
		if !ok {
			return in.fault(ctx)
		}
		var err error
		switch text := strings.TrimRight(line, "\r\n"); {
		case text == "":
		case text == "?", text == "help":
			if err = s.turn(ctx, line); err == nil {
				err = s.print([]byte(help))
			}
		case text[0] == '>':
			err = s.publish(ctx, in, line)
		default:
			err = s.say(ctx, line)
		}
		if err != nil {
			return err
		}
	}
}

// publish asks for what belongs to a message besides its first line.
func (s *session) publish(ctx context.Context, in *lines, first string) error {
	if err := s.turn(ctx, first); err != nil {
		return err
	}
	header, err := s.ask(ctx, in, "header: ")
	if err != nil {
		return err
	}
	body, err := s.ask(ctx, in, "body: ")
	if err != nil {
		return err
	}
	return s.transmit(ctx, withFeed(first)+withFeed(header)+strings.TrimSpace(body))
}

// ask prompts for one line of a message. A message is sent whole or not at all.
func (s *session) ask(ctx context.Context, in *lines, prompt string) (string, error) {
	if err := s.print([]byte(prompt)); err != nil {
		return "", err
	}
	line, ok := in.take(ctx)
	if !ok {
		if err := in.fault(ctx); err != nil {
			return "", err
		}
		return "", fmt.Errorf("the input ends within a message, which was not sent: %w", parley.ErrInvalid)
	}
	return line, nil
}

func withFeed(line string) string { return strings.TrimSuffix(line, "\n") + "\n" }

// lines are those of an input, each with its line feed if it had one.
type lines struct {
	next chan string
	err  error // of reading; set before next is closed
}

// read passes lines on until the input or ctx ends.
func (l *lines) read(ctx context.Context, o Options) {
	defer close(l.next)
	scanner := bufio.NewScanner(o.In)
	scanner.Buffer(nil, maxLine)
	scanner.Split(keepFeed)
	for scanner.Scan() {
		select {
		case l.next <- scanner.Text():
		case <-ctx.Done():
			return
		}
	}
	if l.err = scanner.Err(); errors.Is(l.err, bufio.ErrTooLong) {
		l.err = fmt.Errorf("a line is longer than %d bytes: %w", maxLine, parley.ErrInvalid)
	}
}

// keepFeed is bufio.ScanLines that changes nothing in a line.
func keepFeed(p []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(p, '\n'); i >= 0 {
		return i + 1, p[:i+1], nil
	}
	if atEOF && len(p) > 0 {
		return len(p), p, nil
	}
	return 0, nil, nil
}

// take waits for a line. It is not ok when the input or ctx has ended.
func (l *lines) take(ctx context.Context) (line string, ok bool) {
	select {
	case line, ok = <-l.next:
		return line, ok
	case <-ctx.Done():
		return "", false
	}
}

// fault is why take had no line; nil at the plain end of the input.
func (l *lines) fault(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return l.err
}
