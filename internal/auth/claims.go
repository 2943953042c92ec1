package auth

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
)

// Limits of what claims hold.
const (
	maxAudiences = 16
	maxGrants    = account.MaxGrants
	maxIDBytes   = 128
)

// Leeway is how far the clock of who issued a token may be ahead of this
// machine's: nbf and iat may lie so far in the future. There is none for exp.
const Leeway = 10 * time.Second

// lastSecond is the end of the year 9999. What lies beyond is no time that
// anybody means, and would overflow somewhere.
const lastSecond = 253402300799

// Rules say what a token must say, and where.
type Rules struct {
	// Issuers are the accepted values of iss. Audiences are those of aud, of
	// which the token must name one. A key that is not Legacy needs both.
	Issuers, Audiences []string
	// UserClaim holds the user: "sub" when empty. DeviceClaim holds the device,
	// and GrantsClaim an array of grants or a text with spaces between them, as
	// account.ParseGrant reads; empty: tokens name none.
	UserClaim, DeviceClaim, GrantsClaim string
	// Legacy accepts tokens without exp, aud and iss. What they have is checked
	// all the same, but for an aud or iss that the rules do not name.
	Legacy bool
}

// claims are what a token says, after its signature was checked.
type claims struct {
	members         map[string]jsontext.Value
	user, device    string
	id              string // jti, or a fingerprint
	grants          []account.Grant
	issued, expires time.Time
}

// principal is who the claims are of.
func (c *claims) principal() *account.Principal {
	return &account.Principal{
		Identity:   parley.Identity{User: c.user, Device: c.device},
		Grants:     c.grants,
		Issued:     c.issued,
		Expires:    c.expires,
		Credential: "jwt:" + c.id,
	}
}

// read checks the claims of a token whose signature was checked.
func (r *Rules) read(t *token, now time.Time) (*claims, error) {
	members, err := object("payload", t.payload)
	if err != nil {
		return nil, err
	}
	c := &claims{members: members}
	if err := r.checkParties(members); err != nil {
		return nil, err
	}
	if err := r.readTimes(c, now); err != nil {
		return nil, err
	}
	if err := c.readID(t); err != nil {
		return nil, err
	}
	if r.DeviceClaim != "" {
		if c.device, err = optionalText(members, r.DeviceClaim); err != nil {
			return nil, err
		}
		if c.device != "" {
			if c.device, err = parley.ParseDevice(c.device); err != nil {
				return nil, refuse("the token's %s is no device's name", r.DeviceClaim)
			}
		}
	}
	return c, r.readGrants(c)
}

// readUser takes the user from the claim that names it.
func (r *Rules) readUser(c *claims) error {
	name := r.UserClaim
	if name == "" {
		name = "sub"
	}
	user, err := text1(c.members, name)
	if err != nil {
		return err
	}
	if c.user, err = parley.ParseUser(user); err != nil {
		return refuse("the token's %s is no user's name", name)
	}
	return nil
}

// checkParties checks who issued the token, and for whom.
func (r *Rules) checkParties(members map[string]jsontext.Value) error {
	issuer, err := optionalText(members, "iss")
	if err != nil {
		return err
	}
	audiences, err := texts(members, "aud", maxAudiences)
	if err != nil {
		return err
	}
	excused := r.Legacy && (issuer == "" || len(r.Issuers) == 0)
	if !excused && !slices.Contains(r.Issuers, issuer) {
		return refuse("the token's iss %.60q is not the issuer of its key", issuer)
	}
	if r.Legacy && (len(audiences) == 0 || len(r.Audiences) == 0) {
		return nil
	}
	if !slices.ContainsFunc(audiences, func(a string) bool { return slices.Contains(r.Audiences, a) }) {
		return refuse("the token's aud names none of the audiences of its key")
	}
	return nil
}

// readTimes checks that the token holds now.
func (r *Rules) readTimes(c *claims, now time.Time) error {
	expires, err := second(c.members, "exp")
	if err != nil {
		return err
	}
	if expires.IsZero() && !r.Legacy {
		return refuse("the token has no exp")
	}
	if !expires.IsZero() && !now.Before(expires) {
		return refuse("the token expired at %s", expires.Format(time.RFC3339))
	}
	notBefore, err := second(c.members, "nbf")
	if err != nil {
		return err
	}
	if notBefore.After(now.Add(Leeway)) {
		return refuse("the token does not hold before %s", notBefore.Format(time.RFC3339))
	}
	if c.issued, err = second(c.members, "iat"); err != nil {
		return err
	}
	if c.issued.IsZero() && r.Legacy {
		if c.issued, err = second(c.members, "created"); err != nil {
			return err
		}
	}
	// A token from the future would outlive the revocation of all that were
	// issued until now.
	if c.issued.After(now.Add(Leeway)) {
		return refuse("the token was issued in the future, at %s", c.issued.Format(time.RFC3339))
	}
	c.expires = expires
	return nil
}

// readID takes the token's id, by which it can be revoked.
func (c *claims) readID(t *token) error {
	id, err := optionalText(c.members, "jti")
	if err != nil {
		return err
	}
	if len(id) > maxIDBytes || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return refuse("the token's jti is not at most %d printable characters of ASCII", maxIDBytes)
	}
	if id == "" {
		id = t.fingerprint()
	}
	c.id = id
	return nil
}

// readGrants takes the grants from the claim that holds them. One that cannot be
// understood refuses the token: it may have been meant to narrow.
func (r *Rules) readGrants(c *claims) error {
	if r.GrantsClaim == "" {
		return nil
	}
	all, err := texts(c.members, r.GrantsClaim, maxGrants)
	if err != nil {
		return err
	}
	if len(all) == 1 {
		all = strings.Fields(all[0])
	}
	if len(all) > maxGrants {
		return refuse("the token's %s has more than %d entries", r.GrantsClaim, maxGrants)
	}
	for _, text := range all {
		g, err := account.ParseGrant(text)
		if err != nil {
			return refuse("the token's %s holds %.60q, which is no grant", r.GrantsClaim, text)
		}
		c.grants = append(c.grants, g)
	}
	return nil
}

// second is a member that is a moment in whole seconds; without it, the zero
// time.
func second(members map[string]jsontext.Value, name string) (time.Time, error) {
	value, ok := members[name]
	if !ok {
		return time.Time{}, nil
	}
	// ParseInt takes no fraction and no exponent, which would be another spelling
	// of a number, and no null.
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil || n <= 0 || n > lastSecond {
		return time.Time{}, refuse("the token's %s is not whole seconds since 1970", name)
	}
	return time.Unix(n, 0), nil
}
