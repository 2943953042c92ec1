package people_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/wire"
)

// stopWithLetters (R14): SIGTERM in the middle of letters that come, wait for
// their acknowledgement and are sent, by each protocol that has them. All are told
// goodbye, the program ends cleanly and in time, and afterwards everything that
// was acknowledged is there, in both directions, what was not comes again under
// the same id, and nothing else does.
func stopWithLetters(t *testing.T) {
	const drain = 5 * time.Second
	n, stops := 300, 1
	if os.Getenv("PARLEY_SOAK") == "1" {
		n, stops = 2000, 10
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	ca := filepath.Join(t.TempDir(), "ca")
	cert, key := filepath.Join(ca, "server.crt"), filepath.Join(ca, "server.key")
	command(t, "ca", "init", "--dir", ca)
	command(t, "ca", "issue", "--host", "127.0.0.1", "--dir", ca, "--cert", cert, "--key", key)
	args := []string{
		"--auth", "--grant", "send:/$inbox/*", "--log", "warn", "--drain-timeout", drain.String(),
		"--ca-dir", ca, "--devastator-listen", "127.0.0.1:0", "--devastator-cert", cert, "--devastator-key", key,
	}
	s := newServer(t, args...)
	phone := newDevice(t, s, "phone", seed)
	watch := newDevice(t, s, "watch", seed)
	tina := newTitan(s, "tina", "dave", seed+1)
	dave := newDevastator(s, ca, "dave", "tina", seed+2)
	bob := s.run("token", "issue", "bob")

	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	pen := writer{token: bob, to: []string{"ann", "tina", "dave"}, n: n}
	var running sync.WaitGroup
	running.Go(func() { pen.write(ctx, t, s) })
	running.Go(func() { phone.read(ctx, n) })
	var glimpse []*parley.Message
	for i := range stops {
		var ending sync.WaitGroup
		for _, c := range []*oldClient{tina, dave} {
			ending.Go(func() {
				never := func() bool { return false }
				if err := c.visit(ctx, false, math.MaxInt, never); !c.stopped(err) {
					t.Errorf("%s ends with %v", c.name, err)
				}
			})
		}
		var got []*parley.Message
		ending.Go(func() { got = watch.stare(ctx, 20) })
		await(ctx, t, &pen.sent, int64(n*(i+1)/(stops+2)))
		took, code := s.terminate()
		ending.Wait()
		if took > drain || code != 0 {
			t.Errorf("it ended with %d after %v", code, took)
		}
		t.Logf("stopped in %v", took)
		if i == 0 {
			glimpse = got
		}
		s.start(args...)
	}
	watch.again(ctx, glimpse)
	for _, c := range []struct{ me, other *oldClient }{{tina, dave}, {dave, tina}} {
		running.Go(func() {
			if err := c.me.visit(ctx, true, 0, func() bool { return c.me.lacks(n, c.other) == "" }); err != nil {
				t.Errorf("%s has no %q: %v", c.me.name, c.me.lacks(n, c.other), err)
			}
		})
	}
	running.Wait()
	phone.check(n)
	for _, c := range []*oldClient{tina, dave} {
		if t.Logf("%s sent %d, got %d", c.name, len(c.sent), len(c.ids)); len(c.sent) == 0 || len(c.heard) == 0 {
			t.Errorf("%s did nothing", c.name)
		}
	}
}

// stare opens the inbox and takes n letters without acknowledging any, until the
// server says goodbye: properly, with a time to come back. It returns the letters.
func (d *device) stare(ctx context.Context, n int) (letters []*parley.Message) {
	h := http.Header{"Authorization": {"Bearer " + d.token}}
	conn, err := wire.Dial(ctx, "ws://"+d.s.address+"/v1/rpc", h)
	if err != nil {
		d.t.Error(err)
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close(wire.CloseNormal, "") })
	defer stop()
	defer func() { _ = conn.Close(wire.CloseNormal, "") }()
	ask := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"inbox.open","params":{"max_in_flight":%d}}`, n)
	if err := conn.Write(conn.AppendFrame(nil, true, []byte(ask))); err != nil {
		d.t.Error(err)
		return nil
	}
	var bye farewell
	for {
		frames, err := conn.Read()
		if err != nil {
			closed, ok := errors.AsType[*wire.CloseError](err)
			if !ok || closed.Code != wire.CloseRestart || bye.Code != "shutdown" || bye.Retry < 500 || bye.Retry > 5000 {
				d.t.Errorf("%s is told %+v and ends with %v", d.name, bye, err)
			}
			if len(letters) > n {
				d.t.Errorf("%s has %d letters in flight", d.name, len(letters))
			}
			return letters
		}
		for _, f := range frames {
			var m struct {
				Params struct {
					farewell

					Messages []*parley.Message
				}
			}
			if err := json.Unmarshal(f.Payload, &m); err != nil {
				d.t.Error(err)
			}
			letters = append(letters, m.Params.Messages...)
			bye = m.Params.farewell
		}
	}
}

// farewell is what a goodbye says.
type farewell struct {
	Code  string
	Retry int `json:"retry_ms"`
}

// again expects what the device has seen and not acknowledged, as it was, before
// anything else.
func (d *device) again(ctx context.Context, seen []*parley.Message) {
	d.t.Helper()
	if len(seen) == 0 {
		d.t.Errorf("%s had nothing in flight", d.name)
		return
	}
	c, err := d.s.dial(ctx, d.token, d.name)
	if err != nil {
		d.t.Error(err)
		return
	}
	defer func() { _ = c.Close() }()
	i := 0
	for m, err := range c.Inbox(ctx) {
		if err != nil {
			d.t.Errorf("%s: %v", d.name, err)
			return
		}
		if want := seen[i]; m.ID != want.ID || m.Seq != want.Seq {
			d.t.Errorf("%s: after the restart %s (%d) comes, not %s (%d)", d.name, m.ID, m.Seq, want.ID, want.Seq)
		}
		if i++; i == len(seen) {
			return
		}
	}
}
