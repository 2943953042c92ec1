package texto_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley/internal/backend/redis"
	"github.com/parley-im/parley/internal/protocol/protocoltest"
	"github.com/parley-im/parley/internal/protocol/texto"
	"github.com/parley-im/parley/test/redisserver"
)

// join makes a node that talks to others by way of Redis.
func join(t *testing.T, s *redisserver.Server) (*node, *redis.Client) {
	t.Helper()
	address, err := redis.ParseAddress("redis://" + s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.Open(redis.Options{Address: address, Logger: quiet()})
	t.Cleanup(func() { _ = client.Close() })
	n := newNode(t, texto.Config{Publish: client.Publish})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = client.Follow(ctx, texto.Channels, n.relay.Deliver) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	redisserver.Eventually(t, "the node is connected", func() bool { return client.Stats().Connected })
	return n, client
}

// original is a node of the original server, as far as Redis sees one: it
// publishes and follows, in bytes of its own.
type original struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func dialOriginal(t *testing.T, s *redisserver.Server) *original {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	return &original{t, conn, bufio.NewReader(conn)}
}

// ask sends a command and returns the parts of the answer.
func (o *original) ask(words ...string) []string {
	o.t.Helper()
	command := fmt.Sprintf("*%d\r\n", len(words))
	for _, word := range words {
		command += fmt.Sprintf("$%d\r\n%s\r\n", len(word), word)
	}
	if _, err := io.WriteString(o.conn, command); err != nil {
		o.t.Fatal(err)
	}
	return o.next()
}

// next is the parts of the next answer or message.
func (o *original) next() []string {
	o.t.Helper()
	line, err := o.in.ReadString('\n')
	if err != nil {
		o.t.Fatal(err)
	}
	line = strings.TrimSuffix(line, "\r\n")
	n, _ := strconv.Atoi(line[1:])
	switch line[0] {
	case '*':
		var parts []string
		for range n {
			parts = append(parts, o.next()...)
		}
		return parts
	case '$':
		p := make([]byte, n+2)
		if _, err := io.ReadFull(o.in, p); err != nil {
			o.t.Fatal(err)
		}
		return []string{string(p[:n])}
	}
	return []string{line}
}

// Two nodes of Parley and one of the original server exchange messages, in
// exactly its form.
func TestNodes(t *testing.T) {
	s := redisserver.Start(t)
	first, _ := join(t, s)
	second, _ := join(t, s)
	ann, bob := dial(t, first.open), dial(t, second.open)
	follower, publisher := dialOriginal(t, s), dialOriginal(t, s)
	if got := follower.ask("PSUBSCRIBE", "texto:*"); len(got) != 3 || got[2] != ":1" {
		t.Fatalf("subscribed: %q", got)
	}

	// To a session of another node.
	ann.say(`{"client_id":"` + ann.id + `","id":"` + someID + `","kind":"send","data":{"receiver_id":"{` + strings.ToUpper(bob.id) + `}","text":"<b>&\u2028é\"\n"}}`)
	if got := ann.want(); got != ack(ann.id, someID) {
		t.Errorf("ann got %s", got)
	}
	if from, text := receipt(bob.want()); from != ann.id || text != `\u003cb\u003e\u0026\u2028é\"\n` {
		t.Errorf("bob got %q from %s", text, from)
	}
	want := []string{"pmessage", "texto:*", "texto:" + bob.id, `{"SenderID":"` + ann.id + `","RecipientID":"` + bob.id + `","Text":"\u003cb\u003e\u0026\u2028é\"\n"}`}
	if got := follower.next(); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the original node got %q\nwant %q", got, want)
	}

	// To oneself: also by way of Redis.
	ann.send(ann.id, "me")
	frames := []string{ann.want(), ann.want()}
	if frames[0] != ack(ann.id, someID) {
		frames[0], frames[1] = frames[1], frames[0]
	}
	if from, text := receipt(frames[1]); from != ann.id || text != "me" || frames[0] != ack(ann.id, someID) {
		t.Errorf("ann got %q", frames)
	}
	follower.next()

	// From the original node, whatever the channel, and with garbage around.
	const stranger = "33d77065-5d93-4d7a-8ba4-1f06d891ba41"
	for _, garbage := range []string{"", "null", "[]", `{"RecipientID":"bogus"}`, `{"Text":7}`, "\xff\x00", strings.Repeat("[", 1000)} {
		publisher.ask("PUBLISH", "texto:"+bob.id, garbage)
	}
	if got := publisher.ask("PUBLISH", "texto:"+stranger, `{"SenderID":"`+stranger+`","RecipientID":"`+bob.id+`","Text":"hello \u003cb\u003e"}`); got[0] != ":3" {
		t.Errorf("%s nodes took it, want 3", got)
	}
	publisher.ask("PUBLISH", "texto:x", ` {"text":"lower","recipientid":"`+bob.id+`","more":1} trailing`)
	if from, text := receipt(bob.want()); from != stranger || text != `hello \u003cb\u003e` {
		t.Errorf("bob got %q from %s", text, from)
	}
	if from, text := receipt(bob.want()); from != nilUUID || text != "lower" {
		t.Errorf("bob got %q from %s", text, from)
	}
	if got := second.relay.Stats(); got.Unreadable != 7 || got.Delivered != 3 || got.Sent != 0 {
		t.Errorf("the second node counts %+v", got)
	}
}

// The transcripts hold over Redis, too, but for the order of an ack and a message
// to oneself.
func TestTranscriptsOverRedis(t *testing.T) {
	s := redisserver.Start(t)
	scripts, err := protocoltest.ReadFile("../../../docs/protocol/texto.md", "texto")
	if err != nil {
		t.Fatal(err)
	}
	d := dialect(nil)
	n, _ := join(t, s)
	for _, script := range scripts[:3] {
		t.Run(script.Name(), func(t *testing.T) {
			if err := protocoltest.Replay(script, d, n.open); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// Many clients on two nodes send to each other at the same time: every send is
// acked, and every message arrives.
func TestManySendersOverRedis(t *testing.T) {
	s := redisserver.Start(t)
	first, one := join(t, s)
	second, _ := join(t, s)
	storm(t, 30, 20, first.open, second.open)
	storm(t, 60, 50, first.open, second.open)
	if got, stats := first.relay.Stats(), one.Stats(); got.Failed != 0 || stats.Failed != 0 || stats.Published != got.Sent {
		t.Errorf("the first node counts %+v and %+v", got, stats)
	}
}

// While Redis is away a send is answered with EBROKER, at once, and when it is back
// all goes on, on the same connections.
func TestRedisAway(t *testing.T) {
	s := redisserver.Start(t)
	first, client := join(t, s)
	second, _ := join(t, s)
	ann, bob := dial(t, first.open), dial(t, second.open)
	for round := range 2 {
		s.Kill()
		redisserver.Eventually(t, "the node sees that Redis is away", func() bool { return !client.Stats().Connected })
		for range 20 {
			ann.send(bob.id, "lost")
			if got := ann.want(); got != broken(ann.id) {
				t.Fatalf("without Redis ann got %s", got)
			}
		}
		s.Start()
		text := fmt.Sprint("round ", round)
		arrived := make(chan struct{})
		var waiting sync.WaitGroup
		waiting.Go(func() {
			defer close(arrived)
			if from, got := receipt(bob.want()); from != ann.id || got != text {
				t.Errorf("bob got %q from %s", got, from)
			}
		})
		redisserver.Eventually(t, "a message passes", func() bool {
			ann.send(bob.id, text)
			if got := ann.want(); got != ack(ann.id, someID) && got != broken(ann.id) {
				t.Errorf("ann got %s", got)
			}
			select {
			case <-arrived:
				return true
			default:
				return false
			}
		})
		waiting.Wait()
		// What was sent again before bob had the first is on its way to him.
		bob.send(bob.id, "fence")
		for fenced, acked := false, false; !fenced || !acked; {
			got := bob.want()
			_, text := receipt(got)
			fenced, acked = fenced || text == "fence", acked || got == ack(bob.id, someID)
		}
	}
}
