package account

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/backend"
)

// The keys of records. A record that belongs to a user is claimed first: the
// empty record "owned/USER/KIND/ID" says that there may be one, so that a user's
// are found without reading everybody's. A claim without its record is what a
// crash left, and means nothing.
const (
	userKeys    = "user/"    // and the name
	apiKeys     = "key/"     // and the id
	certKeys    = "cert/"    // and the serial
	linkKeys    = "link/"    // and a hash of issuer and subject
	revokedKeys = "revoked/" // and a hash of the token's id
	goneKeys    = "gone/"    // and a hash of a deleted user's name
	ownedKeys   = "owned/"   // and the user, the kind, the id
)

// user is what the directory keeps of one. It is immutable once it is in the
// cache.
type user struct {
	User

	// deleting says that DeleteUser has begun.
	deleting bool
	// certificates that were issued earlier made room for newer ones.
	certificates time.Time
	size         int // of the record
}

// userRecord is how a user is kept.
type userRecord struct {
	Display      string         `json:"display,omitempty"`
	Email        string         `json:"email,omitempty"`
	Created      time.Time      `json:"created"`
	Suspended    bool           `json:"suspended,omitempty"`
	Deleting     bool           `json:"deleting,omitempty"`
	Grants       []string       `json:"grants,omitempty"`
	Devices      []deviceRecord `json:"devices,omitempty"`
	NotBefore    time.Time      `json:"not_before,omitzero"`
	Certificates time.Time      `json:"certificates_since,omitzero"`
	Quota        int64          `json:"quota,omitempty"`
}

type deviceRecord struct {
	Name     string    `json:"name"`
	Display  string    `json:"display,omitempty"`
	Platform string    `json:"platform,omitempty"`
	Created  time.Time `json:"created"`
	Seen     time.Time `json:"seen"`
}

func (u *user) encode() ([]byte, error) {
	r := userRecord{
		Display: u.Display, Email: u.Email, Created: u.Created, Suspended: u.Suspended, Deleting: u.deleting,
		Grants: FormatGrants(u.Grants), NotBefore: u.NotBefore, Certificates: u.certificates, Quota: u.Quota,
	}
	for _, v := range u.Devices {
		r.Devices = append(r.Devices, deviceRecord(v))
	}
	return json.Marshal(r)
}

func decodeUser(record backend.Record) (*user, error) {
	var r userRecord
	if err := decode(record, &r); err != nil {
		return nil, err
	}
	grants, err := ParseGrants(r.Grants)
	if err != nil {
		return nil, fmt.Errorf("account: record %q: %w", record.Key, err)
	}
	u := &user{
		User: User{
			Name: strings.TrimPrefix(record.Key, userKeys), Display: r.Display, Email: r.Email, Created: r.Created,
			Suspended: r.Suspended, Grants: grants, NotBefore: r.NotBefore, Quota: r.Quota, Rev: record.Rev,
		},
		deleting: r.Deleting, certificates: r.Certificates, size: len(record.Key) + len(record.Value),
	}
	for _, v := range r.Devices {
		u.Devices = append(u.Devices, Device(v))
	}
	return u, nil
}

// FormatGrants writes grants as ParseGrants reads them.
func FormatGrants(grants []Grant) []string {
	var texts []string
	for _, g := range grants {
		texts = append(texts, g.String())
	}
	return texts
}

// ParseGrants reads grants, each as ParseGrant does.
func ParseGrants(texts []string) ([]Grant, error) {
	var grants []Grant
	for _, text := range texts {
		g, err := ParseGrant(text)
		if err != nil {
			return nil, err
		}
		grants = append(grants, g)
	}
	return grants, nil
}

// checkGrants tells what is wrong with grants that are to be kept.
func checkGrants(grants []Grant) error {
	if len(grants) > MaxGrants {
		return fmt.Errorf("there are more than %d grants: %w", MaxGrants, parley.ErrInvalid)
	}
	for _, g := range grants {
		if g.Operations == 0 {
			return fmt.Errorf("a grant allows nothing: %w", parley.ErrInvalid)
		}
		if _, err := ParseGrant(g.String()); err != nil {
			return err
		}
	}
	return nil
}

// checkText tells what is wrong with a text for people.
func checkText(what, s string) error {
	if len(s) > MaxTextBytes || !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("the %s must be at most %d bytes of UTF-8 without control characters: %w", what, MaxTextBytes, parley.ErrInvalid)
	}
	return nil
}

// checkQuota tells what is wrong with a quota.
func checkQuota(n int64) error {
	if n < NoQuota || n > MaxQuota {
		return fmt.Errorf("a quota has at most %d bytes: %w", int64(MaxQuota), parley.ErrInvalid)
	}
	return nil
}

// clean makes a text for people of what a stranger says.
func clean(s string) string {
	if len(s) > 4*MaxTextBytes {
		s = s[:4*MaxTextBytes]
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return -1
		}
		return r
	}, s)
	for len(s) > MaxTextBytes {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

// fingerprint is a part of a key for what may be long, or must not be kept.
func fingerprint(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])
}
