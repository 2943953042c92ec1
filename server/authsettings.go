package server

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/parley-im/parley/internal/auth"
)

// authSettings are about who clients are.
func authSettings() []Setting {
	return []Setting{
		list("jwt-key", "key that tokens (JWT) of others are checked with", tokenKey(),
			func(c *Config) *[]TokenKey { return &c.Auth.Keys }),
		list("jwks", "published keys (JWKS) that tokens of others are checked with", tokenKeySet(),
			func(c *Config) *[]TokenKeySet { return &c.Auth.KeySets }),
		list("oidc", "OpenID Connect provider whose ID tokens sign users in", signIn(),
			func(c *Config) *[]SignIn { return &c.Auth.SignIns }),
		list("google-client", "client id that ID tokens of Google may be for; with any, users sign in with Google", word("ID"),
			func(c *Config) *[]string { return &c.Auth.GoogleClients }),
		toggle("issuers-on-private-network", "let keys be fetched from this machine and from private networks, from the former without TLS too",
			func(c *Config) *bool { return &c.Auth.PrivateIssuers }),
		one("token-key", "file with the key for this server's own tokens, a secret of 32 bytes or more or an Ed25519 key in PEM, which others may not read; "+
			"empty is one that is made in the store's directory", file(),
			func(c *Config) *string { return &c.Auth.SigningKey }),
		one("token-ttl", "how long a token holds that is issued at a sign-in", duration(time.Minute, 3650*24*time.Hour),
			func(c *Config) *time.Duration { return &c.Auth.TokenTTL }),
		one("ca-dir", "directory of the certificate authority for client certificates, as \"parley ca init\" makes it", optional(path()),
			func(c *Config) *string { return &c.Auth.CA }),
		one("certificate-ttl", "how long a client certificate holds that is issued at a sign-in", duration(time.Minute, 3650*24*time.Hour),
			func(c *Config) *time.Duration { return &c.Auth.CertificateTTL }),
	}
}

// word is a text without spaces and commas.
func word(value string) kind[string] {
	return kind[string]{
		value: value, allowed: "a text without spaces and commas", format: asIs,
		parse: func(s string) (string, error) {
			if s == "" || strings.ContainsAny(s, " ,\t\r\n") {
				return "", errors.New("is none")
			}
			return s, nil
		},
	}
}

// pairs are the members of a value such as alg=HS256,file=/run/secret, by name, in
// the order in which they are written.
type pairs struct {
	names  []string
	values map[string][]string
}

func newPairs(names []string) pairs { return pairs{names: names, values: map[string][]string{}} }

// parsePairs reads members with these names, of which those in several may stand
// more than once.
func parsePairs(s string, names []string, several ...string) (pairs, error) {
	p := newPairs(names)
	for text := range strings.SplitSeq(s, ",") {
		name, value, found := strings.Cut(text, "=")
		switch {
		case !slices.Contains(names, name):
			return p, fmt.Errorf("has no member %.40q", name)
		case found == (name == "legacy") || found && value == "":
			return p, fmt.Errorf("has a member %s without a value, or with one that it does not take", name)
		case strings.ContainsAny(value, " \t\r\n"):
			return p, fmt.Errorf("has a space in its member %s", name)
		case len(p.values[name]) > 0 && !slices.Contains(several, name):
			return p, fmt.Errorf("has two members %s", name)
		}
		p.values[name] = append(p.values[name], value)
	}
	return p, nil
}

// get is the one value of a member, or empty.
func (p *pairs) get(name string) string {
	if v := p.values[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// add adds values that are not empty.
func (p *pairs) add(name string, values ...string) {
	for _, v := range values {
		if v != "" {
			p.values[name] = append(p.values[name], v)
		}
	}
}

// String is as parsePairs reads it.
func (p *pairs) String() string {
	var all []string
	for _, name := range p.names {
		for _, value := range p.values[name] {
			if name == "legacy" {
				all = append(all, name)
				continue
			}
			all = append(all, name+"="+value)
		}
	}
	return strings.Join(all, ",")
}

// ruleNames are the members of TokenRules.
func ruleNames() []string {
	return []string{"name", "alg", "iss", "aud", "user", "device", "grants"}
}

func rulesFrom(p *pairs) (TokenRules, error) {
	r := TokenRules{
		Name: p.get("name"), Algorithms: p.values["alg"], Issuers: p.values["iss"], Audiences: p.values["aud"],
		UserClaim: p.get("user"), DeviceClaim: p.get("device"), GrantsClaim: p.get("grants"), Legacy: len(p.values["legacy"]) > 0,
	}
	if err := knownAlgorithms(r.Algorithms); err != nil {
		return r, err
	}
	switch {
	case len(r.Algorithms) == 0:
		return r, errors.New("has no alg")
	case !r.Legacy && (len(r.Issuers) == 0 || len(r.Audiences) == 0):
		return r, errors.New("needs iss and aud")
	}
	return r, nil
}

func knownAlgorithms(algorithms []string) error {
	for _, a := range algorithms {
		if !slices.Contains(auth.Algorithms(), a) {
			return fmt.Errorf("has the unknown alg %.20q", a)
		}
	}
	return nil
}

func (r *TokenRules) addTo(p *pairs) {
	p.add("name", r.Name)
	p.add("alg", r.Algorithms...)
	p.add("iss", r.Issuers...)
	p.add("aud", r.Audiences...)
	p.add("user", r.UserClaim)
	p.add("device", r.DeviceClaim)
	p.add("grants", r.GrantsClaim)
	if r.Legacy {
		p.values["legacy"] = []string{""}
	}
}

// tokenKey is a key with a file or a variable that holds it.
func tokenKey() kind[TokenKey] {
	names := append(ruleNames(), "kid", "file", "env", "legacy")
	return kind[TokenKey]{
		value: "KEY",
		allowed: "alg=ALGORITHM, which may repeat for sizes of HMAC, with file=FILE or env=VARIABLE, iss=ISSUER and aud=AUDIENCE, which may repeat, joined by commas; " +
			"also kid=ID, name=NAME, user=CLAIM, device=CLAIM, grants=CLAIM; legacy instead of iss and aud accepts tokens without exp; " +
			"ALGORITHM is " + strings.Join(auth.Algorithms(), ", "),
		parse: func(s string) (TokenKey, error) {
			p, err := parsePairs(s, names, "alg", "iss", "aud")
			if err != nil {
				return TokenKey{}, err
			}
			k := TokenKey{ID: p.get("kid"), File: p.get("file"), Env: p.get("env")}
			if k.TokenRules, err = rulesFrom(&p); err != nil {
				return k, err
			}
			switch {
			case (k.File == "") == (k.Env == ""):
				return k, errors.New("needs either file or env")
			case strings.HasPrefix(k.Env, envPrefix):
				return k, errors.New("names a variable that begins with " + envPrefix + ", which are settings")
			}
			return k, nil
		},
		format: func(k TokenKey) string {
			p := newPairs(names)
			k.addTo(&p)
			p.add("kid", k.ID)
			p.add("file", k.File)
			p.add("env", k.Env)
			return p.String()
		},
	}
}

// tokenKeySet is an issuer with a URL of its keys.
func tokenKeySet() kind[TokenKeySet] {
	names := append(ruleNames(), "url")
	return kind[TokenKeySet]{
		value: "KEYS",
		allowed: "url=URL with https, alg=ALGORITHM, iss=ISSUER and aud=AUDIENCE, which may repeat, joined by commas; " +
			"also name=NAME, user=CLAIM, device=CLAIM, grants=CLAIM; ALGORITHM is RS256, ES256, EdDSA",
		parse: func(s string) (TokenKeySet, error) {
			p, err := parsePairs(s, names, "alg", "iss", "aud")
			if err != nil {
				return TokenKeySet{}, err
			}
			k := TokenKeySet{URL: p.get("url")}
			if k.TokenRules, err = rulesFrom(&p); err == nil && k.URL == "" {
				err = errors.New("has no url")
			}
			return k, err
		},
		format: func(k TokenKeySet) string {
			p := newPairs(names)
			k.addTo(&p)
			p.add("url", k.URL)
			return p.String()
		},
	}
}

// signIn is an OpenID Connect provider.
func signIn() kind[SignIn] {
	names := []string{"name", "iss", "aud", "alg", "jwks"}
	return kind[SignIn]{
		value: "PROVIDER",
		allowed: "name=NAME, iss=URL and aud=CLIENT-ID, which may repeat, joined by commas; also jwks=URL where the keys are, if the issuer does not say, " +
			"and alg=ALGORITHM, by default RS256 and ES256",
		parse: func(s string) (SignIn, error) {
			p, err := parsePairs(s, names, "aud", "alg")
			if err != nil {
				return SignIn{}, err
			}
			i := SignIn{Name: p.get("name"), Issuer: p.get("iss"), KeysURL: p.get("jwks"), Audiences: p.values["aud"], Algorithms: p.values["alg"]}
			if i.Name == "" || i.Issuer == "" || len(i.Audiences) == 0 {
				return i, errors.New("needs name, iss and aud")
			}
			return i, knownAlgorithms(i.Algorithms)
		},
		format: func(i SignIn) string {
			p := newPairs(names)
			p.add("name", i.Name)
			p.add("iss", i.Issuer)
			p.add("aud", i.Audiences...)
			p.add("alg", i.Algorithms...)
			p.add("jwks", i.KeysURL)
			return p.String()
		},
	}
}
