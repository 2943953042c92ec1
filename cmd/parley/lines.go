package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
)

const (
	// maxLine bounds a line of stdin: more than any server takes.
	maxLine = 64 << 20
	// batchLines and batchBytes bound what is published at once, so that it is
	// one request: a busy server refuses all of it or nothing.
	batchLines = 500
	batchBytes = 512 << 10
	// retryFor is how long a server may be too busy.
	retryFor = time.Minute
)

// batchPublisher is the part of a client that publishing lines needs.
type batchPublisher interface {
	PublishAll(ctx context.Context, messages []parley.Message) ([]client.Receipt, error)
}

// lineReader reads lines while those before are being published, so that a slow
// input is published line by line and a fast one in batches.
type lineReader struct {
	lines chan []byte
	err   error // of reading; set before lines is closed
}

// publishLines publishes the lines of in, each as a message like template, and
// returns how many are stored.
func publishLines(ctx context.Context, to batchPublisher, template parley.Message, in io.Reader) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &lineReader{lines: make(chan []byte, batchLines)}
	var reading sync.WaitGroup
	reading.Go(func() { r.read(ctx, in) })
	stored, number := 0, 0
	for {
		batch := r.batch(ctx)
		if len(batch) == 0 {
			break
		}
		messages := make([]parley.Message, len(batch))
		for i, line := range batch {
			number++
			messages[i] = template
			messages[i].Body = line
			if template.ID != "" {
				messages[i].ID = template.ID + "-" + strconv.Itoa(number)
			}
		}
		n, err := storeAll(ctx, to, messages)
		stored += n
		if err != nil {
			return stored, err
		}
	}
	if ctx.Err() != nil {
		// The reader may sit in a read of a terminal, which nothing can end but
		// the end of the process, so it is not waited for.
		return stored, context.Cause(ctx)
	}
	reading.Wait()
	return stored, r.err
}

// read passes lines on, without their line feeds, until in or ctx ends.
func (r *lineReader) read(ctx context.Context, in io.Reader) {
	defer close(r.lines)
	s := bufio.NewScanner(in)
	s.Buffer(nil, maxLine)
	s.Split(splitLines)
	for s.Scan() {
		select {
		case r.lines <- bytes.Clone(s.Bytes()):
		case <-ctx.Done():
			return
		}
	}
	r.err = s.Err()
	if errors.Is(r.err, bufio.ErrTooLong) {
		r.err = fmt.Errorf("a line is longer than %d bytes: %w", maxLine, parley.ErrInvalid)
	}
}

// splitLines is bufio.ScanLines that keeps a carriage return: bodies are passed
// on as they are.
func splitLines(p []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(p, '\n'); i >= 0 {
		return i + 1, p[:i], nil
	}
	if atEOF && len(p) > 0 {
		return len(p), p, nil
	}
	return 0, nil, nil
}

// batch waits for one line and takes what else has been read; nothing when the
// input or ctx has ended.
func (r *lineReader) batch(ctx context.Context) [][]byte {
	var batch [][]byte
	select {
	case line, ok := <-r.lines:
		if !ok {
			return nil
		}
		batch = append(batch, line)
	case <-ctx.Done():
		return nil
	}
	for size := len(batch[0]); len(batch) < batchLines && size < batchBytes; {
		select {
		case line, ok := <-r.lines:
			if !ok {
				return batch
			}
			batch = append(batch, line)
			size += len(line)
		default:
			return batch
		}
	}
	return batch
}

// storeAll publishes messages and returns how many are stored. While the server
// is too busy it tries again; with the ids that the first attempt gave them the
// messages cannot be stored twice.
func storeAll(ctx context.Context, to batchPublisher, messages []parley.Message) (int, error) {
	patience := time.Now().Add(retryFor)
	for {
		receipts, err := to.PublishAll(ctx, messages)
		if err == nil {
			return len(messages), nil
		}
		stored := 0
		for i, r := range receipts {
			messages[i].ID = r.ID
			if r.Seq > 0 {
				stored++
			}
		}
		if !errors.Is(err, parley.ErrUnavailable) || overQuota(err) || time.Now().After(patience) {
			return stored, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return stored, context.Cause(ctx)
		}
	}
}

// overQuota reports whether what was to be stored is more than the user may have.
func overQuota(err error) bool {
	e, ok := errors.AsType[*client.Error](err)
	return ok && e.Reason == client.ReasonQuota
}
