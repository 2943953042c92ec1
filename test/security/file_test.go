package security_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/server"
	"github.com/parley-im/parley/server/servertest"
)

// TestFilesAreOnesOwn (S25): nobody but who runs the server reads what it keeps, and
// a secret that others can read starts nothing.
func TestFilesAreOnesOwn(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	authority, ca := servertest.NewAuthority(t)
	w := newWorld(t, quiet, servertest.Dir(dir), servertest.WithDevastator(t, authority, ca))
	w.key(t, "ann", nil, "")
	w.token(t, "ann")
	const others = 0o077
	for _, place := range []string{dir, authority} {
		if info, err := os.Stat(place); err != nil || info.Mode().Perm()&others != 0 {
			t.Errorf("%s is %v, %v", place, info.Mode(), err)
		}
		err := filepath.WalkDir(place, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".key") {
				return err
			}
			info, err := d.Info()
			if err == nil && info.Mode().Perm()&others != 0 {
				t.Errorf("%s is %v", path, info.Mode())
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	w.Stop()
	keys, err := filepath.Glob(filepath.Join(authority, "*.key"))
	if err != nil || len(keys) == 0 {
		t.Fatalf("the CA has the keys %v, %v", keys, err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(tokenSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, open := range map[string]struct {
		file   string
		option servertest.Option
	}{
		"the CA's key": {keys[0], func(c *server.Config) { c.Auth.CA = authority }},
		"a secret for tokens": {secret, func(c *server.Config) {
			c.Auth.Keys = []server.TokenKey{{File: secret, TokenRules: server.TokenRules{Algorithms: []string{"HS256"}, Issuers: []string{"us"}, Audiences: []string{"us"}}}}
		}},
	} {
		for _, mode := range []fs.FileMode{0o604, 0o644, 0o666} {
			if err := os.Chmod(open.file, mode); err != nil {
				t.Fatal(err)
			}
			c := server.Default()
			c.HTTP.Listen, c.Storage.Kind = "127.0.0.1:0", server.StorageMemory
			quiet(&c)
			open.option(&c)
			if _, err := server.New(c); !errors.Is(err, parley.ErrInvalid) {
				t.Errorf("%s of mode %v: %v", name, mode, err)
			}
		}
		if err := os.Chmod(open.file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTokenIDsAreRandom (S19): nobody guesses the id of a token, or of a delivery.
func TestTokenIDsAreRandom(t *testing.T) {
	t.Parallel()
	w, _ := titanDialects(t, quiet)
	seen := map[string]bool{}
	for range 30 {
		var made struct{ ID string }
		if err := json.Unmarshal([]byte(w.ask(t, "POST /v1/users/ann/tokens", "", `{"ttl":"1h"}`).body), &made); err != nil {
			t.Fatal(err)
		}
		const digits = 22 // of 128 bits, in base64
		if len(made.ID) < digits || seen[made.ID[:8]] {
			t.Errorf("a token is called %q", made.ID)
		}
		seen[made.ID[:8]] = true
	}
}
