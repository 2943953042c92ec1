package auth

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/parley-im/parley"
)

// maxKeyFile bounds a file with a key or a certificate, in bytes.
const maxKeyFile = 64 << 10

// ReadSecretFile reads a small file that nobody but its owner and its group may
// read. The error wraps parley.ErrInvalid when others may, or it is too large.
func ReadSecretFile(name string) ([]byte, error) {
	text, err := readSmall(name)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	const open = 0o037
	if mode := info.Mode().Perm(); mode&open != 0 {
		return nil, fmt.Errorf("%s holds a secret and has mode %04o; allowed: 0600 or 0640: %w", name, mode, parley.ErrInvalid)
	}
	return text, nil
}

// readSmall reads a plain file.
func readSmall(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no plain file: %w", name, parley.ErrInvalid)
	}
	f, err := os.Open(name) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("%s has more than %d bytes: %w", name, maxKeyFile, parley.ErrInvalid)
	}
	return text, err
}

// createFile writes a new file, durably and whole: a crash leaves none. What is
// there already is never replaced.
func createFile(name string, text []byte, mode os.FileMode) error {
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // the name it was linked to stays
	_, err = f.Write(text)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), name); err != nil {
		return err
	}
	d, err := os.Open(dir) //nolint:gosec // as above
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
