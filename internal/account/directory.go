package account

import (
	"context"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/clock"
)

// Config says what a directory stands on.
type Config struct {
	// KV keeps the records.
	KV backend.KV
	// Clock judges what has expired; nil is a clock of its own.
	Clock *clock.Clock
	// Logger is told what Run could not do; nil is slog.Default().
	Logger *slog.Logger
	// Grants are what every user has besides those of their record and of their
	// credential.
	Grants []Grant
	// Revoked is called after a revocation is durable, for the sessions that it
	// ends: match tells which, reason why. It must not block for long. Run calls
	// it again a few times within five seconds, for sessions that were on their
	// way when the revocation came.
	Revoked func(match func(*Principal) bool, reason string)
	// Meter makes the log count what users have stored. It is called before a user
	// gets a quota of their own, and may be when it counts already.
	Meter func(ctx context.Context) error
	// Erase drops a deleted user's inbox, dead letters and cursors, and tells how
	// much that was. It may be called again for one of whom nothing is left.
	Erase func(ctx context.Context, user string) (Erased, error)
	// EraseDevice drops the cursors of a forgotten device.
	EraseDevice func(ctx context.Context, user, device string) error
	// Export writes what is stored of a user's messages, cursors and marks, as
	// lines of JSON.
	Export func(ctx context.Context, user string, w io.Writer) error
}

// Erased is what deleting a user removed of their messages.
type Erased struct {
	Messages, DeadLetters, Cursors int
}

// Directory is the users, with what proves who they are. Its methods may be
// called concurrently; what they did is durable when they return. It believes
// that it alone writes its records, and keeps the newest used of them in memory,
// a bounded number.
type Directory struct {
	cfg     Config
	users   *cache
	pending pending
	endings endings
	revoked revocations

	// locks guard the records of users: each that of the users whose names have
	// its hash, and what they own. They are held over a write.
	locks [stripes]sync.Mutex
	seed  maphash.Seed
}

const stripes = 1024

// User is one user. A user who has authenticated has a record; names without one
// are not refused anywhere.
type User struct {
	Name    string // as from parley.ParseUser
	Display string
	Email   string
	Created time.Time
	// Suspended users can neither authenticate nor stay connected; what is sent to
	// them is kept.
	Suspended bool
	Grants    []Grant
	Devices   []Device
	// Quota is how many bytes the user may have stored: 0 is as many as everybody,
	// NoQuota without bound.
	Quota int64
	// NotBefore refuses credentials that were issued earlier.
	NotBefore time.Time
	// Rev grows with every change of the record.
	Rev uint64
}

// NoQuota is a User's Quota without bound, and MaxQuota the largest.
const (
	NoQuota  = -1
	MaxQuota = 1 << 50
)

// Device is one installation of a client.
type Device struct {
	Name     string // as from parley.ParseDevice
	Display  string
	Platform string
	Created  time.Time
	Seen     time.Time // when it last connected or left; to the minute
}

// Bounds of what one user has. Where a stranger can reach one by signing in, the
// oldest makes room; an operator gets an error.
const (
	MaxDevices      = 64
	MaxGrants       = 128 // of a user, and of a key
	MaxKeys         = 100
	MaxCertificates = 64
	MaxTextBytes    = 256 // a display name, a note, an e-mail address
)

// Removed is what deleting a user removed.
type Removed struct {
	Erased

	Devices, Keys, Certificates, Links int
}

// Open makes a directory over the records of cfg.KV; call Run too. It reads
// nothing yet, so that a million users cost a start nothing.
func Open(ctx context.Context, cfg Config) (*Directory, error) {
	if cfg.KV == nil {
		return nil, fmt.Errorf("account: a directory needs a KV: %w", parley.ErrInvalid)
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.New(clock.Options{})
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	d := &Directory{cfg: cfg, users: newCache(cacheUsers, cacheBytes), seed: maphash.MakeSeed()}
	d.pending.init()
	d.revoked = revocations{kv: cfg.KV, seed: d.seed, most: usualRevocations, hashes: map[uint64]struct{}{}}
	return d, ctx.Err()
}

// lock takes the lock of a user's records, and returns what gives it back.
func (d *Directory) lock(user string) (unlock func()) {
	l := &d.locks[maphash.String(d.seed, user)%stripes]
	l.Lock()
	return l.Unlock
}

// errNoUser does not tell the name, which may be a stranger's.
var errNoUser = fmt.Errorf("there is no such user: %w", parley.ErrNotFound)
