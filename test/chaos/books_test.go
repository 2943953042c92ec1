package chaos_test

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/server/servertest"
	"github.com/parley-im/parley/test/oracle"
)

const books parley.Topic = "/books"

// TestBooksBalance (R21): when all is quiet, the counters that an operator sees
// agree with what was published, what is stored and what was received.
func TestBooksBalance(t *testing.T) {
	t.Parallel()
	s := servertest.Start(t, servertest.Dir(t.TempDir()))
	n := scale(100, 500, 20_000)
	var readers sync.WaitGroup
	read := func(p *peer, d dialect) {
		readers.Go(func() {
			defer p.Close()
			if got, err := count(p, d, 2*n); err != nil {
				t.Errorf("%s reader, after %d messages: %v", d.name, got, err)
			}
		})
	}
	const single = 4 // readers with one subscription
	for i := range single {
		d := dialects()[i%2]
		p := open(t, s, d.path)
		if err := p.say(d.subscribe(books, 0)); err != nil {
			t.Fatal(err)
		}
		read(p, d)
	}
	overlapping := open(t, s, rpcPath)
	for i, topic := range []parley.Topic{books, books + "/a"} {
		if _, err := overlapping.ask(i+1, "subscribe", fmt.Sprintf(`{"topic":%q,"after":0}`, topic)); err != nil {
			t.Fatal(err)
		}
	}
	read(overlapping, dialects()[1])
	publisher := open(t, s, rpcPath)
	bytes := publishMuch(t, publisher, n)
	readers.Wait()
	_ = publisher.Close()
	m := quiet(t, s)
	unharmed(t, m)

	var page struct {
		Topics []struct {
			Topic parley.Topic
			Count int
		}
	}
	if err := json.Unmarshal([]byte(get(t, s, "/v1/topics")), &page); err != nil {
		t.Fatal(err)
	}
	if len(page.Topics) != 1 || page.Topics[0].Topic != books || page.Topics[0].Count != 2*n {
		t.Errorf("the store has %+v, want %d messages of %s", page.Topics, 2*n, books)
	}
	for name, want := range map[string]int{
		"published_messages_total":   2 * n,
		"published_bytes_total":      bytes,
		"duplicate_messages_total":   n,
		"conflicting_messages_total": n,
		"invalid_messages_total":     n,
		"received_messages_total":    5 * n,
		"refused_messages_total":     0,
		"failed_messages_total":      0,
		// Each reader, the one with two subscriptions, and what of it went to
		// both.
		"delivered_messages_total":             single*2*n + 2*n + n,
		`sessions_closed_total{reason="lost"}`: single + 2,
	} {
		if got := int(m[name]); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
}

// count reads messages until there are n.
func count(p *peer, d dialect, n int) (got int, err error) {
	var messages []oracle.Message
	for ; got < n && err == nil; got += len(messages) {
		var text string
		if text, err = p.next(); err == nil {
			messages, err = d.messages(text)
		}
	}
	return got, err
}

// publishMuch publishes n messages to each of two topics, those of one a second
// time, which stores nothing, and as many with an id that another message has.
// It returns how many bytes of bodies were stored.
func publishMuch(t *testing.T, p *peer, n int) (bytes int) {
	t.Helper()
	if _, err := p.ask(0, "hello", `{"producer":"00000000000000000000000000000001"}`); err != nil {
		t.Fatal(err)
	}
	want := func(id int, code int, params string) {
		t.Helper()
		a, err := p.ask(id, "publish", params)
		if err != nil || a.ID != id || code == 0 && a.Error != nil || code != 0 && (a.Error == nil || a.Error.Code != code) {
			t.Fatalf("%s is answered by %+v, %v; want code %d", params, a, err, code)
		}
	}
	for i := range n {
		body := bodyOf(fmt.Sprint(i), 10+i%100)
		one := fmt.Sprintf(`{"topic":%q,"id":"a%d","text":%q}`, books, i, body)
		want(1, 0, one)
		want(2, 0, fmt.Sprintf(`{"messages":[{"topic":"%s/a","id":"b%d","text":%q}]}`, books, i, body))
		want(3, 0, one)
		want(4, -32004, fmt.Sprintf(`{"topic":%q,"id":"a%d","text":"another"}`, books, i))
		want(5, -32602, `{"topic":"books"}`)
		bytes += 2 * len(body)
	}
	return bytes
}
