package chaos_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
	"github.com/parley-im/parley/test/eventsource"
	"github.com/parley-im/parley/test/oracle"
)

// tuned is one connection that follows a topic as Server-Sent Events.
type tuned struct {
	net.Conn
	*eventsource.Reader
}

// tune asks for a topic by hand, as a client that comes back with lastID does
// unless that is empty.
func tune(address, target, lastID string, receive int) (*tuned, error) {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if receive > 0 {
		_ = c.(*net.TCPConn).SetReadBuffer(receive)
	}
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+address+"/v1/subscribe"+target, http.NoBody)
	if err != nil {
		return nil, err
	}
	if lastID != "" {
		request.Header.Set("Last-Event-ID", lastID)
	}
	return listen(c, request)
}

// listen sends a request and reads the head of the answer.
func listen(c net.Conn, request *http.Request) (*tuned, error) {
	err := request.Write(c)
	var r *eventsource.Reader
	if err == nil {
		r, err = begin(c, request)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return &tuned{c, r}, nil
}

// place is what events say of a place in a stream.
type place struct{ Cursor, From, To parley.Seq }

// told is an event, taken apart.
type told struct {
	kind    string
	message oracle.Message
	place   place
}

// hear reads the next event, and demands that its id is its place.
func (f *tuned) hear() (told, error) {
	e, err := f.Next()
	if err != nil {
		return told{}, err
	}
	t := told{kind: e.Type}
	var want parley.Seq
	switch e.Type {
	case "message":
		var m delivered
		err = json.Unmarshal([]byte(e.Data), &m)
		t.message, want = message(m.Topic, m.Seq, m.Text), m.Seq
	case "live", "replayed", "gap", "reset":
		err = json.Unmarshal([]byte(e.Data), &t.place)
		want = max(t.place.Cursor, t.place.To)
	default:
		return t, nil
	}
	if id, err2 := strconv.ParseUint(e.LastID, 10, 64); err2 != nil || parley.Seq(id) != want {
		err = errors.Join(err, fmt.Errorf("%+v has the id %q", e, e.LastID))
	}
	return t, err
}

// listener follows a topic over many connections.
type listener struct {
	target string
	lastID string
	known  bool       // where it began
	began  parley.Seq // all above it must come
	gaps   []place
	trace  []oracle.Message
}

// connect reads up to n messages from a new connection.
func (l *listener) connect(address string, n int) error {
	f, err := tune(address, l.target, l.lastID, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for n > 0 {
		t, err := f.hear()
		if err != nil {
			return err
		}
		switch {
		case t.kind == "message":
			n--
			if !l.known {
				l.known, l.began = true, t.message.Seq-1
			}
			l.trace = append(l.trace, t.message)
		case t.kind == "gap":
			l.gaps = append(l.gaps, t.place)
		case t.kind == "live" && !l.known:
			l.known, l.began = true, t.place.Cursor
		case t.kind == "bye" || t.kind == "ended" || t.kind == "reset":
			return fmt.Errorf("the server says %s", t.kind)
		}
		l.lastID = f.LastID
	}
	return nil
}

// check compares the trace with what there was, but for what was announced as
// gone and did not come.
func (l *listener) check(log []oracle.Message) error {
	came := make(map[parley.Seq]bool, len(l.trace))
	for _, m := range l.trace {
		came[m.Seq] = true
	}
	want := slices.DeleteFunc(slices.Clone(log), func(m oracle.Message) bool {
		return !came[m.Seq] && slices.ContainsFunc(l.gaps, func(g place) bool { return m.Seq > g.From && m.Seq <= g.To })
	})
	return oracle.Broken(want, l.began, l.trace)
}

// load publishes batches to a topic until it is stopped, and keeps the books.
type load struct {
	log  []oracle.Message // when it has stopped
	sent atomic.Int64
	run  sync.WaitGroup
	done chan struct{}
}

// loaded starts a load; it stops by itself after most messages.
func loaded(t *testing.T, s *servertest.Server, topic parley.Topic, most int) *load {
	t.Helper()
	l := &load{done: make(chan struct{})}
	c := sdk(t, s)
	l.run.Go(func() {
		for len(l.log) < most {
			select {
			case <-l.done:
				return
			default:
			}
			batch := make([]parley.Message, 1+len(l.log)%16)
			for i := range batch {
				batch[i] = parley.Message{Topic: topic, Body: []byte(bodyOf(fmt.Sprint(len(l.log)+i), 100+len(l.log)%400))}
			}
			receipts, err := c.PublishAll(t.Context(), batch)
			if err != nil {
				t.Error(err)
				return
			}
			for i, r := range receipts {
				l.log = append(l.log, message(topic, r.Seq, string(batch[i].Body)))
			}
			l.sent.Store(int64(len(l.log)))
		}
	})
	return l
}

// stop ends the load and returns what it published.
func (l *load) stop() []oracle.Message {
	close(l.done)
	l.run.Wait()
	return l.log
}

// TestEventStreamsJoinUnderLoad (R4): listeners join a busy topic in all ways,
// lose their connections again and again and come back with their Last-Event-ID,
// while messages are trimmed. Each gets everything from where it began, in
// order, without a gap that is not announced and without a repetition.
func TestEventStreamsJoinUnderLoad(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := servertest.Start(t, servertest.Dir(t.TempDir()), func(c *server.Config) { c.Limits.Tail = 1 << 20 })
	const topic parley.Topic = "/joins"
	busy := loaded(t, s, topic, 1_000_000)
	eventually(t, "there is something to replay", func() bool { return busy.sent.Load() > 100 })
	var listeners []*listener
	var listening sync.WaitGroup
	var gaps atomic.Int64
	for i := range scale(8, 16, 64) {
		rnd := rand.New(rand.NewPCG(seed, uint64(i)))
		l := &listener{target: []string{"/joins", "/joins?after=1", "/joins?last=50", "/joins?since=1h"}[i%4]}
		if i%4 == 1 {
			l.known, l.began = true, 1
		}
		listeners = append(listeners, l)
		listening.Go(func() {
			// A few rounds may fit between two trims: then there are more.
			rounds := scale(10, 30, 200)
			for round := 0; round < rounds || gaps.Load() == 0 && round < 50*rounds; round++ {
				told := len(l.gaps)
				if err := l.connect(host(s), 1+rnd.IntN(300)); err != nil {
					t.Errorf("%s after %d messages: %v", l.target, len(l.trace), err)
					return
				}
				gaps.Add(int64(len(l.gaps) - told))
			}
		})
	}
	trimmed := make(chan struct{})
	var trimming sync.WaitGroup
	trimming.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				remove(t, s, topic)
			case <-trimmed:
				return
			}
		}
	})
	listening.Wait()
	close(trimmed)
	trimming.Wait()
	log := busy.stop()
	total := 0
	for i, l := range listeners {
		total += len(l.trace)
		if err := l.check(log); err != nil {
			t.Errorf("listener %d, %s, %d messages, %d gaps: %v", i, l.target, len(l.trace), len(l.gaps), err)
		}
	}
	t.Logf("%d messages of %d published came to %d listeners, with %d gaps", total, len(log), len(listeners), gaps.Load())
	if gaps.Load() == 0 {
		t.Error("nothing was trimmed under anybody")
	}
	unharmed(t, scrape(t, s))
}

// remove trims a stream to nothing.
func remove(t *testing.T, s *servertest.Server, topic parley.Topic) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, s.URL+"/v1/topics"+string(topic), http.NoBody)
	if err != nil {
		t.Error(err)
		return
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	response, err := c.Do(request)
	if err != nil {
		t.Error(err)
		return
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("purging: %s", response.Status)
	}
}

// A checker that cannot fail shows nothing.
func TestListenerCheckFails(t *testing.T) {
	t.Parallel()
	var log []oracle.Message
	for i := range 10 {
		log = append(log, message("/a", parley.Seq(10+i), strconv.Itoa(i)))
	}
	for name, l := range map[string]*listener{
		"lost":            {began: 9, trace: slices.Concat(log[:4], log[5:])},
		"lost before":     {began: 9, trace: log[1:]},
		"repeated":        {began: 9, trace: slices.Concat(log[:4], log[3:])},
		"too small a gap": {began: 9, gaps: []place{{From: 12, To: 13}}, trace: slices.Concat(log[:3], log[5:])},
	} {
		if l.check(log) == nil {
			t.Errorf("%s is not seen", name)
		}
	}
	l := &listener{began: 9, gaps: []place{{From: 12, To: 14}}, trace: slices.Concat(log[:3], log[5:])}
	if err := l.check(log); err != nil {
		t.Error(err)
	}
}

// TestStalledEventStream (R8): a listener that does not read delays nobody, is
// closed as slow, and when it comes back with its Last-Event-ID has missed
// nothing.
func TestStalledEventStream(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Dir(t.TempDir()), func(c *server.Config) {
		c.HTTP.WriteTimeout = time.Second
		c.Limits.Tail = 1 << 20
	})
	const topic parley.Topic = "/stalled"
	stalled, err := tune(host(s), string(topic), "", 256<<10)
	if err != nil {
		t.Fatal(err)
	}
	defer stalled.Close()
	busy := loaded(t, s, topic, 1_000_000)
	other := &listener{target: string(topic) + "?after=0", known: true}
	if err := other.connect(host(s), 10_000); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the listener is closed as slow", func() bool { return slow(t, s) == 1 })
	log := busy.stop()
	if err := other.check(log); err != nil {
		t.Error(err)
	}
	l := &listener{target: string(topic)}
	for {
		e, err := stalled.hear()
		if err != nil {
			break // whatever else there was in its socket
		}
		switch e.kind {
		case "live":
			l.known, l.began = true, e.place.Cursor
		case "message":
			l.trace = append(l.trace, e.message)
		}
		l.lastID = stalled.LastID
	}
	had := len(l.trace)
	if err := l.connect(host(s), len(log)-had); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d messages were in its socket, %d came later", had, len(l.trace)-had)
	if err := l.check(log); err != nil || len(l.trace) != len(log) {
		t.Errorf("%d of %d messages: %v", len(l.trace), len(log), err)
	}
}

// TestEventStreamsWhenTheServerStops (R14): every listener is told goodbye and
// when to come back, the stream ends whole, and the next server goes on from
// there.
func TestEventStreamsWhenTheServerStops(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := servertest.Start(t, servertest.Dir(dir))
	const topic parley.Topic = "/restarted"
	busy := loaded(t, s, topic, 1_000_000)
	listeners := make([]*listener, scale(10, 50, 500))
	var listening, live sync.WaitGroup
	for i := range listeners {
		l := &listener{target: string(topic)}
		listeners[i] = l
		live.Add(1)
		listening.Go(func() {
			f, err := tune(host(s), l.target, "", 0)
			if err != nil {
				t.Error(err)
				live.Done()
				return
			}
			defer f.Close()
			for {
				e, err := f.hear()
				switch {
				case err != nil:
					t.Errorf("without a goodbye: %v", err)
					return
				case e.kind == "live":
					l.known, l.began = true, e.place.Cursor
					live.Done()
				case e.kind == "message":
					l.trace = append(l.trace, e.message)
				case e.kind == "bye":
					l.lastID = f.LastID
					retry, err := strconv.Atoi(f.Retry)
					if d := time.Duration(retry) * time.Millisecond; err != nil || d < restartLeast || d > restartMost {
						t.Errorf("come back after %q", f.Retry)
					}
					if _, err := f.Next(); !errors.Is(err, io.EOF) {
						t.Errorf("after the goodbye: %v", err)
					}
					return
				}
			}
		})
	}
	live.Wait()
	log := busy.stop()
	s.Stop()
	listening.Wait()
	next := servertest.Start(t, servertest.Dir(dir))
	last := loaded(t, next, topic, 1)
	last.run.Wait()
	log = append(log, last.log...)
	for _, l := range listeners {
		missing := len(slices.DeleteFunc(slices.Clone(log), func(m oracle.Message) bool { return m.Seq <= l.began })) - len(l.trace)
		if err := l.connect(host(next), missing); err != nil {
			t.Error(err)
		}
		if err := l.check(log); err != nil {
			t.Error(err)
		}
	}
}

// TestEventStreamsAreLimited (S7): a stream counts as a connection, and who is
// one too many is told when to come back.
func TestEventStreamsAreLimited(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, func(c *server.Config) { c.HTTP.PerAddress = 3 })
	for range 3 {
		f, err := tune(host(s), "/limited", "", 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if e, err := f.hear(); err != nil || e.kind != "live" {
			t.Fatalf("%+v, %v", e, err)
		}
	}
	if n := scrape(t, s)[`connections{protocol="sse"}`]; n != 3 {
		t.Errorf("the metrics say %v streams", n)
	}
	_, err := tune(host(s), "/limited", "", 0)
	if err == nil || !strings.Contains(err.Error(), "429") {
		t.Errorf("the fourth: %v", err)
	}
}

// begin reads the head of an answer, which must be a stream.
func begin(c net.Conn, request *http.Request) (*eventsource.Reader, error) {
	response, err := http.ReadResponse(bufio.NewReader(c), request) //nolint:bodyclose // the connection is closed instead
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "text/event-stream" {
		return nil, fmt.Errorf("the server answers %s, %s", response.Status, response.Header.Get("Content-Type"))
	}
	return eventsource.NewReader(response.Body), nil
}
