package eventsource_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/parley-im/parley/test/eventsource"
)

// The cases are those of the standard's own text and of its rules.
func TestReader(t *testing.T) {
	t.Parallel()
	type event = eventsource.Event
	for name, c := range map[string]struct {
		stream string
		want   []event
		lastID string
		retry  string
	}{
		"a message of two lines": {"data: YHOO\ndata: +2\ndata: 10\n\n", []event{{"message", "YHOO\n+2\n10", ""}}, "", ""},
		"an id, kept and reset": {
			": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
			[]event{{"message", "first event", "1"}, {"message", "second event", ""}, {"message", " third event", ""}},
			"", "",
		},
		"empty data":            {"data\n\ndata\ndata\n\ndata:", []event{{"message", "", ""}, {"message", "\n", ""}}, "", ""},
		"types":                 {"event: add\ndata: 1\n\nevent: remove\ndata: 2\n\ndata: 3\n\n", []event{{"add", "1", ""}, {"remove", "2", ""}, {"message", "3", ""}}, "", ""},
		"an id without data":    {"id: 7\nevent: live\n\n", nil, "7", ""},
		"an id without its end": {"id: 7\n\nid: 8\n", nil, "7", ""},
		"an id with a NUL":      {"id: 7\nid: 8\x00\n\n", nil, "7", ""},
		"retry":                 {"retry: 1500\n\nretry: 2s\n\n", nil, "", "1500"},
		"CR":                    {"data: 1\r\rdata: 2\r\r", []event{{"message", "1", ""}, {"message", "2", ""}}, "", ""},
		"CR LF":                 {"data: 1\r\n\r\ndata: 2\r\n\r\n", []event{{"message", "1", ""}, {"message", "2", ""}}, "", ""},
		"a byte order mark":     {"\ufeffdata: 1\n\n", []event{{"message", "1", ""}}, "", ""},
		"an unknown field":      {"datum: 1\ndata: 2\n\n", []event{{"message", "2", ""}}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := eventsource.NewReader(iotest.OneByteReader(strings.NewReader(c.stream)))
			var got []event
			for {
				e, err := r.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, e)
			}
			if !slices.Equal(got, c.want) || r.LastID != c.lastID || r.Retry != c.retry {
				t.Errorf("got %q, last id %q, retry %q; want %q, %q, %q", got, r.LastID, r.Retry, c.want, c.lastID, c.retry)
			}
		})
	}
}
