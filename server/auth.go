package server

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/auth"
)

// Auth says who is believed to be whom. As soon as it says who may issue a
// credential, everybody is asked for one.
type Auth struct {
	// Keys are those that tokens (JWT) of others are checked with.
	Keys []TokenKey
	// KeySets are published keys (JWKS) for the same.
	KeySets []TokenKeySet
	// SignIns are OpenID Connect providers.
	SignIns []SignIn
	// GoogleClients are the client ids that ID tokens of Google may be for;
	// without any nobody signs in with Google.
	GoogleClients []string
	// PrivateIssuers lets keys be fetched from this machine and from private
	// networks.
	PrivateIssuers bool
	// SigningKey is a file with the key that the server signs its own tokens
	// with: a secret of at least 32 bytes, or an Ed25519 key in PEM. Empty is a
	// key of its own in the store's directory.
	SigningKey string
	// TokenTTL and CertificateTTL are how long a token and a client certificate
	// hold that are issued when somebody signs in.
	TokenTTL, CertificateTTL time.Duration
	// CA is the directory of the server's own certificate authority; empty is
	// none, and no client certificate is accepted.
	CA string
}

// Configured reports whether somebody may issue credentials.
func (a *Auth) Configured() bool {
	return len(a.Keys) > 0 || len(a.KeySets) > 0 || len(a.SignIns) > 0 || len(a.GoogleClients) > 0 || a.CA != ""
}

// TokenKey is one key for tokens of others. Which tokens it accepts is as in
// TokenRules.
type TokenKey struct {
	// ID is the kid of its tokens; empty is any that no other key has.
	ID string
	// File is a PEM file with a public key, or one with a secret that others may
	// not read; Env the environment variable with a secret instead.
	File, Env string

	TokenRules
}

// TokenKeySet is the published keys of an issuer. Which tokens they accept is as
// in TokenRules.
type TokenKeySet struct {
	// URL is where they are, with https.
	URL string

	TokenRules
}

// TokenRules say what tokens must be like.
type TokenRules struct {
	// Name says in the log which this is; empty is the first issuer.
	Name string
	// Algorithms are those that tokens may have: HS256, HS384, HS512, RS256,
	// ES256 or EdDSA.
	Algorithms []string
	// Issuers and Audiences are accepted in iss and aud.
	Issuers, Audiences []string
	// UserClaim, DeviceClaim and GrantsClaim name the claims with the user ("sub"
	// when empty), the device and the grants (none when empty).
	UserClaim, DeviceClaim, GrantsClaim string
	// Legacy accepts tokens without exp, aud and iss.
	Legacy bool
}

// SignIn is an OpenID Connect provider.
type SignIn struct {
	// Name is what clients call it.
	Name string
	// Issuer is its identifier, a URL, which is also where it is asked for its
	// keys, unless KeysURL says where these are.
	Issuer, KeysURL string
	// Audiences are the client ids that its ID tokens may be for.
	Audiences []string
	// Algorithms are those that its tokens may have; none is RS256 and ES256.
	Algorithms []string
}

// authConfig translates the configuration, and reads the files that it names. The
// error wraps parley.ErrInvalid, and says nothing of what a secret is.
func (c *Config) authConfig(logger *slog.Logger) (auth.Config, error) {
	a := &c.Auth
	made := auth.Config{
		Logger: logger, Reach: auth.Reach{Private: a.PrivateIssuers},
		TokenTTL: a.TokenTTL, CertificateTTL: a.CertificateTTL,
	}
	for _, k := range a.Keys {
		key := auth.Key{Name: k.name(), ID: k.ID, Algorithms: k.Algorithms, Rules: k.rules()}
		if err := k.load(&key); err != nil {
			return made, fmt.Errorf("server: jwt-key %s: %w", k.name(), err)
		}
		made.Keys = append(made.Keys, key)
	}
	for _, k := range a.KeySets {
		made.Sets = append(made.Sets, auth.KeySet{Name: k.name(), URL: k.URL, Algorithms: k.Algorithms, Rules: k.rules()})
	}
	for _, p := range a.SignIns {
		made.Providers = append(made.Providers, auth.Provider{
			Name: p.Name, Issuer: p.Issuer, Audiences: p.Audiences, KeysURL: p.KeysURL, Algorithms: p.Algorithms,
		})
	}
	if len(a.GoogleClients) > 0 {
		made.Providers = append(made.Providers, auth.Google(a.GoogleClients))
	}
	if a.CA != "" {
		var err error
		if made.CA, err = auth.OpenCA(a.CA); err != nil {
			return made, fmt.Errorf("server: ca-dir: %w", invalid(err))
		}
	}
	return made, nil
}

// checkAuth finds what is wrong with the configured identities and the files that
// belong to them. It makes none.
func (c *Config) checkAuth() error {
	made, err := c.authConfig(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if c.Auth.SigningKey != "" {
		if made.Signer, err = c.signer(); err != nil {
			return err
		}
	}
	_, err = auth.New(made)
	return err
}

// signer is the key for tokens of this server. What is only in memory has one that
// does not outlive it.
func (c *Config) signer() (*auth.Signer, error) {
	switch {
	case c.Auth.SigningKey != "":
		text, err := auth.ReadSecretFile(c.Auth.SigningKey)
		if err != nil {
			return nil, fmt.Errorf("server: token-key: %w", invalid(err))
		}
		return auth.NewSigner(trimNewline(text), "")
	case c.inMemory():
		return auth.GenerateSigner("")
	}
	return auth.OpenSigner(c.Storage.Path, "")
}

// load reads the key.
func (k *TokenKey) load(key *auth.Key) error {
	secret := slices.ContainsFunc(k.Algorithms, func(a string) bool { return a[0] == 'H' })
	switch {
	case k.Env != "":
		value, ok := os.LookupEnv(k.Env)
		if !ok {
			return fmt.Errorf("there is no variable %s in the environment: %w", k.Env, parley.ErrInvalid)
		}
		if !secret {
			public, err := auth.ParsePublicKey([]byte(value))
			key.Public = public
			return err
		}
		key.Secret = []byte(value)
		return nil
	case secret:
		text, err := auth.ReadSecretFile(k.File)
		key.Secret = trimNewline(text)
		return invalid(err)
	}
	text, _, err := readFile(k.File)
	if err != nil {
		return invalid(err)
	}
	key.Public, err = auth.ParsePublicKey(text)
	return err
}

// invalid is an error of the configuration, whatever it was before.
func invalid(err error) error {
	if err == nil || errors.Is(err, parley.ErrInvalid) {
		return err
	}
	return fmt.Errorf("%w: %w", err, parley.ErrInvalid)
}

// trimNewline drops the line break that editors leave at the end.
func trimNewline(text []byte) []byte {
	if n := len(text); n > 0 && text[n-1] == '\n' {
		text = text[:n-1]
	}
	if n := len(text); n > 0 && text[n-1] == '\r' {
		text = text[:n-1]
	}
	return text
}

func (r *TokenRules) name() string {
	if r.Name == "" && len(r.Issuers) > 0 {
		return r.Issuers[0]
	}
	return r.Name
}

func (r *TokenRules) rules() auth.Rules {
	return auth.Rules{
		Issuers: r.Issuers, Audiences: r.Audiences, UserClaim: r.UserClaim, DeviceClaim: r.DeviceClaim, GrantsClaim: r.GrantsClaim, Legacy: r.Legacy,
	}
}
