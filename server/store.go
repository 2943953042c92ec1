package server

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend/pebble"
)

// store is the open store and where it is.
type store struct {
	*pebble.DB
	dir string // empty in memory
}

// openStore opens the store that c describes.
func openStore(c Storage, logger *slog.Logger) (*store, error) {
	o := pebble.Options{Logger: logger}
	if c.Kind == StorageMemory {
		o.Memory = true
		db, err := pebble.Open("memory", o)
		return &store{DB: db}, err
	}
	db, err := pebble.Open(c.Path, o)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("server: %w; %s must belong to the user that the server runs as, %d here, with mode 0700: %w",
			err, c.Path, os.Getuid(), parley.ErrForbidden)
	}
	if err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	return &store{DB: db, dir: c.Path}, nil
}
