package account_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/internal/clock"
)

// world is a directory over a real store, a clock to set, and what was revoked.
type world struct {
	*account.Directory

	kv   *counted
	skew atomic.Int64 // of the clock

	mu      sync.Mutex
	revoked []revocation
}

type revocation struct {
	match  func(*account.Principal) bool
	reason string
}

// counted counts writes, and fails from one on.
type counted struct {
	backend.KV
	backend.Seeker

	reads  atomic.Int64
	writes atomic.Int64
	fail   atomic.Int64 // the number of the first write that is not done; 0 is none
}

var errCrash = errors.New("crashed")

func (c *counted) write() error {
	n, fail := c.writes.Add(1), c.fail.Load()
	if fail != 0 && n >= fail {
		return errCrash
	}
	return nil
}

func (c *counted) Get(ctx context.Context, key string) (backend.Record, error) {
	c.reads.Add(1)
	return c.KV.Get(ctx, key)
}

func (c *counted) Put(ctx context.Context, r backend.Record) (uint64, error) {
	if err := c.write(); err != nil {
		return 0, err
	}
	return c.KV.Put(ctx, r)
}

func (c *counted) Delete(ctx context.Context, key string, rev uint64) error {
	if err := c.write(); err != nil {
		return err
	}
	return c.KV.Delete(ctx, key, rev)
}

func openStore(t testing.TB, opt pebble.Options) *pebble.DB {
	t.Helper()
	opt.Logger = slog.New(slog.DiscardHandler)
	db, err := pebble.Open("store", opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// newWorld is a directory over a new store, or over db.
func newWorld(t testing.TB, db *pebble.DB, edit ...func(*account.Config)) *world {
	t.Helper()
	if db == nil {
		db = openStore(t, pebble.Options{Memory: true})
	}
	w := &world{kv: &counted{KV: db, Seeker: db}}
	cfg := account.Config{
		KV: w.kv, Logger: slog.New(slog.DiscardHandler),
		Clock: clock.New(clock.Options{
			Wall:    func() time.Time { return time.Now().Add(time.Duration(w.skew.Load())) },
			Elapsed: func() time.Duration { return time.Duration(time.Now().UnixNano() + w.skew.Load()) },
			Logger:  slog.New(slog.DiscardHandler),
		}),
		Revoked: func(match func(*account.Principal) bool, reason string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.revoked = append(w.revoked, revocation{match, reason})
		},
	}
	for _, f := range edit {
		f(&cfg)
	}
	d, err := account.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.Directory = d
	return w
}

// pass lets time pass.
func (w *world) pass(d time.Duration) { w.skew.Add(int64(d)) }

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.skew.Load())) }

// ended reports whether a revocation so far ends the session of p.
func (w *world) ended(p *account.Principal) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.revoked, func(r revocation) bool { return r.match(p) })
}

// token is what a verified JWT proves.
func (w *world) token(user, device, id string) *account.Principal {
	p := &account.Principal{Identity: parley.Identity{User: user, Device: device}, Issued: w.now()}
	if id != "" {
		p.Credential = "jwt:" + id
	}
	return p
}

func (w *world) admit(t testing.TB, p *account.Principal) *account.Principal {
	t.Helper()
	full, err := w.Admit(t.Context(), p, account.Credential{Kind: account.Token})
	if err != nil {
		t.Fatalf("%+v is refused: %v", p.Identity, err)
	}
	return full
}

func (w *world) refuse(t testing.TB, p *account.Principal) {
	t.Helper()
	full, err := w.Admit(t.Context(), p, account.Credential{Kind: account.Token})
	if full != nil || !errors.Is(err, parley.ErrUnauthenticated) {
		t.Errorf("%+v is answered by %v, %v, want ErrUnauthenticated", p.Identity, full, err)
	}
}

func grant(t testing.TB, text string) account.Grant {
	t.Helper()
	g, err := account.ParseGrant(text)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestUsers(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	made, err := w.CreateUser(ctx, account.User{Name: "Ann", Display: "Ann A.", Email: "ann@example.org", Grants: []account.Grant{grant(t, "publish:/orders/*")}})
	if err != nil || made.Name != "ann" || made.Rev == 0 || made.Created.IsZero() {
		t.Fatalf("made %+v, %v", made, err)
	}
	if _, err := w.CreateUser(ctx, account.User{Name: "ann"}); !errors.Is(err, parley.ErrConflict) {
		t.Errorf("making her again: %v", err)
	}
	for range 2 { // from memory, and from the record
		if got, err := w.User(ctx, "ANN"); err != nil || got.Display != "Ann A." || got.Email != "ann@example.org" || len(got.Grants) != 1 {
			t.Errorf("got %+v, %v", got, err)
		}
		w.Directory = newWorld(t, w.kv.KV.(*pebble.DB)).Directory
	}
	for _, name := range []string{"bob", "carol", "ann2", "äb"} {
		if _, err := w.CreateUser(ctx, account.User{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	for after, more := "", true; more; {
		more = false
		for u, err := range w.Users(ctx, after) {
			if err != nil {
				t.Fatal(err)
			}
			names, after, more = append(names, u.Name), u.Name, true
			break // a page of one
		}
	}
	if want := []string{"ann", "ann2", "bob", "carol", "äb"}; !slices.Equal(names, want) {
		t.Errorf("the users are %q, want %q", names, want)
	}
	if _, err := w.User(ctx, "nobody"); !errors.Is(err, parley.ErrNotFound) {
		t.Errorf("nobody is found: %v", err)
	}
	for _, bad := range []account.User{
		{Name: ""},
		{Name: "$x"},
		{Name: "a/b"},
		{Name: "x", Display: "\x00"},
		{Name: "x", Email: string(make([]byte, 300))},
		{Name: "x", Grants: make([]account.Grant, account.MaxGrants+1)},
		{Name: "x", Grants: []account.Grant{{Operations: account.Send, Pattern: "x"}}},
		{Name: "x", Grants: []account.Grant{{Pattern: "/x"}}},
	} {
		if _, err := w.CreateUser(ctx, bad); !errors.Is(err, parley.ErrInvalid) {
			t.Errorf("%.60v is answered by %v, want ErrInvalid", bad, err)
		}
	}
}

// TestChangesRace: of changes at the same time, through two directories over one
// store even, none is lost.
func TestChangesRace(t *testing.T) {
	w := newWorld(t, nil)
	other := newWorld(t, w.kv.KV.(*pebble.DB))
	if _, err := w.CreateUser(t.Context(), account.User{Name: "ann"}); err != nil {
		t.Fatal(err)
	}
	const each = 25
	var changing sync.WaitGroup
	for worker := range 4 {
		d := []*world{w, other}[worker%2]
		changing.Go(func() {
			for i := range each {
				g := account.Grant{Operations: account.Publish, Pattern: fmt.Sprintf("/%d/%d", worker, i)}
				for {
					_, err := d.ChangeUser(t.Context(), "ann", func(u *account.User) error {
						u.Grants = append(u.Grants, g)
						return nil
					})
					if err == nil {
						break
					}
					if !errors.Is(err, parley.ErrConflict) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	changing.Wait()
	fresh := newWorld(t, w.kv.KV.(*pebble.DB))
	u, err := fresh.User(t.Context(), "ann")
	if err != nil || len(u.Grants) != 4*each {
		t.Errorf("she has %d grants, want %d; %v", len(u.Grants), 4*each, err)
	}
}

// TestOneCreates: of several who make the same user, one does.
func TestOneCreates(t *testing.T) {
	w := newWorld(t, nil)
	var made atomic.Int64
	var creating sync.WaitGroup
	for range 16 {
		creating.Go(func() {
			_, err := w.CreateUser(t.Context(), account.User{Name: "ann"})
			switch {
			case err == nil:
				made.Add(1)
			case !errors.Is(err, parley.ErrConflict):
				t.Error(err)
			}
		})
	}
	creating.Wait()
	if made.Load() != 1 {
		t.Errorf("%d have made her", made.Load())
	}
}

// TestBounded: neither what is read nor what is pending grows with the number of
// users.
func TestBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("makes many users")
	}
	w := newWorld(t, nil)
	const users = account.CacheUsers + 2000
	var making sync.WaitGroup
	for part := range 16 {
		making.Go(func() {
			for i := part; i < users; i += 16 {
				w.admit(t, w.token(fmt.Sprint("u", i), "d", ""))
			}
		})
	}
	making.Wait()
	if n, bytes, _ := w.Cached(); n > account.CacheUsers || bytes > account.CacheBytes || n < account.CacheUsers/2 {
		t.Errorf("%d users of %d bytes are in memory, want at most %d and %d", n, bytes, account.CacheUsers, account.CacheBytes)
	}
	for i := range account.MostPending + 1000 {
		w.Left(parley.Identity{User: "u", Device: fmt.Sprint(i)})
	}
	if _, _, n := w.Cached(); n > account.MostPending {
		t.Errorf("%d devices are pending, want at most %d", n, account.MostPending)
	}
	w.Flush(t.Context())
	if _, _, n := w.Cached(); n != 0 {
		t.Errorf("%d devices are pending after they were written", n)
	}
}
