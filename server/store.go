package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/backend/pebble"
	"github.com/parley-im/parley/internal/broker"
	"github.com/parley-im/parley/internal/clock"
)

var _ backend.KV = (*store)(nil)

// store is the open store, and where it is. As a log it is the DB; records are in
// the same one unless they are to be kept elsewhere.
type store struct {
	*pebble.DB
	dir     string     // of the log; empty in memory
	records *pebble.DB // the DB itself, or another one
}

// openStore opens the store that c describes: two when one of messages and
// records is kept in files, and the other in memory.
func openStore(c Storage, logger *slog.Logger, now *clock.Clock) (*store, error) {
	o := pebble.Options{Logger: logger, Reserve: c.Reserve, Now: now.Now, Past: now.Past, Payer: broker.Payer}
	db, err := openDB(c, c.Kind, o)
	if err != nil {
		return nil, err
	}
	s := &store{DB: db, records: db}
	if c.Kind == StorageFile {
		s.dir = c.Path
	}
	if c.Records != "" && c.Records != c.Kind {
		if s.records, err = openDB(c, c.Records, o); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	return s, nil
}

func openDB(c Storage, kind string, o pebble.Options) (*pebble.DB, error) {
	path := c.Path
	if kind == StorageMemory {
		o.Memory, path = true, "memory"
	}
	db, err := pebble.Open(path, o)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("server: %w; %s must belong to the user that the server runs as, %d here, with mode 0700: %w",
			err, c.Path, os.Getuid(), parley.ErrForbidden)
	}
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	return db, nil
}

// Close closes what is open.
func (s *store) Close() error {
	err := s.DB.Close()
	if s.records != s.DB {
		err = errors.Join(err, s.records.Close())
	}
	return err
}

// Get implements backend.KV.
func (s *store) Get(ctx context.Context, key string) (backend.Record, error) {
	return s.records.Get(ctx, key)
}

// Put implements backend.KV.
func (s *store) Put(ctx context.Context, r backend.Record) (uint64, error) {
	return s.records.Put(ctx, r)
}

// Delete implements backend.KV.
func (s *store) Delete(ctx context.Context, key string, rev uint64) error {
	return s.records.Delete(ctx, key, rev)
}

// Scan implements backend.KV.
func (s *store) Scan(ctx context.Context, prefix string) iter.Seq2[backend.Record, error] {
	return s.records.Scan(ctx, prefix)
}

// ScanAfter implements backend.Seeker.
func (s *store) ScanAfter(ctx context.Context, prefix, after string) iter.Seq2[backend.Record, error] {
	return s.records.ScanAfter(ctx, prefix, after)
}
