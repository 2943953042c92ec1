package account_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend/pebble"
)

// TestAdmit: who is new gets a record; who is not costs no write, and when they
// were seen is known at once and written later.
func TestAdmit(t *testing.T) {
	everybody := account.Grant{Operations: account.Subscribe, Pattern: "/news/*"}
	w := newWorld(t, nil, func(c *account.Config) { c.Grants = []account.Grant{everybody} })
	ctx := t.Context()
	p := w.token("Ann", "", "1")
	p.Grants = []account.Grant{grant(t, "publish:/a")}
	full, err := w.Admit(ctx, p, account.Credential{Kind: account.Token, Device: "Phone", DeviceName: "Ann's \x00phone", Platform: "ios"})
	if err != nil {
		t.Fatal(err)
	}
	if want := (parley.Identity{User: "ann", Device: "Phone"}); full.Identity != want || full.Rev == 0 {
		t.Errorf("it is %+v of revision %d, want %+v", full.Identity, full.Rev, want)
	}
	if want := []account.Grant{p.Grants[0], everybody}; !slices.Equal(full.Grants, want) {
		t.Errorf("the grants are %v, want %v", full.Grants, want)
	}
	u, err := w.User(ctx, "ann")
	if err != nil || len(u.Devices) != 1 || u.Devices[0].Display != "Ann's phone" || u.Devices[0].Platform != "ios" {
		t.Fatalf("the record is %+v, %v", u, err)
	}
	before := w.kv.writes.Load()
	w.pass(5 * time.Minute)
	for range 100 {
		w.admit(t, w.token("ann", "Phone", "1"))
	}
	if n := w.kv.writes.Load() - before; n != 0 {
		t.Errorf("connecting 100 times again costs %d writes", n)
	}
	seen := func(w *world) time.Time {
		u, err := w.User(ctx, "ann")
		if err != nil {
			t.Fatal(err)
		}
		return u.Devices[0].Seen
	}
	if got, want := seen(w), w.now().Truncate(time.Minute); want.Sub(got) > time.Minute {
		t.Errorf("she was seen at %v, want %v", got, want)
	}
	w.Flush(ctx)
	if n := w.kv.writes.Load() - before; n != 1 {
		t.Errorf("writing that costs %d writes", n)
	}
	if got, want := seen(newWorld(t, w.kv.KV.(*pebble.DB))), seen(w); !got.Equal(want) {
		t.Errorf("the record says %v, want %v", got, want)
	}
}

// TestAdmitRefuses: whatever is the matter, the answer is the same.
func TestAdmitRefuses(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	old := w.token("ann", "phone", "old")
	stays := w.admit(t, old)
	w.pass(time.Second)

	if err := w.RevokeToken(ctx, "old", w.now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	w.refuse(t, old)
	if !w.ended(stays) {
		t.Error("the session goes on after its token was revoked")
	}
	other := w.admit(t, w.token("ann", "phone", "other"))
	if w.ended(other) {
		t.Error("another token's session ends too")
	}

	if err := w.RevokeTokens(ctx, "ann"); err != nil {
		t.Fatal(err)
	}
	w.refuse(t, other)
	if !w.ended(other) {
		t.Error("the session goes on after all tokens were revoked")
	}
	undated := w.token("ann", "phone", "")
	undated.Issued = time.Time{}
	w.refuse(t, undated)
	w.pass(time.Second)
	fresh := w.admit(t, w.token("ann", "phone", "fresh"))
	if w.ended(fresh) {
		t.Error("a session with a newer token ends")
	}

	for range 2 {
		if _, err := w.ChangeUser(ctx, "ann", func(u *account.User) error { u.Suspended = true; return nil }); err != nil {
			t.Fatal(err)
		}
		w.refuse(t, fresh)
		if !w.ended(fresh) {
			t.Error("the session of a suspended user goes on")
		}
		if _, err := w.ChangeUser(ctx, "ann", func(u *account.User) error { u.Suspended = false; return nil }); err != nil {
			t.Fatal(err)
		}
		if fresh = w.admit(t, fresh); w.ended(fresh) {
			t.Error("a session after the suspension ends")
		}
	}

	mismatch := account.Credential{Kind: account.Token, Device: "tablet"}
	if _, err := w.Admit(ctx, w.token("ann", "phone", ""), mismatch); !errors.Is(err, parley.ErrUnauthenticated) {
		t.Errorf("another device than the token's: %v", err)
	}
	bad := account.Credential{Kind: account.Token, Device: "a/b"}
	if _, err := w.Admit(ctx, w.token("ann", "", ""), bad); !errors.Is(err, parley.ErrInvalid) {
		t.Errorf("a device without a valid name: %v", err)
	}
	w.refuse(t, w.token("$x", "", ""))
}

// TestGrantsNarrowed: taking a grant away ends the sessions that had it, adding
// one ends none.
func TestGrantsNarrowed(t *testing.T) {
	w := newWorld(t, nil)
	p := w.admit(t, w.token("ann", "", ""))
	change := func(grants ...string) {
		t.Helper()
		list, err := account.ParseGrants(grants)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.ChangeUser(t.Context(), "ann", func(u *account.User) error { u.Grants = list; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	change("publish:/a")
	change("publish,history:/a", "send:/$inbox/*")
	if w.ended(p) {
		t.Error("more grants end the session")
	}
	p = w.admit(t, w.token("ann", "", ""))
	if err := p.Allow(account.History, "/a"); err != nil {
		t.Error(err)
	}
	change("history:/a", "send:/$inbox/*")
	if !w.ended(p) {
		t.Error("fewer grants leave the session")
	}
	if p = w.admit(t, w.token("ann", "", "")); w.ended(p) || p.Allow(account.Publish, "/a") == nil {
		t.Error("she is back, and may as much as before or is sent away again")
	}
}

// TestClaimsMakeNoRecord: a name that proves nothing fills no store, but who is
// suspended is refused.
func TestClaimsMakeNoRecord(t *testing.T) {
	w := newWorld(t, nil)
	ann := account.Anyone(parley.Identity{User: "ann", Device: "x"})
	if _, err := w.Admit(t.Context(), ann, account.Credential{Kind: account.Claim}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.User(t.Context(), "ann"); !errors.Is(err, parley.ErrNotFound) || w.kv.writes.Load() != 0 {
		t.Errorf("a claim has made a record: %v", err)
	}
	if _, err := w.CreateUser(t.Context(), account.User{Name: "ann", Suspended: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Admit(t.Context(), ann, account.Credential{Kind: account.Claim}); !errors.Is(err, parley.ErrUnauthenticated) {
		t.Errorf("a suspended user's name: %v", err)
	}
}

// TestDevicesAreBounded: the device that was not seen for the longest time makes
// room.
func TestDevicesAreBounded(t *testing.T) {
	w := newWorld(t, nil)
	for i := range account.MaxDevices {
		w.admit(t, w.token("ann", fmt.Sprint(i), ""))
		w.pass(time.Minute)
	}
	w.admit(t, w.token("ann", "0", ""))
	w.pass(time.Minute)
	w.admit(t, w.token("ann", "new", ""))
	u, err := w.User(t.Context(), "ann")
	if err != nil || len(u.Devices) != account.MaxDevices {
		t.Fatalf("%d devices, %v", len(u.Devices), err)
	}
	for name, want := range map[string]bool{"0": true, "1": false, "2": true, "new": true} {
		if slices.ContainsFunc(u.Devices, func(v account.Device) bool { return v.Name == name }) != want {
			t.Errorf("that device %s is there is not %v", name, want)
		}
	}
	forgot := ""
	w = newWorld(t, w.kv.KV.(*pebble.DB), func(c *account.Config) {
		c.EraseDevice = func(_ context.Context, user, device string) error { forgot = user + "/" + device; return nil }
	})
	p := w.admit(t, w.token("ann", "new", ""))
	if err := w.ForgetDevice(t.Context(), "ann", "new"); err != nil || forgot != "ann/new" || !w.ended(p) {
		t.Errorf("forgetting: %v, erased %q, ended %v", err, forgot, w.ended(p))
	}
	if err := w.ForgetDevice(t.Context(), "ann", "new"); !errors.Is(err, parley.ErrNotFound) {
		t.Errorf("forgetting again: %v", err)
	}
	if w.admit(t, p); w.ended(w.admit(t, p)) {
		t.Error("a device that came back is sent away")
	}
}

// TestRevocationsReachThoseOnTheirWay: who was admitted just before a revocation
// and has a session only after it was carried out is ended within five seconds
// (S4).
func TestRevocationsReachThoseOnTheirWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := openStore(t, pebble.Options{Memory: true})
		w := newWorld(t, db)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := w.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		p := w.admit(t, w.token("ann", "", "x"))
		if err := w.RevokeToken(ctx, "x", time.Time{}); err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		w.revoked = nil // no session was there yet
		w.mu.Unlock()
		<-time.After(2500 * time.Millisecond)
		if !w.ended(p) {
			t.Error("the session goes on")
		}
		w.mu.Lock()
		w.revoked = nil
		w.mu.Unlock()
		<-time.After(10 * time.Second)
		w.mu.Lock()
		if n := len(w.revoked); n > 2 {
			t.Errorf("it is repeated %d times more: for ever?", n)
		}
		w.mu.Unlock()
		stop()
		running.Wait()
	})
}

// TestRevocationsAreFound: whether they were made before the directory was opened or
// since, and however many there are; and who shows another token costs no read.
func TestRevocationsAreFound(t *testing.T) {
	for _, bound := range []int{1000, 3, 0} {
		t.Run(fmt.Sprint("bound ", bound), func(t *testing.T) {
			ctx := t.Context()
			before := newWorld(t, nil)
			revoke := func(w *world, first, last int) {
				for i := first; i <= last; i++ {
					if err := w.RevokeToken(ctx, fmt.Sprint(i), time.Time{}); err != nil {
						t.Fatal(err)
					}
				}
			}
			revoke(before, 1, 5)
			w := newWorld(t, before.kv.KV.(*pebble.DB))
			w.HoldRevocations(bound)
			revoke(w, 6, 7)
			w.refuse(t, w.token("ann", "", "3"))
			revoke(w, 8, 10)
			for i := range 12 {
				token := w.token("ann", "", fmt.Sprint(i))
				if revoked := i >= 1 && i <= 10; revoked {
					w.refuse(t, token)
				} else {
					w.admit(t, token)
				}
			}
			reads := w.kv.reads.Load()
			w.admit(t, w.token("ann", "", "another"))
			if n := w.kv.reads.Load() - reads; bound == 1000 && n != 0 {
				t.Errorf("that costs %d reads", n)
			}
		})
	}
}

// BenchmarkAdmit is what connecting costs the directory, once a token was
// verified: in memory, and when the record has to be read.
//
//	go test ./internal/account -run '^$' -bench Admit
func BenchmarkAdmit(b *testing.B) {
	for _, users := range []int{1000, 4 * account.CacheUsers} {
		b.Run(fmt.Sprint("users=", users), func(b *testing.B) {
			w := newWorld(b, nil)
			var making sync.WaitGroup
			for part := range 64 {
				making.Go(func() {
					for i := part; i < users; i += 64 {
						w.admit(b, w.token(fmt.Sprint("u", i), "phone", ""))
					}
				})
			}
			making.Wait()
			tokens := make([]*account.Principal, users)
			for i := range tokens {
				tokens[i] = w.token(fmt.Sprint("u", i), "phone", fmt.Sprint(i))
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				w.admit(b, tokens[i%users])
			}
		})
	}
}
