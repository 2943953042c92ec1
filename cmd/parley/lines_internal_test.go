package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
)

func hasLine(r io.Reader, want string) bool {
	for s := bufio.NewScanner(r); s.Scan(); {
		if s.Text() == want {
			return true
		}
	}
	return false
}

// sink stores messages by id, and is busy as often as told to.
type sink struct {
	busy   int
	bodies []string
	ids    map[string]bool
	calls  int
}

func (s *sink) PublishAll(_ context.Context, messages []parley.Message) ([]client.Receipt, error) {
	s.calls++
	receipts := make([]client.Receipt, len(messages))
	for i, m := range messages {
		receipts[i].ID = m.ID
		if m.ID == "" {
			receipts[i].ID = fmt.Sprintf("made-%d-%d", s.calls, i)
		}
	}
	if s.busy > 0 {
		s.busy--
		return receipts, fmt.Errorf("busy: %w", parley.ErrUnavailable)
	}
	for i, m := range messages {
		if !s.ids[receipts[i].ID] {
			s.ids[receipts[i].ID] = true
			s.bodies = append(s.bodies, string(m.Body))
		}
		receipts[i].Seq = parley.Seq(len(s.bodies))
	}
	return receipts, nil
}

func TestLinesArePublishedOnceAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var in strings.Builder
		var want []string
		for i := range 2*batchLines + 17 {
			want = append(want, fmt.Sprintf("line %d\r", i))
			in.WriteString(want[i] + "\n")
		}
		in.WriteString("\nlast, without its end")
		want = append(want, "", "last, without its end")
		s := &sink{busy: 3, ids: map[string]bool{}}
		n, err := publishLines(t.Context(), s, parley.Message{Topic: "/x"}, strings.NewReader(in.String()))
		if err != nil || n != len(want) {
			t.Errorf("%d are stored, %v; want %d", n, err, len(want))
		}
		if !slices.Equal(s.bodies, want) {
			t.Errorf("stored are %d bodies, want %d in order", len(s.bodies), len(want))
		}
	})
}

func TestLinesGetIDs(t *testing.T) {
	s := &sink{ids: map[string]bool{}}
	if _, err := publishLines(t.Context(), s, parley.Message{Topic: "/x", ID: "job"}, strings.NewReader("a\nb\nc\n")); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"job-1", "job-2", "job-3"} {
		if !s.ids[id] {
			t.Errorf("no message has the id %s: %v", id, s.ids)
		}
	}
}

func TestSlowInputIsNotHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out := io.Pipe()
		s := &sink{ids: map[string]bool{}}
		var publishing sync.WaitGroup
		publishing.Go(func() {
			if _, err := publishLines(t.Context(), s, parley.Message{Topic: "/x"}, in); err != nil {
				t.Error(err)
			}
		})
		_, _ = io.WriteString(out, "first\n")
		synctest.Wait()
		if len(s.bodies) != 1 {
			t.Errorf("%d lines are stored while the input pauses, want 1", len(s.bodies))
		}
		_ = out.Close()
		publishing.Wait()
	})
}

func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s := &sink{busy: 1 << 30, ids: map[string]bool{}}
		n, err := publishLines(t.Context(), s, parley.Message{Topic: "/x"}, strings.NewReader("a\n"))
		if n != 0 || !errors.Is(err, parley.ErrUnavailable) {
			t.Errorf("%d are stored, %v; want none and ErrUnavailable", n, err)
		}
		if d := time.Since(began); d < retryFor || d > retryFor+time.Second {
			t.Errorf("it gave up after %v, want %v", d, retryFor)
		}
	})
}

func TestInterruptDoesNotWaitForTheInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out := io.Pipe()
		defer out.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := publishLines(ctx, &sink{}, parley.Message{Topic: "/x"}, in)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v, want the context's", err)
		}
	})
}

func TestParseFrom(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for _, s := range []string{"oldest", "0", "1795245935123456", "2026-11-21T11:00:00Z", "2026-11-21T11:00:00.5+02:00", "10m", "10m ago", "7d"} {
		if _, err := parseFrom(s, now); err != nil {
			t.Errorf("parseFrom(%q): %v", s, err)
		}
	}
	for _, s := range []string{"newest", "-5", "9007199254740992", "yesterday", "2026-11-21", "-10m", "1.5"} {
		if _, err := parseFrom(s, now); err == nil {
			t.Errorf("parseFrom(%q) has no error", s)
		}
	}
}

func TestParseExpiry(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for s, want := range map[string]time.Time{"10m": now.Add(10 * time.Minute), "2d": now.Add(48 * time.Hour), "2030-01-02T15:04:05Z": time.Date(2030, 1, 2, 15, 4, 5, 0, time.UTC)} {
		if got, err := parseExpiry(s, now); err != nil || !got.Equal(want) {
			t.Errorf("parseExpiry(%q) = %v, %v; want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "0", "soon", "-1m"} {
		if _, err := parseExpiry(s, now); err == nil {
			t.Errorf("parseExpiry(%q) has no error", s)
		}
	}
}
