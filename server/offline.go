package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/internal/broker"
)

// What is said of backups and of stores that are not in use.
type (
	// Archive says what a backup is.
	Archive = pebble.Archive
	// Restored is what [RestoreStore] made.
	Restored = pebble.Restored
	// Report is what [CheckStore] found: its Faults are what is damaged.
	Report = pebble.Report
)

// backup writes an archive of the running server's store.
func (s *Server) backup(ctx context.Context, w io.Writer, rate int64) error {
	if s.store.dir == "" {
		return fmt.Errorf("the store is in memory, so there is nothing to back up: %w", parley.ErrInvalid)
	}
	_, err := s.store.Backup(ctx, w, pebble.BackupOptions{Version: version, Rate: rate})
	return err
}

// BackupStore writes an archive of the store in dir, which no server may be
// using, at most rate bytes a second; 0 is no bound. The error wraps
// parley.ErrUnavailable when the store is in use and parley.ErrNotFound when
// there is none.
func BackupStore(ctx context.Context, dir string, w io.Writer, rate int64) (Archive, error) {
	if _, err := os.Stat(filepath.Join(dir, "log")); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return Archive{}, fmt.Errorf("server: there is no store in %s: %w", dir, parley.ErrNotFound)
		}
		return Archive{}, fmt.Errorf("server: %w", err)
	}
	db, err := pebble.Open(dir, pebble.Options{Logger: stderr(), Payer: broker.Payer})
	if err != nil {
		return Archive{}, fmt.Errorf("server: %w", err)
	}
	archive, err := db.Backup(ctx, w, pebble.BackupOptions{Version: version, Rate: rate})
	return archive, errors.Join(err, db.Close())
}

// VerifyArchive reads a whole archive and says what it is, or why it cannot be
// restored.
func VerifyArchive(ctx context.Context, r io.Reader) (Archive, error) {
	return pebble.VerifyArchive(ctx, r)
}

// RestoreStore makes the store dir, which must not exist or be empty, from an
// archive. Dir is there when it is whole and was checked, and not before. The
// restored store goes on an hour past the clock, so that no seq that was given
// after the backup is given again.
func RestoreStore(ctx context.Context, r io.Reader, dir string) (Restored, error) {
	return pebble.Restore(ctx, r, dir, pebble.Options{Logger: stderr(), Payer: broker.Payer})
}

// stderr is where a store that no server runs says what went wrong, above all why
// it ends the process.
func stderr() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
}

// CheckStore verifies the store in dir, which no server may be using, and changes
// nothing. Progress may be nil; it is told how many bytes of how many have been
// read. The errors are as those of BackupStore; what is damaged is in the report.
func CheckStore(ctx context.Context, dir string, progress func(done, total int64)) (Report, error) {
	return pebble.Check(ctx, dir, pebble.CheckOptions{Progress: progress})
}
