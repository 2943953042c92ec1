package auth_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/backend/pebble"
)

// newDirectory is an empty directory of users, in memory.
func newDirectory(t testing.TB) *account.Directory {
	t.Helper()
	db, err := pebble.Open("store", pebble.Options{FS: vfs.NewMem(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	d, err := account.Open(context.Background(), account.Config{
		KV: db, Clock: new(watch).clock(), Logger: slog.New(slog.DiscardHandler), Revoked: func(func(*account.Principal) bool, string) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// suspend suspends a user.
func suspend(t testing.TB, d *account.Directory, user string) {
	t.Helper()
	_, err := d.ChangeUser(t.Context(), user, func(u *account.User) error {
		u.Suspended = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// certificates are those that the directory has noted.
func certificates(t testing.TB, d *account.Directory) []account.CertificateRecord {
	t.Helper()
	var all []account.CertificateRecord
	var errs error
	for c, err := range d.Certificates(t.Context(), "", "") {
		all, errs = append(all, c), errors.Join(errs, err)
	}
	if errs != nil {
		t.Fatal(errs)
	}
	return all
}
