package auth

import (
	"context"
	"strings"
	"time"

	"github.com/parley-im/parley"
	"github.com/parley-im/parley/internal/account"
)

// signIn tells who an ID token proves, which links its subject to a user, and
// issues a token of this server. The session is that token's, so revoking it ends
// both. But it counts as issued when the ID token was: one from before the user's
// credentials were revoked must not bring a new one.
func (a *Authenticator) signIn(ctx context.Context, c account.Credential, login *account.Login) (*account.Principal, error) {
	id, err := a.verifyID(ctx, c)
	if err != nil {
		return nil, err
	}
	device, err := sameDevice("", c.Device)
	if err != nil {
		return nil, err
	}
	profile := id.profile
	profile.Picture = a.pictures.fetch(ctx, id.picture)
	user, _, err := a.directory.Link(ctx, id.provider.cfg.Issuer, id.subject, profile)
	if err != nil {
		return nil, err
	}
	p := id.claims.principal()
	p.Identity = parley.Identity{User: user, Device: device}
	login.Profile = &profile
	if a.signer != nil {
		made, err := a.Issue(user, device, a.tokenTTL, nil)
		if err != nil {
			return nil, err
		}
		login.Token = made.Token
		p.Credential, p.Expires = "jwt:"+made.ID, made.Expires
	}
	return p, nil
}

// certify issues a client certificate for who has signed in.
func (a *Authenticator) certify(ctx context.Context, user string, login *account.Login) error {
	if a.ca == nil || !a.ca.Issues() {
		return errNone
	}
	made, err := a.ca.Issue(ctx, Request{User: user, TTL: a.certificateTTL, RSA: true, Now: a.now()})
	if err != nil {
		return err
	}
	if err := a.directory.RecordCertificate(ctx, made.Record); err != nil {
		return err
	}
	login.Certificate, login.Key = made.Certificate, made.Key
	return nil
}

// gallery fetches pictures, a few at once: who signs in must not make the server
// fetch without bound.
type gallery struct {
	out   *outbound
	turns chan struct{}
}

// Bounds of pictures.
const (
	maxPicture     = 256 << 10
	maxPictures    = 8 // at once
	pictureTimeout = 3 * time.Second
)

// newGallery makes one that only reaches the public Internet: where a picture is
// says a provider, but it is the user who told the provider.
func newGallery(r Reach) *gallery {
	r.Private = false
	return &gallery{out: newOutbound(r), turns: make(chan struct{}, maxPictures)}
}

// fetch returns the image at a URL, or nil: who signs in does so without one too.
func (g *gallery) fetch(ctx context.Context, at string) []byte {
	if at == "" {
		return nil
	}
	select {
	case g.turns <- struct{}{}:
		defer func() { <-g.turns }()
	default:
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, pictureTimeout)
	defer cancel()
	got, err := g.out.fetch(ctx, at, "image/*", maxPicture)
	if err != nil {
		return nil
	}
	kind, _, _ := strings.Cut(got.header.Get("Content-Type"), ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	// An SVG is a document with scripts.
	if !strings.HasPrefix(kind, "image/") || kind == "image/svg+xml" {
		return nil
	}
	return got.body
}
