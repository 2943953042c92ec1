package bench

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/wire"
)

// message is a frame as the server sends it.
func message(seq int, body string) string {
	return fmt.Sprintf("/t,%d,user,app,,,1795245935,0\n\n%s", seq, body)
}

// request among the frames of feed stands for the client's turn to speak.
const request = "(request)"

// feed is a subscriber that receives frames from a pipe.
func feed(t *testing.T, frames []string, read func(wire.Conn) error) error {
	t.Helper()
	there, here := wire.Pipe()
	var feeding sync.WaitGroup
	feeding.Go(func() {
		for _, f := range frames {
			if f == request {
				if _, err := there.Read(); err != nil {
					return
				}
				continue
			}
			if err := there.Write(there.AppendFrame(nil, false, []byte(f))); err != nil {
				return
			}
		}
		_ = there.Close(wire.CloseNormal, "")
	})
	defer feeding.Wait()
	defer func() { _ = here.Close(wire.CloseNormal, "") }()
	return read(here)
}

// TestSubscriberNoticesEveryFault shows that a run which lost, repeated,
// reordered or mangled something does not pass.
func TestSubscriberNoticesEveryFault(t *testing.T) {
	stamped := func(seq int) string { return message(seq, "0000000001rest") }
	for name, tt := range map[string]struct {
		frames []string
		want   string // in the error; empty for a run that is good
	}{
		"complete":      {[]string{"#subscribed-to /t", stamped(1), stamped(2), stamped(7), message(8, "end 3")}, ""},
		"one lost":      {[]string{stamped(1), stamped(7), message(8, "end 3")}, "2 of 3"},
		"one too many":  {[]string{stamped(1), stamped(2), message(8, "end 1")}, "2 of 1"},
		"one repeated":  {[]string{stamped(1), stamped(1), message(8, "end 2")}, "seq 1 follows 1"},
		"two exchanged": {[]string{stamped(2), stamped(1), message(8, "end 2")}, "seq 1 follows 2"},
		"an error":      {[]string{stamped(1), "!error-server-internal oops"}, "oops"},
		"no message":    {[]string{"hello"}, "no message"},
		"no seq":        {[]string{"/t,x1,,"}, "seq"},
		"cut off":       {[]string{stamped(1)}, "after 1 messages"},
	} {
		t.Run(name, func(t *testing.T) {
			var totals totals
			err := feed(t, tt.frames, func(c wire.Conn) error {
				return (&subscriber{conn: c, topic: "/t", clock: began(), totals: &totals}).receive()
			})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("the run ends with %v, want %q", err, tt.want)
			}
		})
	}
}

func TestFetchNoticesWhatIsMissing(t *testing.T) {
	for name, tt := range map[string]struct {
		frames []string
		want   string
	}{
		"complete":   {[]string{"#fetch-start /t 3", message(1, "a"), message(2, "b"), message(3, "end 2"), "#fetch-end /t"}, ""},
		"one lost":   {[]string{"#fetch-start /t 3", message(1, "a"), message(3, "end 2"), "#fetch-end /t"}, "2 of 3"},
		"one reborn": {[]string{"#fetch-start /t 2", message(2, "a"), message(2, "a"), "#fetch-end /t"}, "seq 2 follows 2"},
		"refused":    {[]string{"!error-bad-request no"}, "no"},
	} {
		t.Run(name, func(t *testing.T) {
			l := &load{}
			err := feed(t, append([]string{request}, tt.frames...), func(c wire.Conn) error { return l.fetch(c, "/t") })
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("the fetch ends with %v, want %q", err, tt.want)
			}
		})
	}
}

func TestPublisherNoticesAnAckTooMany(t *testing.T) {
	cfg := Default()
	var totals totals
	err := feed(t, []string{"#connected x", "#send 1"}, func(c wire.Conn) error {
		return newPublisher(&cfg, c, &totals).receive()
	})
	if err == nil || !strings.Contains(err.Error(), "more than was sent") {
		t.Errorf("an acknowledgement of nothing gives %v", err)
	}
}

func TestPublisherCountsRefusals(t *testing.T) {
	cfg := Default()
	var totals totals
	var p *publisher
	_ = feed(t, []string{"!error-send the queue is full\n{}", "#send\n{}"}, func(c wire.Conn) error {
		p = newPublisher(&cfg, c, &totals)
		p.sent.Store(2)
		return p.receive()
	})
	if p.acked.Load() != 2 || p.refused != 1 {
		t.Errorf("%d are answered, %d of them refused; want 2 and 1", p.acked.Load(), p.refused)
	}
	if err := reasons([]*publisher{p}); !errors.Is(err, parley.ErrUnavailable) || !strings.Contains(err.Error(), "queue is full") {
		t.Errorf("the run ends with %v, want ErrUnavailable with the server's words", err)
	}
}

func TestCheckFindsAllFaults(t *testing.T) {
	good := Default()
	if err := good.Check(); err != nil {
		t.Errorf("the default has faults: %v", err)
	}
	bad := Config{Prefix: "x", Rate: -1}
	err := bad.Check()
	if !errors.Is(err, parley.ErrInvalid) {
		t.Fatalf("Check returns %v", err)
	}
	for _, flag := range []string{"--topics", "--publishers", "--subscribers", "--connections", "--window", "--size", "--duration", "--rate", "--prefix", "--protocol"} {
		if !strings.Contains(err.Error(), flag) {
			t.Errorf("the error does not say %s: %v", flag, err)
		}
	}
}

func TestOpenLoopIsDueOnTime(t *testing.T) {
	cfg := Default()
	cfg.Rate, cfg.Publishers = 1000, 2
	p := newPace(&cfg)
	for n, want := range []int64{0, 2000, 4000} {
		// However late it is, due stays what it was: lateness is latency.
		if due, ok := p.due(int64(n), 1_000_000); !ok || due != want {
			t.Errorf("message %d is due at %d, want %d", n, due, want)
		}
	}
	if _, ok := p.due(5000, 0); ok {
		t.Error("a message is due after the end")
	}
	if _, ok := p.due(0, p.end+graceMicros); ok {
		t.Error("a server far behind holds the load up")
	}
}

func TestStamps(t *testing.T) {
	for _, µs := range []int64{0, 1, 1234567890, 9999999999} {
		if got, ok := stamp(append(appendStamp(nil, µs), "xx"...)); !ok || got != µs {
			t.Errorf("stamp of %d is read as %d, %v", µs, got, ok)
		}
	}
	if _, ok := stamp([]byte("123")); ok {
		t.Error("a short body has a stamp")
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestPickGoesRoundAllTopics(t *testing.T) {
	cfg := Default()
	cfg.Topics, cfg.Publishers = 10, 3
	for _, cfg.Random = range []bool{false, true} {
		for i := range cfg.Publishers {
			next, seen := cfg.pick(i), map[int]int{}
			for range 1000 {
				seen[next()]++
			}
			if len(seen) != cfg.Topics || !cfg.Random && seen[0] != 100 {
				t.Errorf("publisher %d, random %v: topics are chosen %v times", i, cfg.Random, seen)
			}
		}
	}
}

func TestEventSubscriberNoticesEveryFault(t *testing.T) {
	event := func(seq int, body string) string {
		return fmt.Sprintf("id: %d\ndata: {\"topic\":\"/t\",\"seq\":%d,\"text\":\"%s\"}\n", seq, seq, body)
	}
	stamped := func(seq int) string { return event(seq, "0000000001rest") }
	for name, tt := range map[string]struct {
		frames []string
		want   string
	}{
		"complete":      {[]string{"retry: 1\n", "id: 0\nevent: live\ndata: {}\n", stamped(1), ":\n", stamped(7), event(8, "end 2")}, ""},
		"one lost":      {[]string{stamped(1), event(8, "end 2")}, "1 of 2"},
		"one repeated":  {[]string{stamped(1), stamped(1), event(8, "end 2")}, "seq 1 follows 1"},
		"no message":    {[]string{"id: 1\ndata: {}\n"}, "no message"},
		"no seq":        {[]string{"id: x\ndata: {\"text\":\"\"}\n"}, "seq"},
		"cut off":       {[]string{stamped(1)}, "after 1 messages"},
		"two exchanged": {[]string{stamped(2), stamped(1)}, "seq 1 follows 2"},
	} {
		t.Run(name, func(t *testing.T) {
			var totals totals
			err := feed(t, tt.frames, func(c wire.Conn) error {
				return (&subscriber{conn: c, parse: parseEvent, topic: "/t", clock: began(), totals: &totals}).receive()
			})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("the run ends with %v, want %q", err, tt.want)
			}
		})
	}
}
