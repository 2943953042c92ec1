package auth

import (
	"context"
	"crypto/x509"
)

// Dialable says whether an address is dialled.
func Dialable(address string, private bool) error { return dialable(address, private) }

// Fetch gets what is at a URL.
func Fetch(ctx context.Context, r Reach, at string) ([]byte, error) {
	o := newOutbound(r)
	defer o.close()
	got, err := o.fetch(ctx, at, "*/*", 1<<10)
	if err != nil {
		return nil, err
	}
	return got.body, nil
}

// ParseToken reads the form of a token.
func ParseToken(text string) error {
	_, err := parse(text)
	return err
}

// ParseSet reads a set of keys, and returns how many there are.
func ParseSet(text []byte) (int, error) {
	keys, err := parseSet(text)
	return len(keys), err
}

// FetchPicture fetches a picture as if this machine were the public Internet.
func FetchPicture(ctx context.Context, at string) []byte {
	g := newGallery(Reach{})
	g.out = newOutbound(Reach{Private: true})
	defer g.out.close()
	return g.fetch(ctx, at)
}

// Chain is the CA's own certificates.
func Chain(c *CA) []*x509.Certificate { return []*x509.Certificate{c.root, c.intermediate} }
