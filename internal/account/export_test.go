package account

import (
	"context"

	"github.com/parley-im/parley/internal/backend"
)

// Flush writes what is pending now.
func (d *Directory) Flush(ctx context.Context) { d.flush(ctx) }

// Sweep removes what has ended now.
func (d *Directory) Sweep(ctx context.Context) error { return d.sweep(ctx) }

// HoldRevocations bounds how many revocations are known without a look at the
// store.
func (d *Directory) HoldRevocations(n int) { d.revoked.most = n }

// Cached is how much the directory keeps in memory.
func (d *Directory) Cached() (users, bytes, pending int) {
	d.users.mu.Lock()
	defer d.users.mu.Unlock()
	d.pending.mu.Lock()
	defer d.pending.mu.Unlock()
	return len(d.users.users), d.users.bytes, len(d.pending.devices) + len(d.pending.keys)
}

// The bounds of Cached.
const (
	CacheUsers  = cacheUsers
	CacheBytes  = cacheBytes
	MostPending = mostPending
)

// ReadUser decodes a user's record, and encodes what it says again.
func ReadUser(key string, value []byte) (User, []byte, error) {
	u, err := decodeUser(backend.Record{Key: key, Value: value})
	if err != nil {
		return User{}, nil, err
	}
	again, err := u.encode()
	return u.User, again, err
}
