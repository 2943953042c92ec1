package auth

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
	"github.com/parley-im/parley/internal/clock"
)

// Config says which credentials are accepted. Only Directory and Clock are
// needed.
type Config struct {
	Directory *account.Directory
	Clock     *clock.Clock
	Logger    *slog.Logger
	// Keys, Sets and Providers are who may issue tokens; all together at most
	// MaxIssuers.
	Keys      []Key
	Sets      []KeySet
	Providers []Provider
	// Reach bounds where keys and pictures are fetched from.
	Reach Reach
	// Signer issues tokens, which are then accepted; nil issues none.
	Signer *Signer
	// TokenTTL is how long a token holds that is issued at a sign-in; 0 is 30
	// days.
	TokenTTL time.Duration
	// CA is whose client certificates are accepted; nil accepts none.
	CA *CA
	// CertificateTTL is how long a certificate holds that is issued at a sign-in;
	// 0 is 90 days.
	CertificateTTL time.Duration
	// CacheEntries bounds how many verified tokens are remembered; 0 is 100,000,
	// each of about a kilobyte.
	CacheEntries int
}

// MaxIssuers bounds the keys, key sets and providers, each of which may have to
// be tried for one token.
const MaxIssuers = 64

// What a zero in Config stands for.
const (
	usualTokenTTL       = 30 * 24 * time.Hour
	usualCertificateTTL = 90 * 24 * time.Hour
	usualCache          = 100_000
)

// Authenticator finds out who a credential proves. Its methods may be called
// concurrently.
type Authenticator struct {
	directory      *account.Directory
	clock          *clock.Clock
	logger         *slog.Logger
	ring           *ring
	sets           []*set
	providers      []*provider
	bell           bell // for the sets
	outbound       *outbound
	pictures       *gallery
	signer         *Signer
	ca             *CA
	tokenTTL       time.Duration
	certificateTTL time.Duration
	cache          *cache
}

// New checks the configuration. The error wraps parley.ErrInvalid. Keys that have
// to be fetched are fetched once Run is called.
func New(cfg Config) (*Authenticator, error) {
	if n := len(cfg.Keys) + len(cfg.Sets) + len(cfg.Providers); n > MaxIssuers {
		return nil, fmt.Errorf("auth: %d keys, key sets and providers are more than %d: %w", n, MaxIssuers, parley.ErrInvalid)
	}
	a := &Authenticator{
		directory: cfg.Directory, clock: cfg.Clock, logger: cfg.Logger,
		outbound: newOutbound(cfg.Reach), pictures: newGallery(cfg.Reach),
		signer: cfg.Signer, ca: cfg.CA,
		tokenTTL:       cmp.Or(cfg.TokenTTL, usualTokenTTL),
		certificateTTL: cmp.Or(cfg.CertificateTTL, usualCertificateTTL),
		cache:          newCache(cmp.Or(cfg.CacheEntries, usualCache)),
	}
	if a.logger == nil {
		a.logger = slog.New(slog.DiscardHandler)
	}
	keys := append([]Key(nil), cfg.Keys...)
	if a.signer != nil {
		keys = append(keys, a.signer.key())
	}
	var err error
	if a.ring, err = newRing(keys); err != nil {
		return nil, err
	}
	for _, k := range cfg.Sets {
		if err := k.check(a.outbound); err != nil {
			return nil, err
		}
		a.sets = append(a.sets, a.newSet(k))
	}
	for _, p := range cfg.Providers {
		made, err := a.newProvider(p)
		if err != nil {
			return nil, err
		}
		a.providers = append(a.providers, made)
	}
	return a, nil
}

// Run fetches keys until ctx ends. Without it no token is verified that needs
// one.
func (a *Authenticator) Run(ctx context.Context) error {
	var fetching sync.WaitGroup
	for _, s := range a.allSets() {
		fetching.Go(func() { s.run(ctx) })
	}
	<-ctx.Done()
	fetching.Wait()
	a.outbound.close()
	a.pictures.out.close()
	return nil
}

func (a *Authenticator) allSets() []*set {
	all := append([]*set(nil), a.sets...)
	for _, p := range a.providers {
		all = append(all, p.keys)
	}
	return all
}

// Verify finds out who a credential proves, and what they may do. It may wait, up
// to ten seconds, for keys that are being fetched, and after a sign-in for the
// user's picture. An error is an *Error, or one of the directory's that is not
// about the credential.
func (a *Authenticator) Verify(ctx context.Context, c account.Credential) (*account.Login, error) {
	var login account.Login
	var p *account.Principal
	var err error
	switch c.Kind {
	case account.Token:
		p, err = a.verifyToken(ctx, c)
	case account.IDToken:
		p, err = a.signIn(ctx, c, &login)
	case account.APIKey:
		p, err = a.verifyKey(ctx, c)
	case account.Claim:
		err = refuse("a name is not enough here")
	case account.Certificate:
		p, err = a.verifyCertificate(c)
	default:
		err = errNone
	}
	if err != nil {
		return nil, wrap(c.Kind, "", err)
	}
	if login.Principal, err = a.directory.Admit(ctx, p, c); err != nil {
		return nil, wrap(c.Kind, p.User, err)
	}
	if c.Kind == account.IDToken && c.WantCertificate {
		if err := a.certify(ctx, p.User, &login); err != nil {
			return nil, wrap(c.Kind, p.User, err)
		}
	}
	return &login, nil
}
