package people_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/client"
)

// A letter is in one of three places: it waits for its device, or is among the
// dead letters, or is neither any more.
type place int

const (
	waits place = iota
	dead
	gone
)

// fates are where letters can be, by their ids: where the last answer has put
// them, and where what was not answered may have. Every answer and everything
// that is seen must fit.
type fates struct {
	t *testing.T

	mu      sync.Mutex // guards what follows
	places  map[string]map[place]bool
	version map[string]int // grows with what is learnt of a letter
	ops     atomic.Int64   // that were answered
}

// put says for sure where a letter is.
func (f *fates) put(id string, p place) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.putLocked(id, p)
}

func (f *fates) putLocked(id string, p place) {
	f.places[id] = map[place]bool{p: true}
	f.version[id]++
}

// seen is put for what was observed, which must have been possible.
func (f *fates) seen(id string, p place, where string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.places[id][p] {
		f.t.Errorf("%s is %s; its places were %v", id, where, slices.Sorted(maps.Keys(f.places[id])))
	}
	f.putLocked(id, p)
}

// move does what moves a letter to a place, which may or may not happen if that
// fails.
func (f *fates) move(id string, to place, do func() error) error {
	f.mu.Lock()
	f.places[id][to] = true
	f.version[id]++
	before := f.version[id]
	f.mu.Unlock()
	err := do()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && f.version[id] == before { // else somebody has seen more of it since
		f.putLocked(id, to)
	}
	f.ops.Add(1)
	return err
}

// deadLetters (R6): letters are acknowledged and refused for good, and dead letters
// are replayed and removed, while the program is killed again and again. What was
// answered holds; a letter is never both pending and dead, nor neither, and dead
// only once.
func deadLetters(t *testing.T) {
	lives := 6
	switch {
	case os.Getenv("PARLEY_SOAK") == "1":
		lives = 100
	case testing.Short():
		lives = 2
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 7))
	args := []string{"--log", "error"}
	s := newServer(t, args...)
	f := &fates{t: t, places: map[string]map[place]bool{}, version: map[string]int{}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(lives+10)*patience/10)
	defer cancel()
	for life := range lives {
		bob, err := client.Dial(ctx, "http://"+s.address, client.Options{User: "bob", Device: "pen"})
		if err != nil {
			t.Fatal(err)
		}
		var all []client.Letter
		for i := range 40 {
			all = append(all, client.Letter{To: []string{"ann"}, ID: fmt.Sprintf("letter-%d-%d", life, i), Body: []byte("x")})
		}
		if _, err := bob.SendAll(ctx, all); err != nil {
			t.Fatal(err)
		}
		_ = bob.Close()
		for _, l := range all {
			f.put(l.ID, waits)
		}
		alive, kill := context.WithCancel(ctx)
		var busy sync.WaitGroup
		busy.Go(func() { f.holds(alive, s, rand.New(rand.NewPCG(seed, uint64(life)))) })
		busy.Go(func() { f.operates(alive, s, rand.New(rand.NewPCG(uint64(life), seed))) })
		await(ctx, t, &f.ops, f.ops.Load()+5+rnd.Int64N(60))
		s.kill()
		kill()
		busy.Wait()
		s.start(args...)
		f.audit(ctx, s)
		if t.Failed() {
			return
		}
	}
	f.settle(ctx, s)
}

// holds is Ann's phone: it acknowledges some letters and refuses others, several
// at once.
func (f *fates) holds(ctx context.Context, s *server, rnd *rand.Rand) {
	c, err := client.Dial(ctx, "http://"+s.address, client.Options{User: "ann", Device: "phone"})
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	var answering sync.WaitGroup
	defer answering.Wait()
	for m, err := range c.Inbox(ctx) {
		if err != nil {
			continue
		}
		f.seen(m.ID, waits, "delivered")
		switch rnd.IntN(4) {
		case 0:
			answering.Go(func() { _ = f.move(m.ID, gone, func() error { return m.Ack(ctx) }) })
		case 1, 2:
			answering.Go(func() { _ = f.move(m.ID, dead, func() error { return m.Reject(ctx, "no use") }) })
		default: // it stays with the phone
		}
	}
}

// letter is a dead letter, as the API tells of it.
type letter struct {
	Seq     parley.Seq
	Name    string
	Message struct{ ID string }
}

// list reads all of Ann's dead letters.
func list(ctx context.Context, s *server) ([]letter, error) {
	var all []letter
	for after := parley.Seq(0); ; {
		var page struct {
			Letters []letter
			Next    json.Number
		}
		p, err := operate(ctx, s, http.MethodGet, fmt.Sprintf("/v1/dead-letters?owner=ann&after=%d", after))
		if err == nil {
			err = json.Unmarshal(p, &page)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, page.Letters...)
		if page.Next == "" || page.Next == "0" || len(page.Letters) == 0 {
			return all, nil
		}
		after = page.Letters[len(page.Letters)-1].Seq
	}
}

// errAnswer is an answer that is not a success.
var errAnswer = errors.New("the answer")

// operate asks for an operator's deed.
func operate(ctx context.Context, s *server, method, path string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+s.address+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	p, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%w to %s %s is %s %s", errAnswer, method, path, resp.Status, p)
	}
	return p, err
}

// operates is an operator, who has some dead letters delivered again and removes
// others.
func (f *fates) operates(ctx context.Context, s *server, rnd *rand.Rand) {
	for ctx.Err() == nil {
		all, err := list(ctx, s)
		if err != nil {
			return
		}
		for _, l := range all {
			f.seen(l.Message.ID, dead, "a dead letter")
			path := fmt.Sprintf("/v1/dead-letters/%d", l.Seq)
			switch rnd.IntN(4) {
			case 0:
				err = f.move(l.Message.ID, gone, func() error { _, err := operate(ctx, s, http.MethodDelete, path+"?owner=ann"); return err })
			case 1, 2:
				err = f.move(l.Message.ID, waits, func() error { _, err := operate(ctx, s, http.MethodPost, path+"/replay?owner=ann"); return err })
			}
			if errors.Is(err, errAnswer) {
				f.t.Errorf("%s: %v", l.Message.ID, err)
			}
			if err != nil {
				return
			}
		}
	}
}

// audit compares all dead letters with what is known, while nobody does anything.
func (f *fates) audit(ctx context.Context, s *server) {
	f.t.Helper()
	all, err := list(ctx, s)
	if err != nil {
		f.t.Error(err)
		return
	}
	there := map[string]bool{}
	for _, l := range all {
		if l.Name != "phone" || there[l.Message.ID] {
			f.t.Errorf("%+v is among the dead letters twice, or another's", l)
		}
		there[l.Message.ID] = true
		f.seen(l.Message.ID, dead, "a dead letter after the crash")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, places := range f.places {
		if !there[id] && len(places) == 1 && places[dead] {
			f.t.Errorf("%s is no dead letter after the crash", id)
		}
		if !there[id] {
			delete(places, dead)
		}
	}
}

// settle has the phone acknowledge all that waits for it, and expects that this
// is what is neither dead nor gone.
func (f *fates) settle(ctx context.Context, s *server) {
	f.t.Helper()
	c, err := client.Dial(ctx, "http://"+s.address, client.Options{User: "ann", Device: "phone"})
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for m, err := range c.Inbox(ctx, client.ReplayOnly()) {
		if err != nil {
			f.t.Fatal(err)
		}
		f.seen(m.ID, waits, "delivered in the end")
		if err := f.move(m.ID, gone, func() error { return m.Ack(ctx) }); err != nil {
			f.t.Error(err)
		}
	}
	f.mu.Lock()
	var left []string
	tally := map[place]int{}
	for id, places := range f.places {
		if places[waits] && !places[gone] {
			left = append(left, id)
		}
		for p := range places {
			tally[p]++
		}
	}
	f.mu.Unlock()
	if len(left) > 0 {
		f.t.Errorf("lost: %s", strings.Join(left, ", "))
	}
	f.audit(ctx, s)
	if f.t.Logf("%d letters, %d of them dead in the end, %d answers", len(f.places), tally[dead], f.ops.Load()); tally[dead] == 0 {
		f.t.Error("this run shows nothing")
	}
}
