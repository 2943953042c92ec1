package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/protocol/jsonrpc"
	"github.com/parley-im/parley/internal/units"
)

// Accounts is what the routes of users and credentials stand on.
type Accounts struct {
	// Directory has the records; nil leaves all these routes out.
	Directory *account.Directory
	// IssueToken makes a token, and IssueCertificate a client certificate, which
	// is recorded when it returns; nil leaves the route out. A request for too
	// much wraps parley.ErrInvalid.
	IssueToken       func(context.Context, TokenRequest) (Token, error)
	IssueCertificate func(context.Context, CertificateRequest) (IssuedCertificate, error)
}

// TokenRequest asks for a token. TTL is 0 where the client leaves it to the
// server.
type TokenRequest struct {
	User, Device string
	TTL          time.Duration
	Grants       []account.Grant
}

// Token is a new token. It is shown this once.
type Token struct {
	User   string `json:"user"`
	Device string `json:"device,omitempty"`
	// ID is its jti, by which it can be revoked.
	ID      string    `json:"id"`
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
	Token   string    `json:"token"`
}

// CertificateRequest asks for a client certificate. TTL is 0 where the client
// leaves it to the server.
type CertificateRequest struct {
	User string
	TTL  time.Duration
}

// IssuedCertificate is a new certificate. Its key is shown this once.
type IssuedCertificate struct {
	Certificate

	// PEM is the certificate with those of the authorities that made it, Key its
	// private key.
	PEM string `json:"pem"`
	Key string `json:"key"`
}

// Bounds of a list of users, keys or certificates.
const (
	accountsDefault = 100
	accountsMost    = 1_000
	accountBytes    = 128 << 10 // of a request's body: room for all grants
)

// readObject decodes the body of a request, strictly.
func readObject(a *API, w http.ResponseWriter, r *request, v any) error {
	if _, err := bodyType(r.Header.Get("Content-Type"), objectType); err != nil {
		return err
	}
	p, err := a.readBody(w, r.Request, accountBytes)
	if err != nil {
		return err
	}
	return jsonrpc.DecodeBody(p, v)
}

// grantList are grants as a body has them.
type grantList = jsonrpc.List[string]

func newGrantList() grantList { return grantList{Max: account.MaxGrants} }

// user is the user that the path names.
func (r *request) user() (string, error) { return parley.ParseUser(r.PathValue("user")) }

// endOf is when something ends that a body gives a time or a duration for; zero
// when it gives neither.
func endOf(expires *time.Time, ttl *string) (time.Time, error) {
	if expires != nil && ttl != nil {
		return time.Time{}, invalid("either expires or ttl")
	}
	if expires != nil {
		return expires.UTC().Truncate(time.Microsecond), nil
	}
	d, err := lifetime(ttl)
	if err != nil || d == 0 {
		return time.Time{}, err
	}
	return time.Now().Add(d).UTC().Truncate(time.Microsecond), nil
}

// lifetime is a duration that a body gives; 0 when it gives none.
func lifetime(ttl *string) (time.Duration, error) {
	if ttl == nil {
		return 0, nil
	}
	d, err := units.ParseDuration(*ttl)
	if err != nil || d < time.Second {
		return 0, invalid("ttl must be a duration of a second or more, such as 90s, 12h or 30d")
	}
	return d, nil
}

// wireTime is a time as it is written: none of the nanoseconds that a clock happens
// to have, and no zone.
func wireTime(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(time.Millisecond)
}

// take takes at most limit of what list yields; more says that there is another.
// Show makes of each what is answered.
func take[T, V any](list func(func(T, error) bool), limit int, show func(T) V) (items []V, more bool, err error) {
	items = []V{}
	for item, err := range list {
		if err != nil {
			return nil, false, err
		}
		if len(items) == limit {
			return items, true, nil
		}
		items = append(items, show(item))
	}
	return items, false, nil
}
