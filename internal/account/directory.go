package account

import (
	"context"
	"iter"
	"log/slog"
	"time"

	"github.com/parley-im/parley/internal/backend"
	"github.com/parley-im/parley/internal/clock"
)

// Config says what a directory stands on.
type Config struct {
	// KV keeps the records.
	KV backend.KV
	// Clock judges what has expired.
	Clock  *clock.Clock
	Logger *slog.Logger
	// Grants are what every user has besides those of their record and of their
	// credential.
	Grants []Grant
	// Revoked is called after a revocation is durable, for the sessions that it
	// ends: match tells which, reason why. It must not block for long.
	Revoked func(match func(*Principal) bool, reason string)
	// Erase drops a deleted user's inbox, dead letters and cursors, and tells how
	// much that was.
	Erase func(ctx context.Context, user string) (Erased, error)
}

// Erased is what deleting a user removed of their messages.
type Erased struct {
	Messages, DeadLetters, Cursors int
}

// Directory is the users, with what proves who they are. Its methods may be
// called concurrently; what they did is durable when they return.
type Directory struct{ cfg Config }

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
	// NotBefore refuses credentials that were issued earlier.
	NotBefore time.Time
	Rev       uint64
}

// Device is one installation of a client.
type Device struct {
	Name     string // as from parley.ParseDevice
	Display  string
	Platform string
	Created  time.Time
	Seen     time.Time // when it last connected or left; to the minute
}

// Key is an API key, without its secret.
type Key struct {
	ID      string
	User    string // who it proves
	Note    string // what it is for
	Grants  []Grant
	Created time.Time
	Expires time.Time // zero is never
	Used    time.Time // when last, to the hour
}

// Removed is what deleting a user removed.
type Removed struct {
	Erased

	Devices, Keys, Certificates, Links int
}

// Open reads what is needed to answer quickly; call Run too.
func Open(ctx context.Context, cfg Config) (*Directory, error) { panic("not yet") }

// CreateUser makes a new user; the error wraps parley.ErrConflict when there is
// one of that name.
func (d *Directory) CreateUser(ctx context.Context, u User) (User, error) { panic("not yet") }

// User finds one; the error wraps parley.ErrNotFound.
func (d *Directory) User(ctx context.Context, name string) (User, error) { panic("not yet") }

// Users lists them by name, from the first after the given one.
func (d *Directory) Users(ctx context.Context, after string) iter.Seq2[User, error] {
	panic("not yet")
}

// ChangeUser lets change alter the record, again when somebody else did
// meanwhile. A change that suspends, or takes grants away, ends sessions.
func (d *Directory) ChangeUser(ctx context.Context, name string, change func(*User) error) (User, error) {
	panic("not yet")
}

// DeleteUser removes the user and everything of theirs.
func (d *Directory) DeleteUser(ctx context.Context, name string) (Removed, error) { panic("not yet") }

// ForgetDevice removes a device with its cursors and ends its sessions.
func (d *Directory) ForgetDevice(ctx context.Context, user, device string) error { panic("not yet") }

// Admit completes a principal whose credential was verified: it refuses the
// suspended and the revoked, adds the grants of the user's record and of every
// user, makes the record of a user or a device that is new, and notes that they
// were seen. The error wraps parley.ErrUnauthenticated and does not tell why.
func (d *Directory) Admit(ctx context.Context, p *Principal, c Credential) (*Principal, error) {
	panic("not yet")
}

// Link finds the user of an OpenID Connect subject, or makes one with a new
// name.
func (d *Directory) Link(ctx context.Context, issuer, subject string, p Profile) (user string, created bool, err error) {
	panic("not yet")
}

// CreateKey makes an API key and returns its secret, which is not kept.
func (d *Directory) CreateKey(ctx context.Context, k Key) (made Key, secret string, err error) {
	panic("not yet")
}

// Keys lists the keys of a user, or all when user is empty.
func (d *Directory) Keys(ctx context.Context, user string) iter.Seq2[Key, error] { panic("not yet") }

// RevokeKey ends a key and the sessions that it opened.
func (d *Directory) RevokeKey(ctx context.Context, id string) error { panic("not yet") }

// VerifyKey tells who a secret proves. It costs no more than a hash and a lookup.
func (d *Directory) VerifyKey(ctx context.Context, secret string) (*Principal, error) {
	panic("not yet")
}

// RevokeToken refuses the token with that jti until it would have expired.
func (d *Directory) RevokeToken(ctx context.Context, id string, until time.Time) error {
	panic("not yet")
}

// RevokeTokens refuses all credentials of a user that were issued until now.
func (d *Directory) RevokeTokens(ctx context.Context, user string) error { panic("not yet") }

// RecordCertificate notes a client certificate that was issued.
func (d *Directory) RecordCertificate(ctx context.Context, c CertificateRecord) error {
	panic("not yet")
}

// Certificates lists them, of a user or of all.
func (d *Directory) Certificates(ctx context.Context, user string) iter.Seq2[CertificateRecord, error] {
	panic("not yet")
}

// RevokeCertificate refuses the certificate with that serial from now on.
func (d *Directory) RevokeCertificate(ctx context.Context, serial string) error { panic("not yet") }

// CertificateRecord is a client certificate that this server's CA has issued.
type CertificateRecord struct {
	Serial  string // hexadecimal; it is the device too
	User    string
	Issued  time.Time
	Expires time.Time
	Revoked time.Time // zero: it is not
}

// Run forgets what has expired until ctx ends.
func (d *Directory) Run(ctx context.Context) error { panic("not yet") }
