package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
	"github.com/parley-im/parley/internal/wire"
)

// peer is a server in memory that can be told to misbehave. It knows enough of
// the native protocol for the client's own tests; everything else is tested
// against the real server.
type peer struct {
	tasks  sync.WaitGroup
	logger *slog.Logger // the client's; nil is none

	mu      sync.Mutex // guards what follows
	log     []stored
	clock   int64
	floor   int64
	keys    map[string]int64 // producer and id
	conns   map[*peerConn]bool
	dials   []time.Time
	hellos  []string                              // the producers
	tokens  []string                              // shown by auth
	life    time.Duration                         // of a token; 0 is for ever
	idle    int                                   // seconds, told in the hello
	limits  map[string]int                        // told in the hello
	down    bool                                  // refuse connections
	mute    bool                                  // read, but say nothing
	deaf    func(method string) bool              // leave these requests unanswered
	unsaid  string                                // leave out this event
	refuse  func(method string) map[string]any    // answer with this error, unless nil
	wrapped func(conn wire.Conn) wire.Conn        // the client's end
	greet   func(c *peerConn, id json.RawMessage) // instead of the answer to hello
}

type stored struct {
	Topic   parley.Topic      `json:"topic"`
	Seq     int64             `json:"seq"`
	Time    time.Time         `json:"time"`
	ID      string            `json:"id,omitempty"`
	Text    *string           `json:"text,omitempty"`
	Data    []byte            `json:"data,omitempty"`
	Headers json.RawMessage   `json:"headers,omitempty"`
	Expires string            `json:"expires,omitempty"`
	Filters map[string]string `json:"filters,omitempty"`
}

// peerConn is one connection of a peer's. What it says is queued without bound,
// so that the peer never waits for a client.
type peerConn struct {
	p        *peer
	conn     wire.Conn
	producer string
	subs     []*peerSub
	lastSub  int
	out      [][]byte
	wake     chan struct{}
	closed   chan struct{}
	once     sync.Once
}

type peerSub struct {
	id    int
	topic parley.Topic
}

func newPeer(t *testing.T) *peer {
	p := &peer{keys: make(map[string]int64), conns: make(map[*peerConn]bool), idle: 60}
	t.Cleanup(func() {
		p.cut()
		p.tasks.Wait()
	})
	return p
}

// dial is the client's way to p.
func (p *peer) dial(ctx context.Context, _ string, _ http.Header) (wire.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dials = append(p.dials, time.Now())
	if p.down {
		return nil, errors.New("connection refused")
	}
	mine, theirs := wire.Pipe()
	c := &peerConn{p: p, conn: mine, wake: make(chan struct{}, 1), closed: make(chan struct{})}
	p.conns[c] = true
	p.tasks.Go(c.read)
	p.tasks.Go(c.write)
	if p.wrapped != nil {
		return p.wrapped(theirs), nil
	}
	return theirs, nil
}

// connect dials p and closes the client when the test ends.
func (p *peer) connect(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.DialWith(t.Context(), "http://peer", client.Options{Logger: p.logger}, p.dial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// cut ends all connections without a word.
func (p *peer) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.end()
	}
}

// set changes p while it runs.
func (p *peer) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// store appends messages as if somebody else had published them.
func (p *peer) store(topic parley.Topic, texts ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, text := range texts {
		p.append(stored{Topic: topic, Text: &text})
	}
}

// say sends an event on every connection.
func (p *peer) say(method string, params any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.say(method, params)
	}
}

func (p *peer) append(m stored) int64 {
	p.clock++
	m.Seq, m.Time = p.clock, time.Now().UTC()
	p.log = append(p.log, m)
	for c := range p.conns {
		var covering []int
		for _, s := range c.subs {
			if s.topic.Covers(m.Topic) {
				covering = append(covering, s.id)
			}
		}
		if len(covering) > 0 {
			c.say("messages", map[string]any{"sub": covering[0], "also": covering[1:], "messages": []stored{m}})
		}
	}
	return m.Seq
}

func (c *peerConn) end() {
	c.once.Do(func() {
		close(c.closed)
		_ = c.conn.Close(0, "")
		delete(c.p.conns, c)
	})
}

func (c *peerConn) write() {
	for {
		select {
		case <-c.wake:
		case <-c.closed:
			return
		}
		c.p.mu.Lock()
		out := c.out
		c.out = nil
		c.p.mu.Unlock()
		for _, p := range out { // one write each, so that a test can cut between any two
			if c.conn.Write(c.conn.AppendFrame(nil, true, p)) != nil {
				return
			}
		}
	}
}

func (c *peerConn) read() {
	for {
		frames, err := c.conn.Read()
		c.p.mu.Lock()
		if err != nil {
			c.end()
			c.p.mu.Unlock()
			return
		}
		for _, f := range frames {
			c.request(f.Payload)
		}
		c.p.mu.Unlock()
	}
}

func (c *peerConn) send(v any) {
	if c.p.mute {
		return
	}
	p, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	c.out = append(c.out, p)
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *peerConn) say(method string, params any) {
	if method == c.p.unsaid {
		return
	}
	c.send(map[string]any{"jsonrpc": "2.0", "method": method, "params": params})
}

func (c *peerConn) answer(id json.RawMessage, result any) {
	if id != nil {
		c.send(map[string]any{"jsonrpc": "2.0", "id": id, "result": result})
	}
}

func (c *peerConn) fail(id json.RawMessage, e map[string]any) {
	if id != nil {
		c.send(map[string]any{"jsonrpc": "2.0", "id": id, "error": e})
	}
}

// wireError is an error as the server writes it.
func wireError(code int, kind, message string) map[string]any {
	return map[string]any{"code": code, "message": message, "data": map[string]any{"kind": kind}}
}

type peerParams struct {
	stored
	Producer   string   `json:"producer"`
	Token      string   `json:"token"`
	Device     string   `json:"device"`
	Messages   []stored `json:"messages"`
	After      *int64   `json:"after"`
	Before     int64    `json:"before"`
	Last       int      `json:"last"`
	Max        int      `json:"max"`
	Limit      int      `json:"limit"`
	Reverse    bool     `json:"reverse"`
	ReplayOnly bool     `json:"replay_only"`
	Sub        int      `json:"sub"`
}

func (c *peerConn) request(payload []byte) {
	var r struct {
		ID     json.RawMessage `json:"id"`
		Method string          `json:"method"`
		Params peerParams      `json:"params"`
	}
	if err := json.Unmarshal(payload, &r); err != nil {
		c.fail(json.RawMessage("null"), wireError(-32700, "invalid", err.Error()))
		return
	}
	p := c.p
	if p.deaf != nil && p.deaf(r.Method) {
		return
	}
	if p.refuse != nil {
		if e := p.refuse(r.Method); e != nil {
			c.fail(r.ID, e)
			return
		}
	}
	switch r.Method {
	case "hello":
		c.producer = r.Params.Producer
		p.hellos = append(p.hellos, c.producer)
		if p.greet != nil {
			p.greet(c, r.ID)
			return
		}
		c.answer(r.ID, map[string]any{"version": 1, "limits": p.limits, "promises": map[string]any{"idle_seconds": p.idle}})
	case "auth":
		p.tokens = append(p.tokens, r.Params.Token)
		who := map[string]any{"user": "ann", "device": r.Params.Device}
		if p.life > 0 {
			who["expires"] = time.Now().Add(p.life)
		}
		c.answer(r.ID, who)
	case "publish":
		c.publish(r.ID, &r.Params)
	case "subscribe":
		c.subscribe(r.ID, &r.Params)
	case "unsubscribe":
		c.subs = slices.DeleteFunc(c.subs, func(s *peerSub) bool { return s.id == r.Params.Sub })
		c.answer(r.ID, map[string]any{"sub": r.Params.Sub})
	case "history":
		c.answer(r.ID, p.history(&r.Params))
	case "count":
		found := p.find(&r.Params)
		tally := map[string]any{"count": len(found)}
		if len(found) > 0 {
			tally["first"], tally["last"] = found[0].Seq, found[len(found)-1].Seq
		}
		c.answer(r.ID, tally)
	case "ping":
		c.answer(r.ID, map[string]any{})
	default:
		c.fail(r.ID, wireError(-32601, "invalid", "method not found"))
	}
}

func (c *peerConn) publish(id json.RawMessage, p *peerParams) {
	if p.Messages == nil {
		seq, duplicate := c.put(p.stored)
		c.answer(id, map[string]any{"topic": p.Topic, "seq": seq, "duplicate": duplicate})
		return
	}
	results := []map[string]any{}
	for _, m := range p.Messages {
		if m.Text != nil && *m.Text == "bad" {
			results = append(results, map[string]any{"error": wireError(-32004, "conflict", "other message")})
			continue
		}
		seq, duplicate := c.put(m)
		results = append(results, map[string]any{"topic": m.Topic, "seq": seq, "duplicate": duplicate})
	}
	c.answer(id, map[string]any{"results": results})
}

func (c *peerConn) put(m stored) (seq int64, duplicate bool) {
	key := c.producer + m.ID
	if seq, ok := c.p.keys[key]; ok {
		return seq, true
	}
	seq = c.p.append(m)
	c.p.keys[key] = seq
	return seq, false
}

func (p *peer) find(q *peerParams) []stored {
	var found []stored
	for _, m := range p.log {
		after := q.After == nil || m.Seq > *q.After
		before := q.Before == 0 || m.Seq < q.Before
		if m.Seq > p.floor && q.Topic.Covers(m.Topic) && after && before {
			found = append(found, m)
		}
	}
	return found
}

func (p *peer) history(q *peerParams) map[string]any {
	found := p.find(q)
	if q.Reverse {
		slices.Reverse(found)
	}
	page := map[string]any{"messages": found, "floor": p.floor}
	if q.Limit > 0 && len(found) > q.Limit {
		page["messages"], page["more"] = found[:q.Limit], true
		page["next"] = found[q.Limit-1].Seq
	}
	return page
}

// subscribe answers, replays what is stored, and goes live at once: the peer's
// lock makes that one moment.
func (c *peerConn) subscribe(id json.RawMessage, q *peerParams) {
	p := c.p
	c.lastSub++
	sub := &peerSub{id: c.lastSub, topic: q.Topic}
	live := q.After == nil && q.Last == 0
	result := map[string]any{"sub": sub.id, "topic": q.Topic}
	switch {
	case live:
		result["cursor"] = p.clock
	case q.After != nil:
		result["cursor"] = *q.After
	}
	c.answer(id, result)
	if q.After != nil && *q.After > p.clock {
		c.say("reset", map[string]any{"sub": sub.id, "from": *q.After, "to": p.clock})
		*q.After = p.clock
	}
	if q.After != nil && *q.After < p.floor {
		c.say("gap", map[string]any{"sub": sub.id, "from": *q.After, "to": p.floor})
	}
	if !live {
		c.replay(sub, q)
	}
	if !q.ReplayOnly {
		c.subs = append(c.subs, sub)
		c.say("live", map[string]any{"sub": sub.id, "cursor": p.clock})
	}
}

func (c *peerConn) replay(sub *peerSub, q *peerParams) {
	found := c.p.find(q)
	if q.Last > 0 && len(found) > q.Last {
		found = found[len(found)-q.Last:]
	}
	if q.Max > 0 && len(found) > q.Max {
		found = found[:q.Max]
	}
	c.say("replay", map[string]any{"sub": sub.id, "count": len(found)})
	for batch := range slices.Chunk(found, 3) {
		c.say("messages", map[string]any{"sub": sub.id, "messages": batch})
	}
	c.say("replayed", map[string]any{"sub": sub.id, "cursor": c.p.clock})
}
