package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
)

// Provider is an OpenID Connect issuer whose ID tokens sign users in.
type Provider struct {
	// Name is what clients call it, such as "google".
	Name string
	// Issuer is its identifier, an https URL without a slash at its end unless it
	// has one. Users are linked to it and their sub.
	Issuer string
	// Aliases are other values of iss that it uses.
	Aliases []string
	// Audiences are the client ids that its tokens may be for.
	Audiences []string
	// KeysURL is where its keys are; empty asks the issuer's discovery document.
	KeysURL string
	// Algorithms are those that its tokens may have; none is RS256 and ES256.
	Algorithms []string
}

// Google is Google as a provider, for those client ids.
func Google(clientIDs []string) Provider {
	return Provider{
		Name: "google", Issuer: "https://accounts.google.com", Aliases: []string{"accounts.google.com"}, Audiences: clientIDs,
		KeysURL: "https://www.googleapis.com/oauth2/v3/certs", Algorithms: []string{RS256},
	}
}

// provider is a Provider with its keys.
type provider struct {
	cfg  Provider
	keys *set
}

// newProvider checks the configuration.
func (a *Authenticator) newProvider(p Provider) (*provider, error) {
	if p.Name == "" || p.Issuer == "" {
		return nil, fmt.Errorf("auth: a provider has no name or no issuer: %w", parley.ErrInvalid)
	}
	if _, err := a.outbound.checkURL(p.Issuer); err != nil {
		return nil, fmt.Errorf("provider %q: %w", p.Name, err)
	}
	if len(p.Algorithms) == 0 {
		p.Algorithms = []string{RS256, ES256}
	}
	keys := KeySet{
		Name: p.Name, URL: p.KeysURL, Algorithms: p.Algorithms,
		Rules: Rules{Issuers: append([]string{p.Issuer}, p.Aliases...), Audiences: p.Audiences},
	}
	if err := keys.checkRest(); err != nil {
		return nil, err
	}
	made := &provider{cfg: p, keys: a.newSet(keys)}
	if p.KeysURL == "" {
		found := &discovery{issuer: p.Issuer, out: a.outbound}
		made.keys.locate = found.locate
	} else if err := keys.check(a.outbound); err != nil {
		return nil, err
	}
	return made, nil
}

// discovery finds out where an issuer has its keys.
type discovery struct {
	issuer string
	out    *outbound
}

const maxDocument = 64 << 10

// locate reads the issuer's document, each time anew: it may move its keys.
func (d *discovery) locate(ctx context.Context) (string, error) {
	got, err := d.out.fetch(ctx, strings.TrimSuffix(d.issuer, "/")+"/.well-known/openid-configuration", "application/json", maxDocument)
	if err != nil {
		return "", fmt.Errorf("discovery: %w", err)
	}
	var document struct {
		Issuer  string `json:"issuer"`
		KeysURL string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(got.body, &document); err != nil {
		return "", errors.New("discovery: the answer is no strict JSON")
	}
	if document.Issuer != d.issuer {
		return "", fmt.Errorf("discovery: the document is of the issuer %.200q", document.Issuer)
	}
	if _, err := d.out.checkURL(document.KeysURL); err != nil {
		return "", fmt.Errorf("discovery: %w", err)
	}
	return document.KeysURL, nil
}

// identity is what an ID token says.
type identity struct {
	provider *provider
	claims   *claims
	subject  string
	profile  account.Profile
	picture  string // URL
}

const maxSubject = 255 // OpenID Connect Core, section 2

// verifyID checks an ID token.
func (a *Authenticator) verifyID(ctx context.Context, c account.Credential) (*identity, error) {
	t, err := parse(c.Secret)
	if err != nil {
		return nil, err
	}
	var sets []*set
	for _, p := range a.providers {
		if c.Issuer == "" || c.Issuer == p.cfg.Name || c.Issuer == p.cfg.Issuer {
			sets = append(sets, p.keys)
		}
	}
	if len(sets) == 0 {
		return nil, refuse("there is no provider %.60q", c.Issuer)
	}
	v, by, err := a.judgeBySets(ctx, t, sets)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(a.providers, func(p *provider) bool { return p.keys == by })
	id := &identity{provider: a.providers[i], claims: v.claims}
	return id, id.read()
}

// read takes what the token says about the user.
func (id *identity) read() error {
	m := id.claims.members
	var err error
	if id.subject, err = text1(m, "sub"); err != nil {
		return err
	}
	if len(id.subject) > maxSubject {
		return refuse("the token's sub has more than %d bytes", maxSubject)
	}
	if id.claims.issued.IsZero() {
		return refuse("the token has no iat")
	}
	audiences, err := texts(m, "aud", maxAudiences)
	if err != nil {
		return err
	}
	// A token that is for others too must be for us first.
	if party, err := optionalText(m, "azp"); err != nil || len(audiences) > 1 && !slices.Contains(id.provider.cfg.Audiences, party) {
		return refuse("the token's azp is not one of the audiences")
	}
	if id.profile.Verified = truth(m["email_verified"]); id.profile.Verified {
		if id.profile.Email, err = short(m, "email"); err != nil {
			return err
		}
	}
	if id.profile.Name, err = short(m, "name"); err != nil {
		return err
	}
	id.picture, err = short(m, "picture")
	return err
}

// short is a text for people, or nothing when it is too long.
func short(m map[string]jsontext.Value, name string) (string, error) {
	const most = 1024
	s, err := optionalText(m, name)
	if len(s) > most {
		s = ""
	}
	return s, err
}

// truth reads a bool, which some providers write as a text.
func truth(v jsontext.Value) bool { return string(v) == "true" || string(v) == `"true"` }
