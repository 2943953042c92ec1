package broker_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/internal/broker"
)

// TestLettersAcrossCrashes cuts the power of a store at random while three users
// write to each other, acknowledge and mark as read. What was acknowledged is
// there; a letter is there with the sender's copy or not at all; what is sent
// again is stored once, with the same seq (R5); and no receipt is there twice, or
// missing for what is marked as read.
func TestLettersAcrossCrashes(t *testing.T) {
	crashes := 12
	switch {
	case os.Getenv("PARLEY_SOAK") == "1":
		crashes = 2000
	case testing.Short():
		crashes = 5
	}
	p := newPost(t, func(db *pebble.DB) backend.Log { return db })
	for range crashes {
		p.run()
		for _, fault := range p.faults {
			t.Error(fault)
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d crashes, %d acknowledged, %d sent again, %d receipts", crashes, p.count.acked, p.count.again, p.count.receipts)
	if p.count.acked == 0 || p.count.again == 0 || p.count.receipts == 0 {
		t.Error("this run shows nothing")
	}
}

// TestSplitLettersAreNoticed: the same finds what is wrong where a letter and its
// copy are stored one after the other.
func TestSplitLettersAreNoticed(t *testing.T) {
	p := newPost(t, func(db *pebble.DB) backend.Log { return splitter{db} })
	p.unread = true
	for range 200 {
		if p.run(); len(p.faults) > 0 {
			return
		}
	}
	t.Error("not noticed in 200 crashes")
}

// splitter stores each entry by itself.
type splitter struct{ *pebble.DB }

func (s splitter) Append(ctx context.Context, entries []backend.Entry) ([]backend.Result, error) {
	var all []backend.Result
	for i := range entries {
		one, err := s.DB.Append(ctx, entries[i:i+1])
		if err != nil {
			return nil, err
		}
		all = append(all, one...)
	}
	return all, nil
}

// dispatch is one letter to one recipient.
type dispatch struct{ from, id, to string }

type post struct {
	t      *testing.T
	log    func(*pebble.DB) backend.Log
	seed   uint64
	unread bool     // nobody reads
	faults []string // what was found wrong; by whoever calls run only
	cycle  int
	fs     *vfs.MemFS
	count  struct{ acked, again, receipts int }

	mu     sync.Mutex // guards what follows
	sent   []*broker.Send
	acked  map[dispatch]parley.Seq
	marked map[string]parley.Seq
}

func newPost(t *testing.T, log func(*pebble.DB) backend.Log) *post {
	p := &post{t: t, log: log, seed: rand.Uint64()}
	t.Logf("seed %d", p.seed)
	return p
}

func (p *post) fault(format string, args ...any) {
	p.faults = append(p.faults, fmt.Sprintf(format, args...))
}

func (p *post) users() []string { return []string{"ann", "bob", "carol"} }

// run uses the store until the power fails, and looks at what is left.
func (p *post) run() {
	if p.cycle++; p.cycle%10 == 1 { // or the inboxes grow and grow
		p.fs = vfs.NewCrashableMem()
		p.sent, p.acked, p.marked = nil, map[dispatch]parley.Seq{}, map[string]parley.Seq{}
	}
	rnd := rand.New(rand.NewPCG(p.seed, uint64(p.cycle)))
	db, err := pebble.Open("store", pebble.Options{FS: p.fs, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		p.t.Fatal(err)
	}
	b := broker.New(broker.Config{Log: p.log(db), KV: db, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(p.t.Context())
	var running, using sync.WaitGroup
	running.Go(func() { _ = b.Run(ctx) })
	p.sendAgain(b, rnd)
	enough := make(chan struct{}, 1000)
	for i, name := range p.users() {
		r := rand.New(rand.NewPCG(p.seed^uint64(i+1), uint64(p.cycle)))
		reader := r.Uint64()
		using.Go(func() { p.write(ctx, b, name, r, enough) })
		if !p.unread {
			using.Go(func() { p.read(ctx, b, name, reader) })
		}
	}
	for range 10 + rnd.IntN(60) {
		<-enough
	}
	p.mu.Lock()
	acked, marked := maps.Clone(p.acked), maps.Clone(p.marked)
	crashed := p.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rnd.IntN(101), RNG: rnd})
	p.mu.Unlock()
	cancel()
	using.Wait()
	running.Wait()
	if err := db.Close(); err != nil {
		p.t.Error(err)
	}
	// What was answered after the power failed was never answered.
	p.fs, p.acked, p.marked = crashed, acked, marked
	p.check()
}

// write sends letters of one user until ctx ends.
func (p *post) write(ctx context.Context, b *broker.Broker, name string, rnd *rand.Rand, done chan<- struct{}) {
	for i := 0; ctx.Err() == nil; i++ {
		r := &broker.Send{}
		for j := range 1 + rnd.IntN(3) {
			l := letter(fmt.Sprintf("%d-%d-%d", p.cycle, i, j), "x", p.users()[rnd.IntN(3):]...)
			l.Receipts = rnd.IntN(2) == 0
			r.Letters = append(r.Letters, l)
		}
		p.mu.Lock()
		p.sent = append(p.sent, &broker.Send{Ref: name, Letters: append([]broker.Letter(nil), r.Letters...)})
		p.mu.Unlock()
		if b.Send(ctx, user(name, "phone"), r) != nil {
			return
		}
		p.note(name, r)
		select {
		case done <- struct{}{}:
		case <-ctx.Done():
		}
	}
}

// note notes what was answered.
func (p *post) note(name string, r *broker.Send) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range r.Letters {
		for k, to := range l.To {
			if l.Err != nil || l.Results[k].Err != nil {
				continue // the broker is stopping
			}
			p.acked[dispatch{name, l.Message.ID, to}] = l.Results[k].Seq
			p.count.acked++
		}
	}
}

// read acknowledges and marks what comes into one user's inbox.
func (p *post) read(ctx context.Context, b *broker.Broker, name string, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 0))
	c := connect(p.t, b, broker.SessionConfig{Principal: user(name, "phone")})
	defer c.Close()
	for ctx.Err() == nil {
		page, err := b.History(ctx, user(name, ""), backend.Query{Topic: parley.InboxTopic(name), Reverse: true, Limit: 10})
		if err != nil || len(page.Messages) == 0 {
			continue
		}
		if b.Delivered(ctx, name, page.Messages) != nil {
			continue
		}
		c.MarkRead(ctx, broker.MarkRead{Seq: page.Messages[rnd.IntN(len(page.Messages))].Seq})
		if m, ok := c.next().(*broker.ReadMarker); ok { //nolint:contextcheck // it waits for the answer, also when ctx has ended
			p.mu.Lock()
			p.marked[name] = m.Seq
			p.mu.Unlock()
		}
	}
}

// sendAgain repeats some of what was sent before the crash, answered or not.
func (p *post) sendAgain(b *broker.Broker, rnd *rand.Rand) {
	for range min(20, len(p.sent)) {
		old := p.sent[rnd.IntN(len(p.sent))]
		r := &broker.Send{Letters: append([]broker.Letter(nil), old.Letters...)}
		if err := b.Send(p.t.Context(), user(old.Ref, "phone"), r); err != nil {
			p.t.Fatal(err)
		}
		for _, l := range r.Letters {
			for k, to := range l.To {
				p.count.again++
				d := dispatch{old.Ref, l.Message.ID, to}
				if seq, known := p.acked[d]; l.Results[k].Err != nil || known && l.Results[k] != (broker.SendResult{Seq: seq, Duplicate: true}) {
					p.fault("R5, %v again: %+v, first %d", d, l.Results[k], seq)
				}
			}
		}
		p.note(old.Ref, r)
	}
}

// left is what one crash left.
type left struct {
	letters, copies map[dispatch]parley.Seq
	asked           map[string]map[parley.Seq]bool // by recipient
	receipts        map[string]int                 // by kind, recipient and seq
}

// check compares what the crash left with what was answered.
func (p *post) check() {
	db, err := pebble.Open("store", pebble.Options{FS: p.fs, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			p.t.Error(err)
		}
	}()
	l := left{map[dispatch]parley.Seq{}, map[dispatch]parley.Seq{}, map[string]map[parley.Seq]bool{}, map[string]int{}}
	for _, name := range p.users() {
		l.asked[name] = map[parley.Seq]bool{}
		for q := (backend.Query{Stream: parley.InboxTopic(name).Stream()}); ; {
			page, err := db.Read(p.t.Context(), q)
			if err != nil {
				p.t.Fatal(err)
			}
			for _, m := range page.Messages {
				p.sort(&l, name, m)
			}
			if q.After = page.Next; !page.More {
				break
			}
		}
	}
	for d, seq := range p.acked {
		if l.letters[d] != seq {
			p.fault("R1: %v was stored as %d, there is %d", d, seq, l.letters[d])
		}
	}
	for d := range l.letters {
		if _, ok := l.copies[d]; !ok && d.from != d.to {
			p.fault("%v has no copy", d)
		}
	}
	for d := range l.copies {
		if _, ok := l.letters[d]; !ok {
			p.fault("%v is there as a copy only", d)
		}
	}
	for r, n := range l.receipts {
		p.count.receipts++
		if n != 1 {
			p.fault("the receipt %s is there %d times", r, n)
		}
	}
	p.checkMarkers(db, l)
}

// sort puts a message where it belongs.
func (p *post) sort(l *left, owner string, m *parley.Message) {
	_, peer := m.Topic.Inbox()
	kind := broker.ReceiptOf(m)
	into, d := l.letters, dispatch{m.Sender.User, m.ID, owner}
	switch {
	case kind != broker.NoReceipt:
		l.receipts[fmt.Sprint(kind, peer, string(m.Body))]++
		return
	case m.Sender.User == owner && peer != owner:
		into, d = l.copies, dispatch{owner, m.ID, peer}
	case strings.HasSuffix(string(m.Topic), "/$asks"):
		l.asked[owner][m.Seq] = true
	}
	if into[d] != 0 {
		p.fault("R5: %v is there twice", d)
	}
	into[d] = m.Seq
}

// checkMarkers: markers never fall behind what was answered, and all that they
// have passed has its receipt.
func (p *post) checkMarkers(db *pebble.DB, l left) {
	for _, name := range p.users() {
		var at parley.Seq
		if record, err := db.Get(p.t.Context(), "inbox/"+name); err == nil {
			if _, err := fmt.Sscanf(string(record.Value), `{"read":%d}`, &at); err != nil {
				p.t.Error(err)
			}
		}
		if at < p.marked[name] {
			p.fault("%s marked %d, there is %d", name, p.marked[name], at)
		}
		for seq := range l.asked[name] {
			if seq <= at && l.receipts[fmt.Sprintf(`%d%s{"seq":%d}`, broker.Read, name, seq)] == 0 {
				p.fault("%s has read %d, and nobody was told", name, seq)
			}
		}
	}
}
