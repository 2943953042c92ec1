package client_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
)

// FuzzReceive: whatever a server says, the client neither panics nor gives a
// loop a message twice or out of order, and a request has one answer. The
// committed corpus is in testdata/fuzz.
func FuzzReceive(f *testing.F) {
	f.Fuzz(func(t *testing.T, payload []byte) {
		const cursor = 5
		hear := client.Listen(t, "/a", cursor)
		first := hear(payload)
		if first.Err != nil && !errors.Is(first.Err, client.ErrGarbled) {
			t.Fatalf("the connection ends with %v", first.Err)
		}
		if first.Err == nil && !json.Valid(payload) {
			t.Fatal("it is not JSON and taken")
		}
		if first.Quiet < 0 || first.Quiet > client.Quiet {
			t.Fatalf("the patience is %v", first.Quiet)
		}
		last := parley.Seq(cursor)
		for _, m := range first.Messages {
			if m.Seq <= last {
				t.Fatalf("seq %d after %d", m.Seq, last)
			}
			last = m.Seq
		}
		again := hear(payload)
		if len(again.Messages) > 0 {
			t.Fatalf("seq %d comes twice", again.Messages[0].Seq)
		}
		if answers := first.Answers + again.Answers; answers > 1 {
			t.Fatalf("%d answers to one request", answers)
		}
	})
}
