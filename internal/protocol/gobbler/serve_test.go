package gobbler_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/protocol"
	"github.com/parley-im/parley/internal/protocol/gobbler"
	"github.com/parley-im/parley/internal/protocol/protocoltest"
	"github.com/parley-im/parley/internal/wire"
)

// A world is a broker over a store in memory, running until the test ends.
type world struct {
	broker *broker.Broker
	// open says how to connect with dialect d.
	open func(d gobbler.Dialect) protocoltest.Open
}

func newWorld(t testing.TB, cfg broker.Config) *world {
	t.Helper()
	if cfg.Log == nil {
		db, err := pebble.Open("store", pebble.Options{FS: vfs.NewMem()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		cfg.Log = db
	}
	b := broker.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var running, serving sync.WaitGroup
	running.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		serving.Wait()
		cancel()
		running.Wait()
	})
	connect := func(d gobbler.Dialect, user string) wire.Conn {
		client, server := wire.Pipe()
		serving.Go(func() {
			var goodbye *wire.CloseError
			if err := protocol.Serve(ctx, gobbler.Conversation(server, b, account.Anyone(parley.Identity{User: user}), d)); !errors.As(err, &goodbye) {
				t.Errorf("a conversation ended with %v", err)
			}
		})
		return client
	}
	return &world{b, func(d gobbler.Dialect) protocoltest.Open {
		return func(path string) (wire.Conn, error) {
			user, err := gobbler.UserID(path)
			if err != nil {
				return nil, err
			}
			return connect(d, user), nil
		}
	}}
}

// start runs a world and says how to connect to it.
func start(t *testing.T, cfg broker.Config, d gobbler.Dialect) protocoltest.Open {
	t.Helper()
	return newWorld(t, cfg).open(d)
}

// What docs/protocol/gobbler.md says, the server does.
func TestTranscripts(t *testing.T) {
	d := protocoltest.Dialect{
		Name:   "gobbler",
		Probe:  "are you there?",
		Answer: "!error-bad-request unknown command are",
		Start:  func(t *testing.T) protocoltest.Open { return start(t, broker.Config{}, gobbler.Deployed) },
	}
	protocoltest.Run(t, "../../../docs/protocol/gobbler.md", d)
	protocoltest.Run(t, "testdata/transcripts.md", d)
}

// peer is a client that sends commands and takes one frame at a time.
type peer struct {
	t    *testing.T
	conn wire.Conn
	due  []wire.Frame
}

func dial(t *testing.T, open protocoltest.Open, user string) *peer {
	t.Helper()
	conn, err := open("/stream/user/" + user)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(1000, "") })
	p := &peer{t: t, conn: conn}
	if hello := p.next(); !strings.HasPrefix(hello, "#connected ") {
		t.Fatalf("the first frame is %q", hello)
	}
	return p
}

func (p *peer) send(command string) {
	p.t.Helper()
	if err := p.conn.Write(p.conn.AppendFrame(nil, true, []byte(command))); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) next() string {
	p.t.Helper()
	for len(p.due) == 0 {
		var err error
		if p.due, err = p.conn.Read(); err != nil {
			p.t.Fatal(err)
		}
	}
	f := p.due[0]
	p.due = p.due[1:]
	return string(f.Payload)
}

// A client that stops reading for a while gets all it missed, once and in order,
// as a fetch that it did not ask for.
func TestSlowClientCatchesUp(t *testing.T) {
	const messages = 20_000
	open := start(t, broker.Config{TailBytes: 256 << 10}, gobbler.Deployed)
	slow, publisher := dial(t, open, "slow"), dial(t, open, "ann")
	slow.send("+ /slow")
	if got := slow.next(); got != "#subscribed-to /slow" {
		t.Fatalf("got %q", got)
	}
	var confirming sync.WaitGroup
	confirming.Go(func() {
		for range messages {
			if got := publisher.next(); !strings.HasPrefix(got, "#send ") {
				t.Errorf("a publish is answered with %q", got)
				return
			}
		}
	})
	for i := range messages {
		publisher.send(fmt.Sprintf("> /slow %d\n\nbody#%d", i, i))
	}
	confirming.Wait()

	watch := time.AfterFunc(time.Minute, func() { _ = slow.conn.Close(1000, "the test waits for too long") })
	defer watch.Stop()
	fetches, seen := 0, 0
	state, left := "live", 0 // left: what a running fetch has announced and not delivered
	for seen < messages || state != "live" {
		frame := slow.next()
		fault := "" // or what frame is not for
		switch name, count, _ := strings.Cut(frame, " /slow"); name {
		case "#fetch-start":
			n, err := strconv.Atoi(strings.TrimSpace(count))
			if state == "fetching" || err != nil || n == 0 {
				fault = state
			}
			state, left = "fetching", n
			fetches++
		case "#fetch-end":
			if state != "fetching" || left != 0 {
				fault = state
			}
			state = "fetched"
		case "#subscribed-to":
			if state != "fetched" {
				fault = state
			}
			state = "live"
		default:
			m, err := parse(frame)
			if err != nil || m.Body != "body#"+strconv.Itoa(seen) || state == "fetched" || state == "fetching" && left == 0 {
				fault = state
			}
			seen++
			left--
		}
		if fault != "" {
			t.Fatalf("%q while %s, after %d messages, with %d to be fetched", frame, fault, seen, left)
		}
	}
	if fetches == 0 {
		t.Error("the client was never behind: the test shows nothing")
	}
}
