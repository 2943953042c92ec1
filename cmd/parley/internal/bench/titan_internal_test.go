package bench

import (
	"fmt"
	"strings"
	"testing"

	"github.com/parley-im/parley/internal/wire"
)

// TestTitanReceiverNoticesEveryFault is TestSubscriberNoticesEveryFault for letters
// by the Titan protocol.
func TestTitanReceiverNoticesEveryFault(t *testing.T) {
	letter := func(n int) string {
		return fmt.Sprintf(`{"id":"%022d","method":"msg.recv","params":[{"from":"a","to":"b","time":"2026-11-28T12:00:00Z","message":"0000000001%010dxx"}]}`, n, n)
	}
	pong := func(n int) string { return fmt.Sprintf(`{"id":%d,"result":"ACK"}`, n) }
	for name, tt := range map[string]struct {
		frames []string
		want   string // in the error; empty for a run that is good
	}{
		"complete":            {[]string{letter(1), letter(2), request, pong(1), request, pong(2)}, ""},
		"one again":           {[]string{letter(1), letter(1), letter(2), request, pong(1), request, pong(2)}, ""},
		"one lost":            {[]string{letter(2)}, "after letter 0"},
		"two exchanged":       {[]string{letter(1), letter(3)}, "after letter 1"},
		"one too many":        {[]string{letter(1), letter(2), letter(3), request, pong(1), request, pong(3)}, "3 of 2"},
		"never acknowledged":  {[]string{letter(1), letter(2), request, pong(1), request}, "after 2 messages, 1 acknowledged"},
		"no letter":           {[]string{`{"id":"x","method":"msg.recv","params":[{"message":"hello"}]}`}, "hello"},
		"an error":            {[]string{`{"id":1,"error":{"code":-32603,"message":"oops"}}`}, "oops"},
		"cut off immediately": {nil, "after 0 messages"},
	} {
		t.Run(name, func(t *testing.T) {
			var totals totals
			err := feed(t, tt.frames, func(c wire.Conn) error {
				r := titanReader{receiver: &receiver{conn: c, clock: began(), totals: &totals}}
				r.frame = r.take
				r.want.Store(2)
				return r.receive()
			})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("the run ends with %v, want %q", err, tt.want)
			}
		})
	}
}
