package account_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend/pebble"
)

// furnish makes a user with one or more of everything, and returns their name,
// a token's principal and a key's secret.
func furnish(t *testing.T, w *world) (name string, token *account.Principal, secret string) {
	t.Helper()
	ctx := t.Context()
	name, _, err := w.Link(ctx, "https://issuer.example", "1", account.Profile{Name: "Ann"})
	if err != nil {
		t.Fatal(err)
	}
	token = w.admit(t, w.token(name, "phone", "t"))
	w.admit(t, w.token(name, "tablet", ""))
	for range 3 {
		if _, secret, err = w.CreateKey(ctx, account.Key{User: name}); err != nil {
			t.Fatal(err)
		}
	}
	for _, serial := range []string{"a1", "a2"} {
		if err := w.RecordCertificate(ctx, account.CertificateRecord{Serial: serial, User: name, Issued: w.now(), Expires: w.now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	return name, token, secret
}

// eraser erases an inbox of ten messages, once.
func eraser(messages *int) func(*account.Config) {
	return func(c *account.Config) {
		c.Erase = func(context.Context, string) (account.Erased, error) {
			n := *messages
			*messages = 0
			return account.Erased{Messages: n}, nil
		}
	}
}

func TestDeleteUser(t *testing.T) {
	inbox := 10
	w := newWorld(t, nil, eraser(&inbox))
	ctx := t.Context()
	name, token, secret := furnish(t, w)
	removed, err := w.DeleteUser(ctx, name)
	if want := (account.Removed{Erased: account.Erased{Messages: 10}, Devices: 2, Keys: 3, Certificates: 2, Links: 1}); err != nil || removed != want {
		t.Errorf("removed %+v, %v, want %+v", removed, err, want)
	}
	if !w.ended(token) {
		t.Error("the session goes on")
	}
	for r := range w.kv.Scan(ctx, "") {
		if !strings.HasPrefix(r.Key, "gone/") || strings.Contains(r.Key+string(r.Value), name) {
			t.Errorf("there still is %s", r.Key)
		}
	}
	w.refuse(t, token)
	if _, err := w.VerifyKey(ctx, secret); !errors.Is(err, parley.ErrUnauthenticated) {
		t.Errorf("the key is answered by %v", err)
	}
	w.refuse(t, &account.Principal{Identity: parley.Identity{User: name}, Issued: token.Issued, Credential: "cert:a1"})
	if _, err := w.DeleteUser(ctx, name); !errors.Is(err, parley.ErrNotFound) {
		t.Errorf("deleting again: %v", err)
	}
	// Who gets the name later is somebody else.
	w.pass(time.Second)
	if _, err := w.CreateUser(ctx, account.User{Name: name}); err != nil {
		t.Fatal(err)
	}
	w.refuse(t, token)
	w.admit(t, w.token(name, "", ""))
	again, created, err := w.Link(ctx, "https://issuer.example", "1", account.Profile{})
	if err != nil || !created || again == name {
		t.Errorf("signing in again gives %s, %v, %v", again, created, err)
	}
}

// TestDeleteOfWhoHasNoRecord: messages may wait for somebody who never came.
func TestDeleteOfWhoHasNoRecord(t *testing.T) {
	inbox := 3
	w := newWorld(t, nil, eraser(&inbox))
	if removed, err := w.DeleteUser(t.Context(), "Nobody"); err != nil || removed.Messages != 3 {
		t.Errorf("removed %+v, %v", removed, err)
	}
	if _, err := w.DeleteUser(t.Context(), "nobody"); !errors.Is(err, parley.ErrNotFound) {
		t.Errorf("again: %v", err)
	}
}

// crashes runs do over a store that loses power before each of its writes in
// turn, and check over what is left of it, until do has come to its end.
func crashes(t *testing.T, prepare, do, check func(t *testing.T, w *world)) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for n := int64(1); ; n++ {
		fs := vfs.NewCrashableMem()
		inbox := 10
		w := newWorld(t, openStore(t, pebble.Options{FS: fs}), eraser(&inbox))
		prepare(t, w)
		before := w.kv.writes.Load()
		w.kv.fail.Store(before + n)
		do(t, w)
		crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
		check(t, newWorld(t, openStore(t, pebble.Options{FS: crashed}), eraser(&inbox)))
		if t.Failed() {
			t.Fatalf("after a crash before write %d", n)
		}
		if w.kv.writes.Load() < before+n {
			if n < 3 {
				t.Errorf("it has only %d writes: this shows nothing", n-1)
			}
			return
		}
	}
}

// TestDeleteUserCrash: whenever the power fails during a deletion, who is
// half deleted stays out, and deleting again removes the rest.
func TestDeleteUserCrash(t *testing.T) {
	var name, secret string
	var token *account.Principal
	begun := func(w *world) bool {
		for range w.kv.Scan(t.Context(), "gone/") {
			return true
		}
		return false
	}
	crashes(t,
		func(t *testing.T, w *world) { name, token, secret = furnish(t, w) },
		func(t *testing.T, w *world) {
			if _, err := w.DeleteUser(t.Context(), name); err != nil && !errors.Is(err, errCrash) {
				t.Errorf("deleting: %v", err)
			}
		},
		func(t *testing.T, w *world) {
			ctx := t.Context()
			u, err := w.User(ctx, name)
			if begun(w) && err == nil && u.Suspended {
				w.refuse(t, token)
				if p, err := w.VerifyKey(ctx, secret); err == nil {
					w.refuse(t, p)
				}
				if _, _, err := w.CreateKey(ctx, account.Key{User: name}); !errors.Is(err, parley.ErrConflict) {
					t.Errorf("a key for who is being deleted: %v", err)
				}
				if _, err := w.ChangeUser(ctx, name, func(u *account.User) error { u.Suspended = false; return nil }); !errors.Is(err, parley.ErrConflict) {
					t.Errorf("resuming who is being deleted: %v", err)
				}
			}
			if _, err := w.DeleteUser(ctx, name); err != nil && !errors.Is(err, parley.ErrNotFound) {
				t.Errorf("deleting again: %v", err)
			}
			for r := range w.kv.Scan(ctx, "") {
				if !strings.HasPrefix(r.Key, "gone/") {
					t.Errorf("there still is %s", r.Key)
				}
			}
		})
}

// TestCreateKeyCrash: a key whose making was broken off works or is not there,
// and leaves nothing.
func TestCreateKeyCrash(t *testing.T) {
	var secret string
	crashes(t, func(*testing.T, *world) { secret = "" },
		func(t *testing.T, w *world) {
			var err error
			if _, secret, err = w.CreateKey(t.Context(), account.Key{User: "ann"}); err != nil && !errors.Is(err, errCrash) {
				t.Errorf("making a key: %v", err)
			}
		},
		func(t *testing.T, w *world) {
			ctx := t.Context()
			n := 0
			for k, err := range w.Keys(ctx, "ann", "") {
				if err != nil {
					t.Error(err)
				}
				n++
				if secret != "" && !strings.Contains(secret, k.ID) {
					t.Errorf("there is another key %s", k.ID)
				}
			}
			if want := map[bool]int{true: 1}[secret != ""]; n != want {
				t.Errorf("there are %d keys, want %d", n, want)
			}
			if secret != "" {
				if _, err := w.VerifyKey(ctx, secret); err != nil {
					t.Errorf("a key that was told is answered by %v", err)
				}
			}
			w.pass(2 * time.Hour)
			if err := w.Sweep(ctx); err != nil {
				t.Error(err)
			}
			claims := 0
			for range w.kv.Scan(ctx, "owned/") {
				claims++
			}
			if claims != n {
				t.Errorf("there are %d claims of %d keys", claims, n)
			}
		})
}

// TestLinkCrash: a first sign-in that was broken off is the same user the next
// time.
func TestLinkCrash(t *testing.T) {
	crashes(t, func(*testing.T, *world) {},
		func(t *testing.T, w *world) {
			if _, _, err := w.Link(t.Context(), "i", "s", account.Profile{}); err != nil && !errors.Is(err, errCrash) {
				t.Error(err)
			}
		},
		func(t *testing.T, w *world) {
			name, _, err := w.Link(t.Context(), "i", "s", account.Profile{})
			if err != nil {
				t.Fatal(err)
			}
			if removed, err := w.DeleteUser(t.Context(), name); err != nil || removed.Links != 1 {
				t.Errorf("removed %+v, %v", removed, err)
			}
			for r := range w.kv.Scan(t.Context(), "") {
				if !strings.HasPrefix(r.Key, "gone/") {
					t.Errorf("there still is %s", r.Key)
				}
			}
		})
}

// TestExport: everything that is stored of a user, without secrets.
func TestExport(t *testing.T) {
	w := newWorld(t, nil, func(c *account.Config) {
		c.Export = func(_ context.Context, user string, w io.Writer) error {
			_, err := io.WriteString(w, `{"kind":"message","to":"`+user+`"}`+"\n")
			return err
		}
	})
	name, _, secret := furnish(t, w)
	var out strings.Builder
	if err := w.Export(t.Context(), name, &out); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for line := range strings.Lines(out.String()) {
		var v struct{ Kind string }
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		kinds = append(kinds, v.Kind)
	}
	want := []string{"user", "device", "device", "key", "key", "key", "certificate", "certificate", "link", "message"}
	if !slices.Equal(kinds, want) {
		t.Errorf("the kinds are %q, want %q", kinds, want)
	}
	if strings.Contains(out.String(), secret[30:]) || strings.Contains(out.String(), "sha256") {
		t.Error("it tells a secret")
	}
}
